#!/usr/bin/env bash
# Compiles the library crates with CUDA's kernels and checks the binaries, on a machine with or without a GPU. Uses the
# nvcc that is installed, or else NVIDIA's Python packages in a virtual environment of its own in target/. Only the last
# link of a binary would need the driver's library.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v nvcc >/dev/null; then
    venv=$PWD/target/cuda-venv
    if [ ! -x "$venv/bin/python" ]; then
        python3 -m venv "$venv"
    fi
    "$venv/bin/pip" install -q nvidia-cuda-nvcc nvidia-cuda-crt nvidia-cuda-cccl nvidia-cuda-runtime \
        nvidia-cuda-nvrtc nvidia-nvvm nvidia-cublas nvidia-curand
    nvcc=$(find "$venv" -path '*/bin/nvcc' -print -quit)
    root=$(dirname "$(dirname "$nvcc")")
    export CUDA_ROOT=$root CUDA_PATH=$root CUDA_HOME=$root
    export PATH=$root/bin:$PATH
    # The newest interface that cudarc knows; the compiler may be newer.
    export CUDARC_CUDA_VERSION=${CUDARC_CUDA_VERSION:-13010}
fi
# Without a GPU nothing says which one to compile for.
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}
nvcc --version | tail -n 2

export CARGO_TARGET_DIR=target/cuda
libraries=(-p elucidate-kernels -p elucidate-core -p elucidate-samplers -p elucidate-metrics -p elucidate-lab)
features=elucidate-kernels/cuda,elucidate-core/cuda,elucidate-samplers/cuda,elucidate-metrics/cuda,elucidate-lab/cuda
cargo check "${libraries[@]}" --lib --features "$features"
cargo check -p exp-23-karras --features cuda
echo "CUDA: the libraries and the binaries compile"
