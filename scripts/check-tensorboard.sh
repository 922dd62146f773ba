#!/usr/bin/env bash
# Reads a run's event files with TensorBoard's own EventAccumulator: a run that is killed twice, while it trains and while it samples, has
# the curves of one that nobody disturbed, no step twice. TensorBoard goes into a virtual environment of its own in target/.
set -euo pipefail
cd "$(dirname "$0")/.."

source scripts/venv.sh
virtual_environment tensorboard tensorboard setuptools
cargo build --release -q -p exp-23-karras
exec "$venv/bin/python" scripts/check_tensorboard.py target/release/exp-23-karras
