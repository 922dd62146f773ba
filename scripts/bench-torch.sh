#!/usr/bin/env bash
# Times training and sampling in alternation with PyTorch: on the lesson's UNet and on the quick preset's, or on the one
# that the options name.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/venv.sh
virtual_environment torch torch diffusers
cargo build --release -q -p elucidate-lab --example bench
presets=(--preset=lesson --preset=quick)
case " $* " in *" --preset"* | *" --blocks"*) presets=("") ;; esac
for preset in "${presets[@]}"; do
    for work in train sample; do
        # shellcheck disable=SC2086 # an empty preset is no argument
        "$venv/bin/python" -W ignore scripts/bench_torch.py --bench target/release/examples/bench --work "$work" $preset "$@"
    done
done
