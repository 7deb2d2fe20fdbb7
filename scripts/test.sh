#!/usr/bin/env bash
# Make .venv and run the linter and the tests: bash scripts/test.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
make_environment dev
ruff check .
ruff format --check .
python -m pytest "$@"
