"""From a case of a worklist to layers, and from corrected layers back to its results. Knows no Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer

from meduniseg_core.corrections import model_beside
from meduniseg_core.errors import MedUniSegError
from meduniseg_core.events import CancelToken
from meduniseg_core.images import Image, place_labels, read_image, read_labels
from meduniseg_core.outputs import EARLIER, FILES, read_record
from meduniseg_core.provenance import provenance_path, read_provenance
from meduniseg_core.worklist import WorkItem, Worklist, thumbnail
from napari_meduniseg import _unsaved
from napari_meduniseg._layers import LayerData, image_layers, is_derived, label_layer, stored_result_layer
from napari_meduniseg._links import bind, image_of, labels_among
from napari_meduniseg._writer import write_on_grid

THUMBNAIL = 56  # px


@dataclass(frozen=True, eq=False)
class OpenedCase:
    """A case as it was read: its image's layers, and its labels with the file they come from."""

    item: WorkItem
    image: Image
    layers: list[LayerData]
    labels: Image | None = None
    path: Path | None = None


def open_case(worklist: Worklist, item: WorkItem) -> OpenedCase:
    """Read a case with its prediction or correction, in a worker's thread. Raises BadInputError for damaged files."""
    if item.case.fault is not None:
        raise item.case.fault
    image = read_image(item.case.source)
    worklist.seen(item.name, image)
    return with_labels(OpenedCase(item, image, image_layers(image)), item.labels)


def with_labels(opened: OpenedCase, path: Path | None) -> OpenedCase:
    """The same case with the labels of this file, in a worker's thread."""
    if path is None:
        return opened
    labels = place_labels(read_labels(path, like=opened.image), opened.image)
    return OpenedCase(opened.item, opened.image, opened.layers, labels, path)


def add_image(opened: OpenedCase, viewer: ViewerModel) -> list[ImageLayer]:
    """Add the case's image to the viewer."""
    added = [viewer.add_layer(Layer.create(data, options, kind)) for data, options, kind in opened.layers]
    return [layer for layer in added if isinstance(layer, ImageLayer)]


def add_case_labels(opened: OpenedCase, image: ImageLayer, viewer: ViewerModel) -> Labels | None:
    """Add the case's labels above its image; None where there are none. What is on the disk does not count as unsaved.

    They know the whole image (all its channels), so that accepting them stores it; and the prediction, if it is one.
    """
    if opened.labels is None or opened.path is None:
        return None
    record = read_record(provenance_path(opened.path))
    provenance = read_provenance(opened.path)
    if provenance is not None and provenance.model:
        about = {key: value for key, value in record.items() if key not in (FILES, EARLIER)}
        model = model_beside(opened.path)  # checked: the JSON may be anybody's
        about["model_sha256"] = None if model is None else model.sha256
        data, options, _ = stored_result_layer(
            opened.labels, opened.image, image, opened.path.name, about, edited=opened.item.state != "predicted"
        )
    else:
        classes, colours = ({}, {}) if provenance is None else (provenance.classes, provenance.colours)
        data, options, _ = label_layer(opened.labels, classes, colours)
    layer: Labels = viewer.add_labels(data, **options)
    bind(layer, image)
    _unsaved.watch(layer)
    _unsaved.saved(layer)
    return layer


@dataclass(frozen=True)
class CaseCorrection:
    """Labels captured in the GUI's thread, to be written by `keep` in another one."""

    layer: Labels
    mark: int
    write: Callable[[], Any]


def case_correction(layer: Labels, target: Path, layers: Sequence[Layer]) -> CaseCorrection:
    """Capture corrected labels for the case's results; undone edits and locks are not part of them."""
    _, attributes, _ = layer.as_layer_data_tuple()
    now, image = np.array(layer.data), image_of(layer, layers)
    return CaseCorrection(
        layer, _unsaved.mark(layer), lambda: write_on_grid(str(target), now, attributes, layers, image)
    )


def layers_of(images: Sequence[ImageLayer], layers: Sequence[Layer]) -> list[Layer]:
    """The layers that go when another case comes: the images and what belongs to them.

    Where labels that were made beside the case's own are unsaved, everything stays.
    """
    own = [layer for layer in labels_among(layers) if image_of(layer, layers) in images]
    if any(_unsaved.is_unsaved(layer) for layer in own):
        return []
    drawn = [layer for layer in layers if isinstance(layer, ImageLayer | Labels) and is_derived(layer)]
    belonging = [layer for layer in drawn if image_of(layer, layers) in images]
    return [*belonging, *own, *(layer for layer in images if layer in layers)]


def pictures(items: Sequence[WorkItem], send: Callable[[object], None], cancel: CancelToken) -> None:
    """Send ``(case, PNG)`` one after the other, in a worker's thread; b"" for a case that gets none."""
    for item in items:
        cancel.raise_if_cancelled()
        png = b""
        if item.case.fault is None:
            try:
                png = thumbnail(item.case.paths, item.labels, THUMBNAIL)
            except (MedUniSegError, OSError, ValueError):
                png = b""  # what is wrong with it is said when it is opened
        send((item.name, png))
