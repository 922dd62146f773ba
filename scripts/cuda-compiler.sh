# shellcheck shell=bash disable=SC2034  # CUDA_LIBRARIES is for who sources it
# Sourced: puts nvcc on the PATH, the one that is installed or else NVIDIA's Python packages in a virtual environment of its own in target/, and
# the folder of CUDA's libraries into CUDA_LIBRARIES.
if command -v nvcc >/dev/null; then
    CUDA_LIBRARIES=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")/lib64
else
    source scripts/venv.sh
    virtual_environment cuda nvidia-cuda-nvcc nvidia-cuda-crt nvidia-cuda-cccl nvidia-cuda-runtime \
        nvidia-cuda-nvrtc nvidia-nvvm nvidia-cublas nvidia-curand
    nvcc=$(find "$venv" -path '*/bin/nvcc' -print -quit)
    root=$(dirname "$(dirname "$nvcc")")
    export CUDA_ROOT=$root CUDA_PATH=$root CUDA_HOME=$root
    export PATH=$root/bin:$PATH
    CUDA_LIBRARIES=$root/lib
    # The newest interface that cudarc knows; the compiler may be newer.
    export CUDARC_CUDA_VERSION=${CUDARC_CUDA_VERSION:-13010}
fi
# Without a GPU nothing says which one to compile for.
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}
nvcc --version | tail -n 2
