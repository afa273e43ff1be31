"""F1: a sheet of the keys that work in the viewer, ours and those of napari that annotators need most."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

_KEY = "F1"
_NAPARI = (
    ("1", "Erase"),
    ("2", "Paint"),
    ("3", "Polygon"),
    ("4", "Fill"),
    ("5", "Pick the class under the cursor"),
    ("6", "Move and zoom"),
    ("[  ]", "Smaller or larger brush"),
    ("Ctrl+Z  Ctrl+Shift+Z", "Undo, redo"),
    ("Space (held)", "Move and zoom while it is held"),
    ("V", "Show or hide the layer"),
    ("Left  Right", "Slice before or after"),
    ("Ctrl+Y", "2D or 3D"),
    ("Ctrl+R", "Show everything"),
)
_known: dict[str, str] = {}


def list_keys(keys: Sequence[tuple[str, str]]) -> None:
    """Add keys of a panel to the sheet.

    Args:
        keys: each key, as napari writes it, and what it does.
    """
    _known.update(keys)


class _SheetKey(QShortcut):
    """Shows the sheet at F1. It asks for its window when it is pressed: a closure would keep a closed window alive."""

    def __init__(self, window: QWidget) -> None:
        super().__init__(QKeySequence(_KEY), window)
        self.setContext(Qt.ShortcutContext.WindowShortcut)
        self.activated.connect(self._open)

    def _open(self) -> None:
        window = self.parent()
        if isinstance(window, QWidget):
            show_sheet(window)


def bind_sheet(window: QWidget) -> None:
    """Show the sheet at F1 in this window; once is enough."""
    if window.findChild(_SheetKey) is None:
        _SheetKey(window)


def show_sheet(window: QWidget) -> ShortcutSheet:
    """Open the sheet beside the work; it is not modal."""
    sheet = ShortcutSheet(window)
    sheet.show()
    return sheet


class ShortcutSheet(QDialog):
    """A table of keys; those of a panel are listed once it was opened."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Shortcuts")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        ours = [(key.replace("-", "+"), what) for key, what in _known.items()]
        rows = [(_KEY, "This sheet"), *ours, *_NAPARI]
        self.table = QTableWidget(len(rows), 2)
        self.table.setHorizontalHeaderLabels(["key", "what it does"])
        self.table.setToolTip(
            "F keys work anywhere in the window, the others in the viewer while labels are selected there."
        )
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.verticalHeader().hide()
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.horizontalHeader().setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        for row, cells in enumerate(rows):
            for column, text in enumerate(cells):
                self.table.setItem(row, column, QTableWidgetItem(text))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.close)
        layout = QVBoxLayout(self)
        layout.addWidget(self.table)
        layout.addWidget(QLabel("Keys of a panel are listed, and work, once it was opened (Plugins > MedUniSeg)."))
        layout.addWidget(buttons)
        self.resize(520, 640)
