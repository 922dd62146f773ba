#!/usr/bin/env bash
# Fetches Fashion-MNIST into data/fashion-mnist where it is nowhere on this machine: Debian's package where there is
# apt-get, else the Hugging Face hub.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -n "${FASHION_MNIST_DIR:-}" ] || [ -d data/fashion-mnist ] || [ -d /usr/share/datasets/fashion-mnist ]; then
    exit 0
fi

from_debian() {
    local package=dataset-fashion-mnist work
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    mkdir -p data
    # In the same file system, so that the last move is a rename.
    work=$(mktemp -d "$PWD/data/.fetch.XXXXXX")
    trap 'rm -rf "$work"' RETURN
    # A fresh machine may have no package lists yet; only root can fetch them.
    (cd "$work" && apt-get download -q "$package" 2>/dev/null) ||
        { apt-get update -q && (cd "$work" && apt-get download -q "$package"); } || return 1
    dpkg-deb -x "$work/$package"_*.deb "$work/unpacked" || return 1
    mv "$work/unpacked/usr/share/datasets/fashion-mnist" data/fashion-mnist
}

if from_debian; then
    echo "Fashion-MNIST is in data/fashion-mnist"
else
    echo "Debian's package dataset-fashion-mnist cannot be had here: fetching from the Hugging Face hub"
    cargo run --release -q -p elucidate-core --example fetch_data
fi
