"""A dialog: which of several images (series, frames) are meant."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QDialog,
    QDialogButtonBox,
    QLabel,
    QListWidget,
    QVBoxLayout,
    QWidget,
)


class ChooseImages(QDialog):
    """Lists images by title; one of them is chosen, or several where that is possible."""

    def __init__(
        self, text: str, titles: Sequence[str], several: bool, parent: QWidget | None = None, row: int = 0
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("MedUniSeg")
        self.list = QListWidget()
        self.list.setObjectName("images")
        self.list.setToolTip("Ctrl or Shift takes several, Ctrl+A all." if several else "Choose one.")
        mode = QAbstractItemView.SelectionMode
        self.list.setSelectionMode(mode.ExtendedSelection if several else mode.SingleSelection)
        self.list.addItems(list(titles))
        self.list.setCurrentRow(row)
        said = QLabel(text)
        said.setWordWrap(True)
        kind = QDialogButtonBox.StandardButton
        self.buttons = QDialogButtonBox(kind.Open | kind.Cancel)
        self.buttons.button(kind.Open).setText("Open" if several else "Segment")
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        self.list.itemDoubleClicked.connect(lambda _item: self.accept())
        layout = QVBoxLayout(self)
        for widget in (said, self.list, self.buttons):
            layout.addWidget(widget)
        self.resize(420, 360)

    def chosen(self) -> list[int]:
        """The positions of the chosen ones, in order."""
        return sorted(index.row() for index in self.list.selectedIndexes())


def ask_which(
    text: str, titles: Sequence[str], *, several: bool = True, parent: QWidget | None = None, row: int = 0
) -> list[int]:
    """The positions of the images that the user chooses (``row`` is proposed); none if the user cancels."""
    dialog = ChooseImages(text, titles, several, parent, row)
    return dialog.chosen() if dialog.exec() == QDialog.DialogCode.Accepted else []


def can_ask() -> bool:
    """Whether a window is seen in which a user could answer (a script may have none)."""
    return QApplication.instance() is not None and any(item.isVisible() for item in QApplication.topLevelWidgets())
