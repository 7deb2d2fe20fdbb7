# Sourced by demo.sh and test.sh: make .venv with the package and the named extra, once, and activate it.
# PYTHON names the interpreter (default python3, at least 3.10).
make_environment() {
    local extra=$1 python=${PYTHON:-python3} stamp
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        { echo "Python 3.10 or newer is needed, got $("$python" --version); set PYTHON=..." >&2; return 1; }
    stamp=".venv/installed-$extra-$(cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)"
    if [ ! -e "$stamp" ]; then
        echo "Installing into .venv (a few minutes, once) ..."
        [ -x .venv/bin/python ] || "$python" -m venv .venv || return 1
        # torch first and alone: the version in constraints.txt is a CPU build where the index offers one.
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch || return 1
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extra]" || return 1
        touch "$stamp"
    fi
    . .venv/bin/activate
}
