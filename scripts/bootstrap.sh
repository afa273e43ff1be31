# Sourced by the other scripts: finds or makes a Python environment and installs this repository into it.
# Afterwards $PYTHON is the interpreter to use. Nothing is needed beforehand but Python >= 3.11 and git.
#
#   bootstrap EXTRAS    EXTRAS as pip takes them ("dev"), or "" for none
#
# VENV is the folder of the environment that is made where none is active, CONSTRAINTS the file of versions.

MINIMUM="3.11"
VENV="${VENV:-.venv}"
CONSTRAINTS="${CONSTRAINTS:-constraints.txt}"
TORCH="$(sed -n 's/^torch==/torch==/p' constraints.txt)"

say() { printf '%s\n' "$*" >&2; }

is_new_enough() {
  "$1" -c "import sys; raise SystemExit(sys.version_info < tuple(map(int, '$MINIMUM'.split('.'))))" 2>/dev/null
}

find_python() {
  local candidate
  for candidate in python3 python3.12 python3.13 python3.11 python3.14 python; do
    if command -v "$candidate" >/dev/null 2>&1 && is_new_enough "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  say "No Python >= $MINIMUM was found; install one (https://www.python.org/downloads) and run this again."
  return 2
}

# An environment that the user activated is used as it is; conda's shared "base" is not ours to fill.
active_python() {
  if [ -n "${VIRTUAL_ENV:-}" ] || { [ -n "${CONDA_PREFIX:-}" ] && [ "${CONDA_DEFAULT_ENV:-base}" != base ]; }; then
    command -v python
  fi
}

venv_python() {
  if [ -x "$VENV/Scripts/python.exe" ]; then echo "$PWD/$VENV/Scripts/python.exe"; else echo "$PWD/$VENV/bin/python"; fi
}

make_venv() {
  local base
  base="$(find_python)" || return
  say "Creating $VENV with $("$base" --version)."
  if ! "$base" -m venv "$VENV" >&2; then
    rm -rf "$VENV"
    say "'$base -m venv' failed; on Debian and Ubuntu install the package python3-venv, then run this again."
    return 2
  fi
}

# What the environment was installed from; when nothing of it changed, there is nothing to install.
fingerprint() {
  "$PYTHON" - "$1" <<'PY'
import hashlib, pathlib, sys
digest = hashlib.sha256()
for part in (sys.argv[1], sys.version, str(pathlib.Path.cwd())):
    digest.update(part.encode() + b"\0")
for name in ("pyproject.toml", "constraints.txt"):
    digest.update(pathlib.Path(name).read_bytes() + b"\0")
print(digest.hexdigest())
PY
}

# Without what pip says about its indexes: where it looks is the machine's affair. Its status counts (pipefail).
pip_install() {
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --constraint "$CONSTRAINTS" "$@" 2>&1 |
    sed -e '/^Looking in \(indexes\|links\):/d' -e '/^WARNING: Location .* is ignored:/d' >&2
}

bootstrap() {
  local extras="$1" wanted stamp
  PYTHON="$(active_python)"
  if [ -z "$PYTHON" ]; then
    [ -x "$(venv_python)" ] || make_venv || return
    PYTHON="$(venv_python)"
  fi
  if ! is_new_enough "$PYTHON"; then
    say "$PYTHON is older than Python $MINIMUM; deactivate that environment and run this again."
    return 2
  fi
  wanted="$(fingerprint "$extras")"
  stamp="$("$PYTHON" -c 'import sys; print(sys.prefix)')/.meduniseg-installed-${extras:-base}"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    say "Installing into $("$PYTHON" -c 'import sys; print(sys.prefix)') (the first time takes some minutes)."
    "$PYTHON" -m pip --version >/dev/null 2>&1 || "$PYTHON" -m ensurepip >/dev/null || return
    pip_install "$TORCH" || return
    pip_install --editable ".${extras:+[$extras]}" || return
    printf '%s\n' "$wanted" >"$stamp"
  fi
  export PYTHON
}
