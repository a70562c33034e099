#!/usr/bin/env bash
# Installs Triton and NumPy in a folder of their own and runs the kernels on the software device.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=target/triton
if [ ! -x $venv/bin/python ]; then
    "${PYTHON:-python3}" -m venv $venv
fi
$venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/triton/requirements.txt
# The default that Triton asks to name.
export TRITON_DEFAULT_FP_FUSION=1 TRITON_CACHE_DIR="$PWD/$venv/cache"
exec $venv/bin/python tests/triton/run.py "$PWD/target/release/libcuda.so" "$@"
