#!/usr/bin/env bash
# Fetches Fashion-MNIST into data/fashion-mnist where it is nowhere on this machine, and what is damaged or missing there
# anew: from Debian's package where there is apt-get, else the publisher's files, else the Hugging Face hub.
# FASHION_MNIST_URL names another place of the publisher's. A folder that FASHION_MNIST_DIR names is left as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

data=data/fashion-mnist
if [ -n "${FASHION_MNIST_DIR:-}" ] || { [ ! -e $data ] && [ -d /usr/share/datasets/fashion-mnist ]; }; then
    exit 0
fi
# What cannot be checked is left to the program, which checks it too.
if [ -d $data ] && ! { command -v gunzip && { command -v sha256sum || command -v shasum; }; } >/dev/null; then
    exit 0
fi
url=${FASHION_MNIST_URL:-http://fashion-mnist.s3-website.eu-central-1.amazonaws.com}
names=$(echo {train,t10k}-{images-idx3,labels-idx1}-ubyte)

# SHA-256 of an unpacked file, as in crates/core/src/data.rs.
sha256_of() {
    case $1 in
        train-images-*) echo c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888 ;;
        train-labels-*) echo bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9 ;;
        t10k-images-*) echo 5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b ;;
        t10k-labels-*) echo 0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34 ;;
    esac
}

sha256() {
    if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d' ' -f1
}

# Where the program finds the file NAME in FOLDER: find_file FOLDER NAME
find_file() {
    local path
    for path in "$1/$2.gz" "$1/$2" "$1/${2/-idx/.idx}.gz" "$1/${2/-idx/.idx}"; do
        if [ -e "$path" ] || [ -L "$path" ]; then echo "$path" && return; fi
    done
    return 1
}

# The folder of the files that is in FOLDER: itself, or one of torchvision's below it, whichever has most.
with_files() {
    local folder name count most=0 best=$1
    for folder in "$1" "$1/raw" "$1/FashionMNIST/raw"; do
        count=0
        for name in $names; do
            if find_file "$folder" "$name" >/dev/null; then count=$((count + 1)); fi
        done
        if [ $count -gt $most ]; then most=$count best=$folder; fi
    done
    echo "$best"
}

# is_whole FOLDER NAME
is_whole() {
    local path found
    path=$(find_file "$1" "$2") && [ -f "$path" ] || return 1
    case $path in
        *.gz) found=$(gunzip -c <"$path" 2>/dev/null | sha256) || return 1 ;;
        *) found=$(sha256 <"$path") || return 1 ;;
    esac
    [ "$found" = "$(sha256_of "$2")" ]
}

folder=$(with_files $data)
wanted=
for name in $names; do
    is_whole "$folder" "$name" || wanted="$wanted $name"
done
if [ -z "$wanted" ]; then exit 0; fi
if [ -L $data ] || { [ -e $data ] && [ ! -d $data ]; }; then
    echo "error: $data is a link or no folder, and left as it is; damaged or missing there:$wanted" >&2
    exit 1
fi
if [ -d $data ]; then echo "Damaged or missing in $folder:$wanted; fetching anew"; fi

mkdir -p data
# In the same file system, so that the last moves are renames.
work=$(mktemp -d "$PWD/data/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Puts the files that are wanted from FOLDER into their place, once all of them are verified. What they replace goes only then.
put() {
    local name old
    for name in $wanted; do
        is_whole "$1" "$name" || { echo "$name is damaged there" >&2 && return 1; }
    done
    if [ ! -e $data ]; then
        mv "$1" $data
        return
    fi
    for name in $wanted; do
        if old=$(find_file "$folder" "$name"); then rm -rf "$old" || return 1; fi
        mv "$(find_file "$1" "$name")" "$folder/" || return 1
    done
}

from_debian() {
    local package=dataset-fashion-mnist
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    # A fresh machine may have no package lists yet; only root can fetch them.
    (cd "$work" && apt-get download -q "$package" 2>/dev/null) ||
        { apt-get update -q && (cd "$work" && apt-get download -q "$package"); } || return 1
    dpkg-deb -x "$work/$package"_*.deb "$work/unpacked" || return 1
    put "$work/unpacked/usr/share/datasets/fashion-mnist"
}

from_publisher() {
    local name
    command -v curl >/dev/null && command -v gunzip >/dev/null || return 1
    mkdir "$work/published"
    for name in $wanted; do
        curl -fsSL --connect-timeout 10 --retry 2 -o "$work/published/$name.gz" "$url/$name.gz" || return 1
    done
    put "$work/published"
}

from_hub() {
    cargo run --release -q -p elucidate-core --features hub --example fetch_data -- "$work/hub" && put "$work/hub"
}

if from_debian; then
    echo "Fashion-MNIST is in $folder, from Debian's package dataset-fashion-mnist"
elif echo "Debian's package dataset-fashion-mnist cannot be had here: trying $url" && from_publisher; then
    echo "Fashion-MNIST is in $folder, from $url"
else
    echo "Nor can the publisher's files: trying the Hugging Face hub, whose client takes minutes to compile"
    from_hub
    echo "Fashion-MNIST is in $folder, from the Hugging Face hub"
fi
