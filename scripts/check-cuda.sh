#!/usr/bin/env bash
# Compiles the library crates with CUDA's kernels and checks the binaries, on a machine with or without a GPU. Only the last link of a binary
# needs the driver's library: scripts/build-cuda.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/cuda-compiler.sh

export CARGO_TARGET_DIR=target/cuda
libraries=(-p elucidate-kernels -p elucidate-core -p elucidate-samplers -p elucidate-metrics -p elucidate-lab)
features=elucidate-kernels/cuda,elucidate-core/cuda,elucidate-samplers/cuda,elucidate-metrics/cuda,elucidate-lab/cuda
cargo check "${libraries[@]}" --lib --features "$features"
cargo check -p exp-23-karras --features cuda
echo "CUDA: the libraries and the binaries compile"
