# shellcheck shell=bash disable=SC2034  # venv is for who sources it
# Sourced from the workspace's folder. `virtual_environment NAME PACKAGE…` has Python's packages in target/NAME-venv, whose path it leaves in $venv.
virtual_environment() {
    venv=$PWD/target/$1-venv
    if [ ! -x "$venv/bin/python" ]; then
        python3 -m venv "$venv"
    fi
    "$venv/bin/pip" install -q "${@:2}"
}
