#!/usr/bin/env bash
# What somebody with a GPU runs once: the UNet against diffusers' outputs there, a smoke run of each experiment, the GPU's losses against the
# CPU's, rates of training and sampling of the lesson's UNet, and, with --whole, the lesson preset whole. Prints a table for docs/performance.md.
# Options: --device cpu does all of it on the CPU, to see that it works; --feature cudnn has cuDNN compute the convolutions; --whole.
# The words that features() gives are to be split.
# shellcheck disable=SC2046,SC2086
set -euo pipefail
cd "$(dirname "$0")/.."

device=cuda feature=cuda whole=
while [ $# -gt 0 ]; do
    case $1 in
    --device) device=$2 && shift ;;
    --feature) feature=$2 && shift ;;
    --whole) whole=yes ;;
    *) echo "error: $1 is not known: --device cuda or cpu, --feature cuda or cudnn, --whole" >&2 && exit 1 ;;
    esac
    shift
done
# The features of a package, for cargo: a word or none.
features() { [ "$device" = cpu ] || echo "--features=$1/$feature"; }
case $device in
cuda)
    name=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
    CUDA_COMPUTE_CAP=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
    export CUDA_COMPUTE_CAP
    seconds=20
    ;;
cpu)
    name="$(nproc) cores of $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)"
    seconds=5
    ;;
*) echo "error: --device $device: give cuda or cpu" >&2 && exit 1 ;;
esac
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

echo "== the UNet against diffusers, and candle's gradients"
cargo test --release -q -p elucidate-core $(features elucidate-core) --test unet -- --nocapture outputs_agree
cargo test --release -q -p elucidate-kernels $(features elucidate-kernels) --test gradients candles_gradients

echo "== a smoke run of each experiment"
programs="exp-22-cosine exp-22-noise-pred exp-22-no-t exp-23-karras exp-design-space exp-truncation"
for program in $programs; do
    cargo build --release -q -p "$program" $(features "$program")
    case $program in
    exp-22-no-t) more="--cosine $out/exp-22-cosine/model --noise-pred $out/exp-22-noise-pred/model" ;;
    exp-truncation) more="--checkpoint $out/exp-23-karras/model" ;;
    *) more= ;;
    esac
    start=$(date +%s)
    target/release/"$program" --preset smoke --device "$device" --out "$out/$program" $more >"$out/log" 2>&1 || {
        tail -n 5 "$out/log" >&2
        exit 1
    }
    echo "$program: $(($(date +%s) - start)) s"
done

echo "== the losses of 16 epochs there and on the CPU"
for place in there here; do
    on=$device
    [ $place = there ] || on=cpu
    target/release/exp-23-karras --preset smoke --epochs 16 --device "$on" --out "$out/loss-$place" --setting "heun steps=3" >"$out/log" 2>&1 || {
        tail -n 5 "$out/log" >&2
        exit 1
    }
done
python3 - "$out/loss-there/train.csv" "$out/loss-here/train.csv" <<'PYTHON'
import csv, sys

there, here = ([float(row["test_loss"]) for row in csv.DictReader(open(path))] for path in sys.argv[1:])
off = max(abs(a / b - 1) for a, b in zip(there, here))
print(f"largest relative difference of the test losses: {off:.1e} (the last: {there[-1]:.5f} and {here[-1]:.5f})")
# A training drifts where it differs in a last digit; this one is short.
sys.exit("error: the losses differ by more than 1 %" if off > 0.01 else 0)
PYTHON

echo "== rates of the lesson's UNet"
cargo build --release -q -p elucidate-lab $(features elucidate-lab) --example bench
rate() { target/release/examples/bench --preset lesson --device "$device" --seconds $seconds "$@" | tee -a "$out/rates" | sed -n 's/.*: \([0-9.]*\) images.*/\1/p'; }
training=$(rate --work train)
sampling=$(rate --work sample)

lesson=
if [ -n "$whole" ]; then
    echo "== the lesson preset whole"
    run=results/23_karras/lesson-$(date +%Y%m%d-%H%M%S)
    target/release/exp-23-karras --preset lesson --device "$device" --out "$run"
    lesson=$(python3 - "$run" <<'PYTHON'
import csv, json, sys
from pathlib import Path

run = Path(sys.argv[1])
last = list(csv.DictReader(open(run / "train.csv")))[-1]
rows = [row for row in csv.DictReader(open(run / "samples.csv")) if not row["sampler"].startswith("real")]
best = min(rows, key=lambda row: float(row["fid"]))
seconds = json.load(open(run / "run.json"))["seconds"]
print(f"{seconds['training']:.0f} s; test loss {float(last['test_loss']):.4f}; best FID {float(best['fid']):.1f}, {best['label']}")
PYTHON
    )
fi

echo
echo "| device | features | training, images/s | sampling, evaluations/s | the lesson preset: training |"
echo "| --- | --- | --- | --- | --- |"
echo "| $name | $([ "$device" = cpu ] && echo none || echo "$feature") | $training | $sampling | ${lesson:-not run} |"
