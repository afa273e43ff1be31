"""The field of the reader's name: the same name in every panel."""

from __future__ import annotations

from qtpy.QtWidgets import QLineEdit

from napari_meduniseg._reader_name import reader_name, remember_reader
from napari_meduniseg._signals import signals


class ReaderField(QLineEdit):
    """Shows the reader's name. One that is typed is remembered, and shown in the other panels' fields."""

    def __init__(self) -> None:
        super().__init__(reader_name())
        self.setToolTip(
            "The reader whose labels these are; remembered. Every reader's labels are kept, and the Readers panel "
            "compares them."
        )
        self.editingFinished.connect(self._tell)
        signals().reader_changed.connect(self._hear)

    def _tell(self) -> None:
        remember_reader(self.text())
        signals().reader_changed.emit(self.text().strip())

    def _hear(self, name: str) -> None:
        if name != self.text().strip():
            self.setText(name)
