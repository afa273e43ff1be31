"""The keyboard stays in a panel's field when napari's notification closes itself.

napari gives the canvas the focus when a notification goes (`NapariQtNotification.close`), four seconds after it came:
the rest of a number that somebody is typing would go to the canvas, where digits are tools.
"""

from __future__ import annotations

from qtpy.QtCore import QObject, Qt
from qtpy.QtWidgets import QApplication, QWidget


class KeptFocus(QObject):
    """Gives the focus back to a field of ``panel`` that lost it to a notification that closes."""

    def __init__(self, panel: QWidget) -> None:
        super().__init__(panel)
        self._panel = panel
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        app.focusChanged.connect(self._changed)

    def _changed(self, old: QWidget | None, new: QWidget | None) -> None:
        if old is None or new is None or not self._panel.isAncestorOf(old) or self._panel.isAncestorOf(new):
            return
        by_hand = QApplication.mouseButtons() != Qt.MouseButton.NoButton
        if not by_hand and old.isVisible() and old.isEnabled() and any(map(_is_closing, new.children())):
            old.setFocus(Qt.FocusReason.OtherFocusReason)


def _is_closing(child: QObject) -> bool:
    """Whether a part of the canvas is a notification that has just taken itself from napari's list."""
    shown = getattr(child, "_instances", None)
    return type(child).__name__ == "NapariQtNotification" and shown is not None and child not in shown
