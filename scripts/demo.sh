#!/usr/bin/env bash
# From a fresh clone to your first tokens: bash scripts/demo.sh [recording.wav]
# Makes .venv, then encodes and decodes a recording (a bundled one if none is named) with the bundled checkpoint.
set -euo pipefail
start=$PWD
cd "$(dirname "$0")/.."
. scripts/environment.sh
make_environment demo
recording=${1:-}
case "$recording" in "" | /*) ;; *) recording=$start/$recording ;; esac
python scripts/demo.py ${recording:+"$recording"}
