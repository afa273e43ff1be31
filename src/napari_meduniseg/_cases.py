"""From a case of a worklist to layers, and from corrected layers back to its results. Knows no Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer

from meduniseg_core.corrections import model_beside
from meduniseg_core.errors import MedUniSegError
from meduniseg_core.events import CancelToken
from meduniseg_core.former_results import EARLIER, FILES, read_record
from meduniseg_core.images import Image, place_labels, read_image, read_labels
from meduniseg_core.provenance import provenance_path, read_provenance
from meduniseg_core.worklist import WorkItem, Worklist, thumbnail
from napari_meduniseg import _unsaved
from napari_meduniseg._layers import LayerData, image_layers, is_derived, label_layer, stored_result_layer
from napari_meduniseg._links import bind, image_of, labels_among
from napari_meduniseg._measuring import is_measuring
from napari_meduniseg._writer import write_on_grid

THUMBNAIL = 56  # px


@dataclass(frozen=True, eq=False)
class OpenedCase:
    """A case as it was read: the layers of its image, and the file of its labels with their layer (made for the
    image's layer)."""

    item: WorkItem
    image: Image
    layers: list[LayerData]
    path: Path | None = None
    labels: Callable[[Layer], LayerData] | None = None


def open_case(worklist: Worklist, item: WorkItem) -> OpenedCase:
    """Read a case with its prediction or correction, in a worker's thread. Raises BadInputError for damaged files."""
    if item.case.fault is not None:
        raise item.case.fault
    image = read_image(item.case.source)
    worklist.seen(item.name, image)
    return with_labels(OpenedCase(item, image, image_layers(image)), item)


def with_labels(opened: OpenedCase, item: WorkItem) -> OpenedCase:
    """The same case with its present labels, in a worker's thread.

    The labels know the whole image (all its channels), so that accepting them stores it; and the prediction, if they
    are one.
    """
    path = item.labels
    if path is None:
        return replace(opened, item=item)
    labels = place_labels(read_labels(path, like=opened.image), opened.image)
    record, provenance = read_record(provenance_path(path)), read_provenance(path)
    if provenance is not None and provenance.model:
        about = {key: value for key, value in record.items() if key not in (FILES, EARLIER)}
        model = model_beside(path)  # checked: the JSON may be anybody's
        about["model_sha256"] = None if model is None else model.sha256
        name = f"{opened.image.name}: {provenance.task}"  # as in Segment; the file has the image's own name
        made = stored_result_layer(labels, opened.image, name, about, edited=item.state != "predicted")
        return replace(opened, item=item, path=path, labels=made)
    classes, colours = ({}, {}) if provenance is None else (provenance.classes, provenance.colours)
    layer = label_layer(labels, classes, colours)
    return replace(opened, item=item, path=path, labels=lambda _image: layer)


def add_image(opened: OpenedCase, viewer: ViewerModel) -> list[ImageLayer]:
    """Add the case's image to the viewer."""
    added = [viewer.add_layer(Layer.create(data, options, kind)) for data, options, kind in opened.layers]
    return [layer for layer in added if isinstance(layer, ImageLayer)]


def add_case_labels(opened: OpenedCase, image: ImageLayer, viewer: ViewerModel) -> Labels | None:
    """Add the case's labels above its image; None if it has none. Labels that are on the disk are not unsaved."""
    if opened.labels is None:
        return None
    data, options, _ = opened.labels(image)
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
    """Capture corrected labels for the case's results; undone edits and locks are left out."""
    _, attributes, _ = layer.as_layer_data_tuple()
    now, image = np.array(layer.data), image_of(layer, layers)
    return CaseCorrection(
        layer, _unsaved.mark(layer), lambda: write_on_grid(str(target), now, attributes, layers, image)
    )


def layers_of(images: Sequence[ImageLayer], layers: Sequence[Layer]) -> list[Layer]:
    """The layers to remove when another case is opened: the images and all that belongs to them.

    If labels that the user made beside the case's own are unsaved, everything stays.
    """
    own = [layer for layer in labels_among(layers) if image_of(layer, layers) in images]
    if any(_unsaved.is_unsaved(layer) for layer in own):
        return []
    drawn: list[Layer] = [layer for layer in layers if is_derived(layer)]
    drawn += [layer for layer in layers if is_measuring(layer)]
    belonging = [layer for layer in drawn if image_of(layer, layers) in images]
    return [*belonging, *own, *(layer for layer in images if layer in layers)]


def pictures(items: Sequence[WorkItem], send: Callable[[object], None], cancel: CancelToken) -> None:
    """Send ``(case, PNG)`` for one case after the other, in a worker's thread; b"" for a case without a picture."""
    for item in items:
        cancel.raise_if_cancelled()
        png = b""
        if item.case.fault is None:
            try:
                png = thumbnail(item.case.paths, item.labels, THUMBNAIL)
            except (MedUniSegError, OSError, ValueError):
                png = b""  # opening the case reports what is wrong with it
        send((item.name, png))
