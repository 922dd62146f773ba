#!/usr/bin/env bash
# Fetches Fashion-MNIST into data/fashion-mnist where it is nowhere on this machine: Debian's package where there is
# apt-get, else the publisher's four files, else the Hugging Face hub. FASHION_MNIST_URL names another place of the four.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -n "${FASHION_MNIST_DIR:-}" ] || [ -d data/fashion-mnist ] || [ -d /usr/share/datasets/fashion-mnist ]; then
    exit 0
fi
url=${FASHION_MNIST_URL:-http://fashion-mnist.s3-website.eu-central-1.amazonaws.com}

mkdir -p data
# In the same file system, so that the last move is a rename.
work=$(mktemp -d "$PWD/data/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT

from_debian() {
    local package=dataset-fashion-mnist
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    # A fresh machine may have no package lists yet; only root can fetch them.
    (cd "$work" && apt-get download -q "$package" 2>/dev/null) ||
        { apt-get update -q && (cd "$work" && apt-get download -q "$package"); } || return 1
    dpkg-deb -x "$work/$package"_*.deb "$work/unpacked" || return 1
    mv "$work/unpacked/usr/share/datasets/fashion-mnist" data/fashion-mnist
}

sha256_check() {
    if command -v sha256sum >/dev/null; then sha256sum -c - >&2; else shasum -a 256 -c - >&2; fi
}

from_publisher() {
    local name
    command -v curl >/dev/null && command -v gunzip >/dev/null || return 1
    mkdir "$work/published"
    for name in {train,t10k}-{images-idx3,labels-idx1}-ubyte; do
        curl -fsSL --connect-timeout 10 --retry 2 -o "$work/published/$name.gz" "$url/$name.gz" || return 1
        gunzip "$work/published/$name.gz" || return 1
    done
    # The way there is not encrypted: these, of the unpacked files, are those of crates/core/src/data.rs.
    (cd "$work/published" && sha256_check) <<'END' || return 1
c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888  train-images-idx3-ubyte
bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9  train-labels-idx1-ubyte
5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b  t10k-images-idx3-ubyte
0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34  t10k-labels-idx1-ubyte
END
    mv "$work/published" data/fashion-mnist
}

if from_debian; then
    echo "Fashion-MNIST is in data/fashion-mnist, from Debian's package dataset-fashion-mnist"
elif echo "Debian's package dataset-fashion-mnist cannot be had here: trying $url" && from_publisher; then
    echo "Fashion-MNIST is in data/fashion-mnist, from $url"
else
    echo "Nor can the publisher's files: trying the Hugging Face hub, whose client takes minutes to compile"
    cargo run --release -q -p elucidate-core --features hub --example fetch_data -- data/fashion-mnist
    echo "Fashion-MNIST is in data/fashion-mnist, from the Hugging Face hub"
fi
