#!/usr/bin/env bash
# Installs what is missing and runs every check: style, types, layering, tests. Arguments go to pytest:
#   scripts/test.sh                       everything but the tests marked slow
#   scripts/test.sh tests/core/images -x  only these, stopping at the first failure
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/bootstrap.sh
. scripts/screen.sh
bootstrap dev

failed=""

check() { # NAME COMMAND...
  local name="$1"
  shift
  say "== $name"
  "$@" || failed="${failed:+$failed, }$name"
}

docs() {
  local site status=0
  site="$(mktemp -d)"
  NO_MKDOCS_2_WARNING=1 "$PYTHON" -m mkdocs build --strict --quiet --site-dir "$site" || status=$?
  rm -rf "$site"
  return "$status"
}

say_what_is_skipped() {
  local shared="${MEDUNISEG_SHARED:-../shared}"
  if [ ! -d "$shared/data" ]; then
    say "Skipped: tests on real images, because $shared/data is not here (MEDUNISEG_SHARED names another folder)."
  fi
  say "Skipped: tests marked slow; 'scripts/test.sh -m slow' runs them."
}

check "ruff check" "$PYTHON" -m ruff check .
check "ruff format" "$PYTHON" -m ruff format --check .
check "mypy" "$PYTHON" -m mypy
check "lint-imports" "$(dirname "$PYTHON")/lint-imports"
check "docs" docs
check "pytest" run_tests "$@"
say_what_is_skipped

if [ -n "$failed" ]; then
  say "Failed: $failed"
  exit 1
fi
say "All checks passed."
