"""The keyboard stays in a panel's field when napari's notification closes itself.

napari gives the canvas the focus when a notification goes (`NapariQtNotification.close`), four seconds after it came:
the rest of a number that somebody is typing would go to the canvas, where digits are tools. A field that loses the
focus also takes what was typed so far for a whole number and forgets what was selected, so that is put back, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QApplication, QLineEdit, QWidget


@dataclass(frozen=True)
class _Typed:
    """What a field held, and where its cursor and its selection were."""

    field: QLineEdit
    text: str
    cursor: int
    start: int
    length: int

    @classmethod
    def of(cls, widget: QObject) -> _Typed | None:
        field = widget if isinstance(widget, QLineEdit) else widget.findChild(QLineEdit)
        if not isinstance(field, QLineEdit):
            return None
        return cls(field, field.text(), field.cursorPosition(), field.selectionStart(), len(field.selectedText()))

    def put_back(self) -> None:
        self.field.setText(self.text)
        if self.length:
            self.field.setSelection(self.start, self.length)
        else:
            self.field.setCursorPosition(self.cursor)


class KeptFocus(QObject):
    """Gives the focus back to a field of ``panel`` that lost it to a notification that closes."""

    def __init__(self, panel: QWidget) -> None:
        super().__init__(panel)
        self._panel = panel
        self._typed: _Typed | None = None
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        app.focusChanged.connect(self._changed)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Notice what a field holds just before it loses the focus."""
        if event.type() == QEvent.Type.FocusAboutToChange:
            self._typed = _Typed.of(watched)
        return False

    def _changed(self, old: QWidget | None, new: QWidget | None) -> None:
        if new is not None and self._panel.isAncestorOf(new):
            new.removeEventFilter(self)  # once is enough
            new.installEventFilter(self)
            return
        if old is None or new is None or not self._panel.isAncestorOf(old):
            return
        by_hand = QApplication.mouseButtons() != Qt.MouseButton.NoButton
        if not by_hand and old.isVisible() and old.isEnabled() and any(map(_is_closing, new.children())):
            typed = self._typed
            old.setFocus(Qt.FocusReason.OtherFocusReason)
            if typed is not None:
                typed.put_back()


def _is_closing(child: QObject) -> bool:
    """Whether a part of the canvas is a notification that has just taken itself from napari's list."""
    shown = getattr(child, "_instances", None)
    return type(child).__name__ == "NapariQtNotification" and shown is not None and child not in shown
