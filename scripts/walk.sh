#!/usr/bin/env bash
# Walks the journeys of docs/quickstart.md and docs/annotators.md in a real window: Xvfb, openbox, a mouse and keys by
# xdotool, four images open, at two sizes of the screen. Its screenshots lie in FOLDER afterwards: look at them.
#
#   scripts/walk.sh [FOLDER]        (Debian: xvfb xauth openbox xdotool, and napari in the Python that is found)
set -eu
cd "$(dirname "$0")/.."
folder=${1:-/tmp/meduniseg-walk}
for tool in xvfb-run openbox xdotool; do
  command -v "$tool" >/dev/null || { echo "$tool is missing; install it (Debian: apt install xvfb xauth openbox xdotool)."; exit 2; }
done
for size in ${SIZES:-1280x800 1920x1080}; do
  xvfb-run -a -s "-screen 0 ${size}x24" bash -c '
    openbox >/dev/null 2>&1 &
    manager=$!
    code=0
    "$0" scripts/walk.py "$1" || code=$?
    kill "$manager"
    exit "$code"' "${PYTHON:-python}" "$folder/$size"
done
