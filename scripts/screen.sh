# Sourced by test.sh and coverage.sh: runs the tests, with a screen for those that open napari's window (OpenGL).
#
#   on_a_screen COMMAND...    on the display that is there, else on a virtual one (Xvfb with Mesa), else without
#   run_tests ARGUMENTS...    pytest with these arguments; $PYTHON is the interpreter

XVFB_PACKAGES="xvfb xauth libgl1 libegl1 libgl1-mesa-dri libxcb-cursor0 libxkbcommon-x11-0 libxcb-icccm4 libxcb-keysyms1
  libxcb-shape0 libxcb-xinerama0 libdbus-1-3 libxcb-image0 libxcb-render-util0 libxcb-randr0 libfontconfig1 libglib2.0-0"

has_screen() {
  [ -n "${DISPLAY:-}" ] || [ "$(uname)" = Darwin ] || [ "${OS:-}" = Windows_NT ]
}

# Only where nobody has to be asked: as root, with apt.
install_xvfb() {
  command -v xvfb-run >/dev/null 2>&1 && return
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return
  say "Installing Xvfb and Mesa for the tests of the viewer."
  # shellcheck disable=SC2086
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $XVFB_PACKAGES; } >/dev/null 2>&1
}

on_a_screen() {
  if has_screen; then
    "$@"
  elif install_xvfb && command -v xvfb-run >/dev/null 2>&1; then
    xvfb-run -a -s "-screen 0 1280x800x24" "$@"
  else
    say "There is no screen and no xvfb-run: tests that open napari's window are skipped."
    QT_QPA_PLATFORM=offscreen "$@"
  fi
}

# File by file in processes of one thread each: two that share two cores would wait for each other's threads.
run_tests() {
  OMP_NUM_THREADS=1 on_a_screen "$PYTHON" -m pytest -m "not slow" -n "${TEST_PROCESSES:-2}" --dist loadfile "$@"
}
