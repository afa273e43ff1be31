"""What one does with a result: correct it, save it beside its image."""

from __future__ import annotations

import re
from pathlib import Path

import napari
import numpy as np
from napari.layers import Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from napari_meduniseg._jobs import Job
from napari_meduniseg._layers import source_of
from napari_meduniseg._writer import write_labels_layer


class ResultActions(QWidget):
    """Two buttons for the newest result; ``said`` brings what happened in one sentence, and whether it is trouble."""

    said = Signal(str, bool)

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._layers: list[Labels] = []
        self._job: Job | None = None
        self.correct_button, self.save_button = QPushButton("Correct ..."), QPushButton("Save ...")
        self.correct_button.setToolTip("Open the Edit panel for this result.")
        self.save_button.setToolTip("Save the labels, as they are now, on the image's own grid.")
        self.correct_button.clicked.connect(self.correct)
        self.save_button.clicked.connect(self._ask_and_save)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.correct_button)
        row.addWidget(self.save_button)
        self.hide()

    @property
    def busy(self) -> bool:
        """Whether labels are being saved."""
        return self._job is not None

    def offer(self, layers: list[Labels]) -> None:
        """Show the buttons for these results."""
        self._layers = layers
        self.setVisible(bool(layers))

    def layer(self) -> Labels | None:
        """The result that is meant: the selected one if it is among them, else the first that is still there."""
        there = [layer for layer in self._layers if layer in self._viewer.layers]
        active = self._viewer.layers.selection.active
        return active if active in there else next(iter(there), None)

    def correct(self) -> None:
        """Open the Edit panel beside this one and give it the result."""
        layer = self.layer()
        if layer is None:
            self.said.emit("The result was removed; run again.", True)
            return
        _, panel = self._viewer.window.add_plugin_dock_widget("napari-meduniseg", "Edit", tabify=True)
        panel.layer_box.set_layer(layer)

    def suggestion(self, layer: Labels) -> Path:
        """Beside the image, named after it and the task; in the home folder where the image came from no file."""
        belongs = source_of(layer.metadata)
        source = None if belongs is None else belongs[0].source
        ending = ".png" if layer.ndim == 2 else ".nii.gz"
        plain = re.sub(r"\.(nii\.gz|nii|nrrd|mha|png|jpe?g|tiff?|dcm)\b", "", layer.name)
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in plain).strip("_")
        while "__" in name:
            name = name.replace("__", "_")
        folder = Path.home() if source is None else Path(source).parent
        return folder / f"{name}{ending}"

    def save(self, path: Path) -> None:
        """Write the labels beside the GUI."""
        layer = self.layer()
        if layer is None or self.busy:
            return
        _, attributes, _ = layer.as_layer_data_tuple()
        now = np.array(layer.data)
        job = self._job = Job(lambda _events, _cancel: write_labels_layer(str(path), now, attributes), self)
        job.done.connect(lambda written: self._end(f"Saved {', '.join(Path(one).name for one in written)}.", False))
        job.failed.connect(lambda sentence: self._end(sentence, True))
        self.said.emit(f"Saving {path.name} ...", False)
        job.start()

    def _end(self, sentence: str, trouble: bool) -> None:
        self._job = None
        self.said.emit(sentence, trouble)

    def _ask_and_save(self) -> None:
        layer = self.layer()
        if layer is None:
            self.said.emit("The result was removed; run again.", True)
            return
        kinds = "Pictures (*.png *.tif)" if layer.ndim == 2 else "Volumes (*.nii.gz *.nii *.nrrd *.mha)"
        name, _ = QFileDialog.getSaveFileName(self, "Save the labels", str(self.suggestion(layer)), kinds)
        if name:
            self.save(Path(name))
