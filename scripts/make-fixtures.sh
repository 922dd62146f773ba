#!/usr/bin/env bash
# Makes the fixtures of the tests anew, with a virtual environment of its own in target/.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 -m venv target/fixtures-venv
target/fixtures-venv/bin/pip install -q torch diffusers numpy scipy safetensors
for script in tests/fixtures/unet/make.py tests/fixtures/optim/make.py tests/fixtures/make_fid_kid.py; do
    target/fixtures-venv/bin/python "$script"
done
