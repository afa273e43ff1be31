#!/usr/bin/env bash
# Runs the tests and says how much of the code they run. Takes about twice the time of the tests alone.
# Arguments go to pytest:
#   scripts/coverage.sh                       everything but the tests marked slow
#   scripts/coverage.sh tests/core/images     only these
# Afterwards 'python -m coverage report' lists every file with the lines that no test runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/bootstrap.sh
. scripts/screen.sh
bootstrap dev

status=0
"$PYTHON" -m coverage erase
run_tests --cov --cov-report= "$@" || status=$?

percent() { # FILES
  local total
  total="$("$PYTHON" -m coverage report --precision=1 --format=total --include="$1" 2>/dev/null)" || total=0.0
  printf '%s' "$total"
}

say "Covered, lines and branches:"
say "  core    $(percent 'src/meduniseg_core/*') %"
say "  CLI     $(percent 'training_cli/*') %"
say "  plugin  $(percent 'src/napari_meduniseg/*') %"
say "  all     $(percent '*') %"
if [ "$status" != 0 ]; then
  say "Some tests failed (those that measure time or memory may, while coverage is measured)."
fi
exit "$status"
