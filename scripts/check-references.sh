#!/usr/bin/env bash
# Compares FID, KID, the UNet, the samplers and the optimiser with other software, on inputs made afresh. That software
# goes into a virtual environment of its own in target/. Options: --seed N repeats a check.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/venv.sh
virtual_environment references torch torchvision diffusers numpy scipy safetensors tqdm pytorch-fid torch-fidelity torchdiffeq torchsde
# Most of what k-diffusion asks for is for training.
"$venv/bin/pip" install -q --no-deps k-diffusion
cargo build --release -q -p elucidate-core -p elucidate-metrics -p elucidate-samplers --examples
"$venv/bin/python" -W ignore scripts/check_references.py --examples target/release/examples "$@"
