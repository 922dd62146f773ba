#!/usr/bin/env bash
# Times the kernels shape by shape, then training steps and sampling of the lesson's UNet and of the quick preset's with
# each kernel's share; with options, only the UNet that they name.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release -q -p elucidate-lab --example bench
bench=target/release/examples/bench
if [ $# -gt 0 ]; then
    "$bench" --work train "$@"
    "$bench" --work sample "$@"
    exit
fi
cargo bench -q -p elucidate-kernels --bench kernels
for preset in lesson quick; do
    for work in train sample; do
        "$bench" --preset "$preset" --batch-size 64 --work "$work"
        "$bench" --preset "$preset" --batch-size 64 --work "$work" --shares
    done
done
