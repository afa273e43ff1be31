#!/usr/bin/env bash
# Runs the plugin's tests with the oldest napari that pyproject.toml allows, in an environment of its own that it makes
# in .venv-oldest-napari. Arguments go to pytest:
#   scripts/test_oldest_napari.sh                                 everything in tests/plugin
#   scripts/test_oldest_napari.sh tests/plugin/test_views.py -x   only these, stopping at the first failure
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset VIRTUAL_ENV CONDA_PREFIX # an active environment has the newest
VENV=".venv-oldest-napari"
CONSTRAINTS="$(mktemp)"
trap 'rm -f "$CONSTRAINTS"' EXIT
. scripts/bootstrap.sh
. scripts/screen.sh

OLDEST="$(sed -n 's/.*"napari\[pyside6\]>=\([0-9.]*\)".*/\1/p' pyproject.toml)"
# each napari asks for a vispy of its own
{ grep -vE '^(napari|vispy)==' constraints.txt; echo "napari==$OLDEST"; } >"$CONSTRAINTS"
bootstrap dev
say "== $("$PYTHON" -c 'import napari; print("napari", napari.__version__)')"
[ $# -gt 0 ] || set -- tests/plugin
OMP_NUM_THREADS=1 on_a_screen "$PYTHON" -m pytest -m "not slow" "$@"
