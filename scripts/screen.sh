# Sourced by test.sh: a screen for the tests that open napari's window, which needs OpenGL.
#
#   on_a_screen COMMAND...    on the display that is there, else on a virtual one (Xvfb with Mesa), else without

XVFB_PACKAGES="xvfb xauth libgl1 libegl1 libgl1-mesa-dri libxcb-cursor0 libxkbcommon-x11-0 libxcb-icccm4 libxcb-keysyms1
  libxcb-shape0 libxcb-xinerama0 libdbus-1-3 libxcb-image0 libxcb-render-util0 libxcb-randr0"

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
