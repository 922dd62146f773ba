#!/usr/bin/env bash
# Makes the fixtures of the tests anew, with a virtual environment of its own in target/.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/venv.sh
virtual_environment fixtures torch torchvision diffusers numpy scipy safetensors tqdm torchdiffeq torchsde prdc
# Most of what k-diffusion asks for is for training.
"$venv/bin/pip" install -q --no-deps k-diffusion
for script in unet/make.py optim/make.py samplers/make.py make_fid_kid.py make_prdc.py; do
    "$venv/bin/python" "tests/fixtures/$script"
done
