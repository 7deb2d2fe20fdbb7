#!/usr/bin/env bash
# Make .venv and run the linter, the type checks and the tests: bash scripts/test.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
make_environment dev
ruff check .
ruff format --check .
mypy
export OMP_NUM_THREADS=1  # one thread for each of the two processes
python -m pytest -n 2 --dist worksteal "$@"
