"""Times PyTorch's training step and forward pass in alternation with ours, on the same networks; `just bench-torch`.

Options that are not its own choose the network and go to our benchmark as they are: --preset quick, --blocks 16,32,64 …

Each round times every contender once, in turn, so that a machine whose speed drifts treats all alike; the ratio of each
round is taken, and the median of those is printed. PyTorch runs channels-last with fused Adam and an average of the
weights, as ours has, eager and compiled, in f32 and under bfloat16 autocast; ours runs as its own process.
"""

import argparse
import copy
import json
import os
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel


def unet(settings):
    """The network that `elucidate_core::unet::UNet2DConfig::with_blocks` describes."""
    blocks, attention = settings["blocks"], settings["attention"]
    levels = range(len(blocks))
    return UNet2DModel(
        in_channels=1,
        out_channels=1,
        block_out_channels=blocks,
        layers_per_block=settings["layers_per_block"],
        norm_num_groups=8,
        down_block_types=["AttnDownBlock2D" if i in attention else "DownBlock2D" for i in levels],
        up_block_types=["AttnUpBlock2D" if i in attention else "UpBlock2D" for i in reversed(levels)],
        add_attention=bool(attention),
        attention_head_dim=settings["attention_head_dim"],
    )


class Torch:
    """Times PyTorch; made once, since compiling takes long."""

    def __init__(self, options, settings, compiled, bf16):
        self.name = f"PyTorch {'compiled' if compiled else 'eager'} {'bf16' if bf16 else 'f32'}"
        self.bf16 = bf16
        model = unet(settings).to(memory_format=torch.channels_last)
        self.parameters = list(model.parameters())
        self.average = [copy.deepcopy(p.data) for p in self.parameters]
        self.adam = torch.optim.Adam(self.parameters, lr=1e-4, eps=1e-5, fused=True)
        forward = lambda x, time: model(x, time, return_dict=False)[0]
        self.forward = torch.compile(forward) if compiled else forward
        self.image = torch.randn(options.batch_size, 1, 32, 32).contiguous(memory_format=torch.channels_last)
        self.time = torch.ones(options.batch_size)
        self.work = options.work

    def step(self):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            if self.work == "sample":
                with torch.no_grad():
                    self.forward(self.image, self.time)
                return
            loss = F.mse_loss(self.forward(self.image, self.time).float(), self.image)
        loss.backward()
        self.adam.step()
        self.adam.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters, 0.01)

    def rate(self, seconds):
        for _ in range(2):
            self.step()
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            self.step()
            steps += 1
        return steps * len(self.image) / (time.perf_counter() - start)


class Ours:
    """Times this project's example `bench`."""

    def __init__(self, options, candle_ops):
        self.name = "stock candle, batch 32" if candle_ops else "elucidate"
        # At 64 the lesson's step takes more than 20 GB with candle's ops.
        size = 32 if candle_ops else options.batch_size
        self.command = [*options.bench, f"--work={options.work}", f"--threads={options.threads}", f"--batch-size={size}"]
        if candle_ops:
            self.command.append("--candle-ops")

    def rate(self, seconds):
        line = subprocess.check_output([*self.command, f"--seconds={seconds}"], text=True)
        return float(line.split(":")[-1].split()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--bench", required=True, help="the compiled example `bench`")
    parser.add_argument("--work", choices=["train", "sample"], default="train")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each contender in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--candle", action="store_true", help="stock candle's ops too")
    parser.add_argument("--bf16", action="store_true", help="PyTorch's bfloat16 autocast too")
    options, network = parser.parse_known_args()
    options.bench = [options.bench, *network]
    settings = json.loads(subprocess.check_output([*options.bench, "--settings"]))
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    contenders = [Ours(options, candle_ops=False)]
    contenders += [Torch(options, settings, compiled, bf16=False) for compiled in (False, True)]
    if options.bf16:
        contenders += [Torch(options, settings, compiled, bf16=True) for compiled in (False, True)]
    if options.candle:
        contenders.append(Ours(options, candle_ops=True))
    for contender in contenders[1:]:
        if isinstance(contender, Torch):
            contender.step()  # compiles
    rates = {contender.name: [] for contender in contenders}
    for _ in range(options.rounds):
        for contender in contenders:
            rates[contender.name].append(contender.rate(options.seconds))
    blocks = "-".join(map(str, settings["blocks"]))
    print(f"{options.work}, UNet {blocks}, batch {options.batch_size}, {options.threads} threads")
    for name, values in rates.items():
        ratio = statistics.median(o / v for o, v in zip(rates["elucidate"], values))
        print(f"  {name:22} {statistics.median(values):8.1f} images/s   elucidate is {ratio:5.2f} times that")


if __name__ == "__main__":
    main()
