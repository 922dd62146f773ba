#!/usr/bin/env bash
# Builds the experiments with CUDA, also on a machine without a GPU or its driver: they are linked against a library that has the driver's names
# and does nothing, and look for the real one, libcuda.so.1, where they run. The binaries and CUDA's libraries that they need go to
# target/cuda/carry: copy that folder to the machine with the GPU and run carry/exp-23-karras there. Options: the features, `cuda` or `cudnn`
# (which needs cuDNN installed); CUDA_COMPUTE_CAP is the GPU to build for (80 for an A100, 89 for an RTX 40, 90 for an H100).
set -euo pipefail
cd "$(dirname "$0")/.."
feature=${1:-cuda}
source scripts/cuda-compiler.sh

export CARGO_TARGET_DIR=target/cuda
links=$PWD/target/cuda/links
mkdir -p "$links"
# The names that cudarc asks the driver for.
bindings=$(cargo metadata --format-version 1 --features "exp-23-karras/cuda" |
    python3 -c 'import json, sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"))')
grep -rhoE '\bfn cu[A-Z][A-Za-z0-9_]*' "$(dirname "$bindings")/src/driver/sys" | sed 's/fn \(.*\)/int \1(void) { return 100; }/' |
    sort -u > "$links/driver.c"
cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$links/libcuda.so" "$links/driver.c"
# NVIDIA's Python packages have libcublas.so.13 and no libcublas.so, which a linker looks for.
for library in "$CUDA_LIBRARIES"/lib*.so.*; do
    name=$(basename "$library")
    ln -sf "$library" "$links/${name%%.so.*}.so"
done
export LIBRARY_PATH=$links${LIBRARY_PATH:+:$LIBRARY_PATH}
# Beside the binary, where carry/ is copied to.
export RUSTFLAGS="-L native=$links -C link-arg=-Wl,-rpath,\$ORIGIN"

cargo build --release -p 'exp-*' --features "exp-22-cosine/$feature,exp-22-noise-pred/$feature,exp-22-no-t/$feature,exp-23-karras/$feature,exp-design-space/$feature,exp-truncation/$feature"
rm -rf target/cuda/carry
mkdir target/cuda/carry
for program in target/cuda/release/exp-*; do
    case $program in *.d) continue ;; esac
    cp "$program" target/cuda/carry/
done
# What of CUDA a file names, and what that names; but for the driver's, which belongs to the machine.
carry_needed() {
    for name in $(readelf -d "$1" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p'); do
        if [ -e "$CUDA_LIBRARIES/$name" ] && [ ! -e "target/cuda/carry/$name" ]; then
            cp -L "$CUDA_LIBRARIES/$name" target/cuda/carry/
            carry_needed "$CUDA_LIBRARIES/$name"
        fi
    done
}
carry_needed target/cuda/carry/exp-23-karras
readelf -d target/cuda/carry/exp-23-karras | grep NEEDED
du -sh target/cuda/carry
