#!/usr/bin/env bash
# Walks the journeys of docs/quickstart.md and docs/annotators.md in a real window: Xvfb, openbox, a mouse and keys by
# xdotool, four images open, at two sizes of the screen; three days, the first of which ends with a crash. Its
# screenshots lie in FOLDER afterwards: look at them.
#
#   scripts/walk.sh [FOLDER]        (Debian: xvfb xauth openbox xdotool, and napari in the Python that is found)
set -eu
cd "$(dirname "$0")/.."
folder=${1:-/tmp/meduniseg-walk}
for tool in xvfb-run openbox xdotool; do
  command -v "$tool" >/dev/null || { echo "$tool is missing; install it (Debian: apt install xvfb xauth openbox xdotool)."; exit 2; }
done
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
for size in ${SIZES:-1280x800 1920x1080}; do
  for day in 1 2 3; do
    rm -f "$home/code" # xvfb-run's own status is another one where it cannot clear its folder away
    xvfb-run -a -s "-screen 0 ${size}x24" bash -c '
      openbox >/dev/null 2>&1 &
      manager=$!
      code=0
      "$1" scripts/walk.py "${@:2}" || code=$?
      kill "$manager"
      echo "$code" >"$0"' "$home/code" "${PYTHON:-python}" "$day" "$home/$size" "$folder/$size" || true
    code=$(cat "$home/code" || echo unknown)
    expected=$([ "$day" = 1 ] && echo 137 || echo 0) # the first day ends with kill -9
    [ "$code" = "$expected" ] || { echo "$size, day $day: ended with $code"; exit 1; }
  done
  echo "$size: walked; screenshots in $folder/$size"
done
