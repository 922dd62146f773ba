"""Compares this project with other software on inputs made afresh; `just check-references`.

Prints a line for each comparison and exits with 1 if a difference is beyond its bound.
"""

import argparse
import math
import pathlib
import random
import re
import subprocess
import sys
import tempfile

import numpy as np
import torch
from diffusers import UNet2DModel
from pytorch_fid.fid_score import calculate_frechet_distance
from safetensors.torch import load_file, save_file
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from k_diffusion_steps import SETTINGS, karras_sigmas, mixture, parse, step_by_step


class Check:
    """Runs the examples and judges differences."""

    def __init__(self, examples, folder):
        self.examples, self.folder = examples, folder
        self.comparisons = self.failures = 0

    def run(self, example, *arguments):
        command = [str(self.examples / example), *map(str, arguments)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def tensors(self, example, inputs, *arguments):
        """What an example makes of tensors."""
        source, result = self.folder / "in.safetensors", self.folder / "out.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in inputs.items()}, source)
        self.run(example, "--input", source, "--output", result, *arguments)
        return load_file(result)

    def judge(self, what, difference, bound, unit="largest relative difference"):
        """Says how large the difference is; NaN is too large."""
        good = difference <= bound
        self.comparisons += 1
        self.failures += not good
        line = f"{what}: {unit} {difference:.2g} (at most {bound:g}){'' if good else ': TOO LARGE'}"
        print(line.replace("e-0", "e-"), flush=True)


def relative(ours, theirs):
    """The largest difference, relative to the largest value."""
    assert ours.shape == theirs.shape, f"shape {tuple(ours.shape)} is not {tuple(theirs.shape)}"
    ours, theirs = ours.double(), theirs.double()
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def each_relative(ours, theirs):
    """The largest relative difference of any step."""
    return max(relative(a, b) for a, b in zip(ours, theirs, strict=True))


def features(n, d, shift, scale):
    """Correlated features (n, d) of decaying spread, f32."""
    mixing = torch.randn(d, d, generator=torch.Generator().manual_seed(d)) / math.sqrt(d)
    spread = torch.exp(-3 * torch.arange(d) / d)
    return scale * (torch.randn(n, d) * spread) @ mixing + 0.4 + shift


def score(check, real, fake, *arguments):
    """FID and KID of the example `score`."""
    files = {"real": real, "fake": fake}
    for name, tensor in files.items():
        save_file({"features": tensor}, check.folder / f"{name}.safetensors")
    options = [f"--{name}={check.folder / name}.safetensors" for name in files]
    return {name: float(value) for name, value in re.findall(r"(\w+)=(\S+)", check.run("score", *options, *arguments))}


def moments(x):
    """Mean and covariance."""
    x = x.double().numpy()
    return x.mean(0), np.cov(x, rowvar=False)


def check_fid(check):
    for n_real, n_fake, d in [(400, 300, 24), (200, 150, 256), (1500, 1200, 512)]:
        real, fake = features(n_real, d, 0, 1), features(n_fake, d, 0.1, 1.1)
        theirs = calculate_frechet_distance(*moments(real), *moments(fake))
        difference = abs(score(check, real, fake)["fid"] - theirs) / theirs
        check.judge(f"FID of {n_real} and {n_fake} samples of {d} features against pytorch-fid", difference, 1e-6)


def their_kid(real, fake, subsets, size):
    options = dict(kid_subsets=subsets, kid_subset_size=size, rng_seed=0, verbose=False)
    kid = kid_features_to_metric(real.double(), fake.double(), **options)
    return kid[KEY_METRIC_KID_MEAN], kid[KEY_METRIC_KID_STD]


def check_kid(check):
    for n, d in [(300, 24), (1000, 512)]:
        real, fake = features(n, d, 0, 1), features(n, d, 0.1, 1.1)
        theirs, _ = their_kid(real, fake, 2, n)
        ours = score(check, real, fake, "--subsets=2", f"--subset-size={n}")["kid"]
        what = f"KID of subsets of all {n} samples of {d} features against torch-fidelity"
        check.judge(what, abs(ours - theirs) / theirs, 1e-6)
    subsets, size = 400, 100
    real, fake = features(900, 64, 0, 1), features(700, 64, 0.1, 1.1)
    theirs, deviation = their_kid(real, fake, subsets, size)
    ours = score(check, real, fake, f"--subsets={subsets}", f"--subset-size={size}")["kid"]
    # Either is the average over draws of its own.
    error = deviation * math.sqrt(2 / subsets)
    what = f"KID of {subsets} subsets of {size}, drawn by each for itself, against torch-fidelity"
    check.judge(what, abs(ours - theirs) / error, 4, "difference in standard errors")


D, AD, U, AU = "DownBlock2D", "AttnDownBlock2D", "UpBlock2D", "AttnUpBlock2D"
UNETS = {
    "with attention": dict(
        in_channels=1, out_channels=1, block_out_channels=(16, 32, 64), norm_num_groups=8, layers_per_block=2,
        down_block_types=(D, AD, AD), up_block_types=(AU, AU, U)),
    "with attention, one block, three channels": dict(
        in_channels=3, out_channels=3, block_out_channels=(16, 32), norm_num_groups=4, layers_per_block=1,
        down_block_types=(AD, D), up_block_types=(U, AU), attention_head_dim=4),
    "without attention": dict(
        in_channels=1, out_channels=1, block_out_channels=(16, 32, 64), norm_num_groups=8, layers_per_block=1,
        down_block_types=(D, D, D), up_block_types=(U, U, U), add_attention=False),
}


@torch.no_grad()
def check_unet(check):
    for name, config in UNETS.items():
        model = UNet2DModel(**config).eval()
        # Norms and biases begin as ones and zeros, behind which mistakes would hide.
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
        folder = check.folder / "model"
        model.save_pretrained(folder)
        inputs = {"sample": torch.randn(4, config["in_channels"], 32, 32), "timestep": 1000 * torch.rand(4)}
        ours = check.tensors("unet_forward", inputs, "--model", folder)["out"]
        check.judge(f"UNet {name} against diffusers", relative(ours, model(**inputs).sample), 1e-3)


SCHEDULES = [
    dict(steps=18, rho=7.0, sigma_min=0.002, sigma_max=80.0),
    dict(steps=50, rho=7.0, sigma_min=0.01, sigma_max=80.0),
    dict(steps=10, rho=3.0, sigma_min=0.05, sigma_max=20.0),
    dict(steps=5, rho=1.0, sigma_min=0.1, sigma_max=5.0),
]
# The size of dpm_adaptive's step follows from a difference of nearly equal numbers, which magnifies rounding.
BOUNDS = {torch.float64: 1e-12, torch.float32: 1e-3}
BOUNDS_ADAPTIVE = {torch.float64: 1e-8, torch.float32: 3e-2}


def options(values):
    """As the command line has them."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]


def check_sampler(check, setting, schedule, data):
    """The largest differences of a sampler's steps from k-diffusion's, relative to the largest |x| of all, by dtype."""
    ranged = parse(setting)[0] in ("dpm_fast", "dpm_adaptive")
    x = schedule["sigma_max"] * torch.randn(4, 1, 5, 5, dtype=torch.float64)
    found = {}
    for dtype in BOUNDS:
        sigmas = karras_sigmas(**schedule, dtype=dtype)
        if ranged:
            sigmas = torch.tensor([schedule["sigma_max"], schedule["sigma_min"]], dtype=dtype)
        levels = ",".join(repr(sigma.double().item()) for sigma in sigmas)
        given = {"setting": setting, "sigmas": levels, **data, "seed": random.getrandbits(32)}
        ours = check.tensors("trace", {"x": x.to(dtype).double()}, *options(given))
        assert ours["out"].equal(ours["steps"][-1]), "the samples are not what is there after the last step"
        noise = iter(ours.get("noise", torch.empty(0)).to(dtype))
        theirs = step_by_step(setting, mixture(**data), x.to(dtype), sigmas, lambda: next(noise))
        found[dtype] = relative(ours["steps"], theirs)
    return found


def check_samplers(check):
    data = dict(mean=0.5, std=0.2)
    for schedule in SCHEDULES:
        steps = "{steps} steps, ρ {rho:g}, σ {sigma_max:g} to {sigma_min:g}".format(**schedule)
        setting = "euler " + " ".join(f"{name}={value}" for name, value in schedule.items())
        sigmas = check.tensors("trace", {"x": torch.zeros(1)}, "--setting", setting)["sigmas"]
        theirs = karras_sigmas(**schedule, dtype=torch.float64)
        # The last, 0, must be 0.
        differences = (sigmas - theirs).abs() / theirs.clamp(min=1e-300)
        check.judge(f"{steps}: the σ steps against k-diffusion", differences.max().item(), 1e-12)
    for setting in SETTINGS:
        adaptive = setting.startswith("dpm_adaptive")
        found = [check_sampler(check, setting, schedule, data) for schedule in SCHEDULES]
        for dtype, bound in (BOUNDS_ADAPTIVE if adaptive else BOUNDS).items():
            what = f"{setting} against k-diffusion in {str(dtype).removeprefix('torch.')}, every step"
            check.judge(what, max(largest[dtype] for largest in found), bound)


def check_optimiser(check):
    steps, shape, max_lr = 100, (40, 30), 1e-2
    for eps in (1e-5, 1e-8):
        parameters = torch.nn.Parameter(torch.randn(shape))
        # Gradients of all sizes.
        gradients = torch.randn(steps, *shape) * torch.exp(2 * torch.randn(shape))
        inputs = {"parameters": parameters.detach().clone(), "gradients": gradients}
        ours = check.tensors("adam_one_cycle", inputs, f"--max-lr={max_lr}", f"--eps={eps}")
        adam = torch.optim.Adam([parameters], lr=max_lr, eps=eps)
        cycle = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=max_lr, total_steps=steps)
        states, rates = [], []
        for gradient in gradients:
            parameters.grad = gradient
            group = adam.param_groups[0]
            rates.append([group["lr"], group["betas"][0]])
            adam.step()
            cycle.step()
            states.append(parameters.detach().clone())
        theirs = torch.tensor(rates, dtype=torch.float64)
        rates = torch.stack([ours["learning_rates"], ours["beta1"]], 1)
        difference = ((rates - theirs) / theirs).abs().max().item()
        check.judge(f"one cycle of {steps} steps: rates and β₁ against PyTorch", difference, 1e-5)
        what = f"Adam, {steps} steps in one cycle, ε {eps:g}, against PyTorch, every step"
        check.judge(what, each_relative(ours["parameters"], states), 1e-5)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=pathlib.Path, required=True, help="where the compiled examples are")
    parser.add_argument("--seed", type=int, help="of the inputs; another each time unless given")
    arguments = parser.parse_args()
    seed = random.getrandbits(32) if arguments.seed is None else arguments.seed
    print(f"inputs of seed {seed}", flush=True)
    random.seed(seed)
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        check = Check(arguments.examples, pathlib.Path(folder))
        for part in (check_fid, check_kid, check_unet, check_samplers, check_optimiser):
            part(check)
    print(f"{check.failures} of {check.comparisons} comparisons beyond their bounds")
    sys.exit(check.failures > 0)


if __name__ == "__main__":
    main()
