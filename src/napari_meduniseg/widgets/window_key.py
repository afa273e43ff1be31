"""A key that works in the whole window, whichever panel has the focus."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakMethod

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QWidget


class WindowKey(QShortcut):
    """The only shortcut of a key in a window: it acts on the panel that was shown last, without keeping it alive."""

    def __init__(self, window: QWidget, key: str) -> None:
        super().__init__(QKeySequence(key), window)
        self.setObjectName(key)
        self.setContext(Qt.ShortcutContext.WindowShortcut)
        self.act: WeakMethod[Callable[[], None]] | None = None
        self.activated.connect(self._do)

    def _do(self) -> None:
        act = None if self.act is None else self.act()
        if act is not None:
            act()


def bind_in_window(window: QWidget, key: str, act: Callable[[], None]) -> None:
    """Call ``act``, a method of a panel, when the key is pressed anywhere in the window."""
    found = window.findChild(WindowKey, key) or WindowKey(window, key)
    found.act = WeakMethod(act)
