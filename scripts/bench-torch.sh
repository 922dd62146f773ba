#!/usr/bin/env bash
# Times training and sampling in alternation with PyTorch, on the lesson's UNet and on the quick preset's.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=target/torch-venv
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
fi
"$venv/bin/pip" install -q torch diffusers
cargo build --release -q -p elucidate-lab --example bench
for work in train sample; do
    "$venv/bin/python" scripts/bench_torch.py --bench target/release/examples/bench --work "$work" "$@"
done
