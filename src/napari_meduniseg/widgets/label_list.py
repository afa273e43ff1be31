"""*Label list*: the names and colours of the classes, from a file and to a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari.layers import Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QMenu, QPushButton

from meduniseg_core.images.label_tables import LabelTable
from napari_meduniseg._label_list import apply_list, prepared_list, prepared_writing
from napari_meduniseg.widgets.save_button import suggestion
from napari_meduniseg.widgets.working import Working

OPEN_KEY, SAVE_KEY = "Shift-O", "Shift-L"
_READ = "Label lists (*.txt *.label *.tsv *.ctbl);;All files (*)"
_WRITTEN = "ITK-SNAP label descriptions (*.txt *.label);;Table of a BIDS segmentation (*.tsv)"
_NONE = "There is no labels layer; segment an image or add one."


class LabelListButton(Working, QPushButton):
    """Reads and writes the list of the layer that ``layer`` gives.

    ``said`` brings what happened in one sentence, and whether it is trouble; ``renamed`` tells that the layer's classes
    have other names or colours.
    """

    said = Signal(str, bool)
    renamed = Signal()

    def __init__(self, layer: Callable[[], Labels | None]) -> None:
        super().__init__("Label list")
        self._layer = layer
        self.setToolTip(
            "Names and colours of the classes: open a list of ITK-SNAP, BIDS, FreeSurfer or 3D Slicer, or save one. "
            f"Keys: {OPEN_KEY}, {SAVE_KEY}."
        )
        menu = QMenu(self)
        menu.addAction("Open ...", self.ask_and_read)
        menu.addAction("Save ...", self.ask_and_write)
        self.setMenu(menu)

    def read(self, path: Path) -> None:
        """Name and colour the classes as a file says."""
        layer = self._layer()
        if layer is None:
            self.said.emit(_NONE, True)
            return
        find = prepared_list(layer, path)
        self.start_job(lambda _events, _cancel: find(), lambda table: self._apply(layer, table, path), self._failed)

    def write(self, path: Path) -> None:
        """Write names and colours to a file."""
        layer = self._layer()
        if layer is None:
            self.said.emit(_NONE, True)
            return
        work = prepared_writing(layer, path)
        self.start_job(
            lambda _events, _cancel: work(),
            lambda count: self.said.emit(f"Saved {path.name}: {count} class{'' if count == 1 else 'es'}.", False),
            self._failed,
        )

    def _apply(self, layer: Labels, table: LabelTable, path: Path) -> None:
        apply_list(layer, table)
        self.renamed.emit()
        count = len(table.names)
        self.said.emit(f"Opened {path.name}: {count} class{'' if count == 1 else 'es'}.", False)

    def _failed(self, sentence: str) -> None:
        self.said.emit(sentence, True)

    def ask_and_read(self) -> None:
        """Choose a file and read it."""
        name, _ = QFileDialog.getOpenFileName(self, "Open a list of labels", self._beside(""), _READ)
        if name:
            self.read(Path(name))

    def ask_and_write(self) -> None:
        """Choose a file and write it."""
        name, kind = QFileDialog.getSaveFileName(self, "Save the list of labels", self._beside("_labels.txt"), _WRITTEN)
        if name:
            path = Path(name)
            bids = kind.endswith("(*.tsv)") and path.suffix == ".txt"  # the dialog keeps the suggested name's ending
            self.write(path.with_suffix(".tsv") if bids else path)

    def _beside(self, ending: str) -> str:
        layer = self._layer()
        if layer is None:
            return ""
        proposed = suggestion(layer)
        return str(proposed.parent / f"{proposed.name.split('.')[0]}{ending}" if ending else proposed.parent)
