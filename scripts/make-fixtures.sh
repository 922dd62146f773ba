#!/usr/bin/env bash
# Makes the fixtures of the tests anew, with a virtual environment of its own in target/.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 -m venv target/fixtures-venv
target/fixtures-venv/bin/pip install -q torch torchvision diffusers numpy scipy safetensors tqdm torchdiffeq torchsde prdc
# Most of what k-diffusion asks for is for training.
target/fixtures-venv/bin/pip install -q --no-deps k-diffusion
for script in unet/make.py optim/make.py samplers/make.py make_fid_kid.py make_prdc.py; do
    target/fixtures-venv/bin/python "tests/fixtures/$script"
done
