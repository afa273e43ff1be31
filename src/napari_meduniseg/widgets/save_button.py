"""A button that saves a labels layer beside its image."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QPushButton

from meduniseg_core.dicom_objects import DICOM_FORMATS
from meduniseg_core.images.formats import stem_of
from meduniseg_core.images.formats.dicom_origin import dicom_origin
from napari_meduniseg import _unsaved
from napari_meduniseg._belonging import source_of
from napari_meduniseg._layer_input import file_of
from napari_meduniseg._links import image_of
from napari_meduniseg._writer import layers_around, write_on_grid
from napari_meduniseg.widgets.working import Working


class SaveButton(Working, QPushButton):
    """Saves the layer that ``layer`` gives; without one it says ``missing``.

    ``said`` brings what happened in one sentence, and whether it is trouble.
    """

    said = Signal(str, bool)

    def __init__(self, layer: Callable[[], Labels | None], missing: str) -> None:
        super().__init__("Save ...")
        self._layer, self._missing = layer, missing
        self.setToolTip("Save the labels, as they are now, on the image's own grid.")
        self.clicked.connect(self._ask_and_save)

    def save(self, path: Path) -> None:
        """Write the labels, in a thread."""
        layer = self._layer()
        if layer is None or self.busy:
            return
        _, attributes, _ = layer.as_layer_data_tuple()
        now, layers, mark = np.array(layer.data), layers_around(layer.data), _unsaved.mark(layer)
        image = None if layers is None else image_of(layer, layers)
        self.said.emit(f"Saving {path.name} ...", False)
        self.start_job(
            lambda _events, _cancel: write_on_grid(str(path), now, attributes, layers, image),
            lambda answer: self._saved(layer, mark, *answer),
            lambda sentence: self.said.emit(sentence, True),
        )

    def _saved(self, layer: Labels, mark: int, written: list[str], notes: tuple[str, ...]) -> None:
        _unsaved.saved(layer, mark)
        names = ", ".join(Path(one).name for one in written)
        self.said.emit(" ".join([f"Saved {names}.", *notes]), bool(notes))

    def _ask_and_save(self) -> None:
        layer = self._layer()
        if layer is None:
            self.said.emit(self._missing, True)
            return
        kinds = "Pictures (*.png *.tif)" if layer.ndim == 2 else "Volumes (*.nii.gz *.nii *.nrrd *.seg.nrrd *.mha)"
        dicom = _dicom_kinds(layer)
        suggested = str(suggestion(layer))
        name, kind = QFileDialog.getSaveFileName(self, "Save the labels", suggested, ";;".join([kinds, *dicom]))
        if name:
            self.save(with_ending(Path(name), dicom.get(kind)))


def with_ending(path: Path, ending: str | None) -> Path:
    """The path with the ending of the kind that was chosen in the dialog, which keeps the suggested name's."""
    if ending is None or path.name.lower().endswith(ending):
        return path
    return path.with_name(stem_of(path) + ending)


def _dicom_kinds(layer: Labels) -> dict[str, str]:
    """The dialog's filters for DICOM objects, each with its ending, where the layer's image was read from DICOM."""
    belongs = source_of(layer.metadata)
    if belongs is None:
        layers = layers_around(layer.data)
        image = None if layers is None else image_of(layer, layers)
        belongs = None if image is None else source_of(image.metadata)
    if belongs is None or dicom_origin(belongs[0]) is None:
        return {}
    return {f"{kind.title.removeprefix('a ')} (*{kind.ending})": kind.ending for kind in DICOM_FORMATS.values()}


def suggestion(layer: Labels) -> Path:
    """Suggest a file beside the image, named after it and the task; in the home folder if the image has no file."""
    belongs = source_of(layer.metadata)
    source = None if belongs is None else belongs[0].source
    layers = layers_around(layer.data) if belongs is None else None
    image = None if layers is None else image_of(layer, layers)
    if image is not None and file_of(image).is_absolute():
        source = file_of(image)
    ending = ".png" if layer.ndim == 2 else ".nii.gz"
    plain = re.sub(r"\.(nii\.gz|nii|nrrd|mha|png|jpe?g|tiff?|dcm)\b", "", layer.name)
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in plain).strip("_")
    while "__" in name:
        name = name.replace("__", "_")
    folder = Path.home() if source is None else Path(source).parent
    return folder / f"{name}{ending}"
