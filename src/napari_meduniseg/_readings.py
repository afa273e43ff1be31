"""The readings of a case as layers, and the decision between them on its way to the ledger. Knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer

from meduniseg_core.corrections import Ledger, LedgerEntry
from meduniseg_core.events import CancelToken
from meduniseg_core.images import Image, canonical_orientation
from meduniseg_core.images.palette import class_colour
from meduniseg_core.readers import (
    METHODS,
    Agreement,
    CaseReadings,
    Dispute,
    Method,
    adjudicate,
    agreement,
    disputes,
    read_readings,
    shared_cases,
)
from napari_meduniseg import _unsaved
from napari_meduniseg._accepting import accept_elsewhere
from napari_meduniseg._belonging import Grid
from napari_meduniseg._layers import (
    DERIVED,
    METADATA_KEY,
    LayerData,
    class_options,
    copied_placement,
    image_layers,
    label_layer,
)
from napari_meduniseg._links import bind

DISPUTED = (255, 0, 255)  # of the map of disputes


@dataclass(frozen=True)
class SharedCase:
    """A case that several readers have labelled; ``decided``: who decided between them, empty if nobody has."""

    case: str
    readers: tuple[str, ...]
    decided: str


@dataclass(frozen=True, eq=False)
class OpenedReadings:
    """A case as it was read and compared in a worker's thread.

    ``layers`` are those of the readers' labels, ``disputed`` is the map of disputes as the viewer shows it, ``ignored``
    the label of voxels that a reader left open.
    """

    folder: Path
    readings: CaseReadings
    agreement: Agreement
    regions: list[Dispute]
    arrays: dict[str, np.ndarray]
    layers: dict[str, LayerData]
    disputed: np.ndarray
    ignored: int | None

    @property
    def image(self) -> Image:
        """The case's image."""
        return self.readings.image

    @property
    def grid(self) -> Grid:
        """How the viewer turns the image."""
        return Grid(self.image.geometry, self.image.physical, canonical_orientation(self.image)[1], self.image)


def list_shared(folder: Path) -> list[SharedCase]:
    """List the cases of a ledger that several readers have labelled, in a worker's thread."""
    ledger = Ledger.open(folder)
    latest = ledger.cases()
    return [
        SharedCase(case, readers, (latest[case].who or "somebody") if latest[case].adjudicates else "")
        for case, readers in shared_cases(ledger).items()
    ]


def open_readings(folder: Path, case: str, tolerance: float, cancel: CancelToken) -> OpenedReadings:
    """Read a case and compare its readers, in a worker's thread."""
    ledger = Ledger.open(folder)
    readings, ignored = read_readings(ledger, case), ledger.dataset.ignored
    arrays = readings.arrays(ignored)
    cancel.raise_if_cancelled()
    image = readings.image
    compared = agreement(arrays, image.geometry.spacing, readings.names, tolerance, cancel)
    numbered, regions = disputes(arrays)
    cancel.raise_if_cancelled()
    layers = {name: _layer(readings, labels, name) for name, labels in readings.labels.items()}
    turned = canonical_orientation(image)[1].forward(numbered > 0)
    disputed = np.array(turned[0] if image.is_2d else turned, np.uint8)
    return OpenedReadings(folder, readings, compared, regions, arrays, layers, disputed, ignored)


def add_readings(opened: OpenedReadings, viewer: ViewerModel) -> tuple[ImageLayer, list[Layer]]:
    """Add the image, each reader's labels (only the first visible) and the map of disputes.

    Returns the image's layer and all layers.
    """
    made = image_layers(opened.image)
    layers: list[Layer] = [viewer.add_layer(Layer.create(data, options, kind)) for data, options, kind in made]
    image = layers[0]
    assert isinstance(image, ImageLayer)
    for name, labels in opened.layers.items():
        added = _add(labels, image, viewer)
        accept_elsewhere(added, f"{added.name} is what {name} accepted; begin the decision in the panel Readers.")
        added.visible = len(layers) == len(made)
        layers.append(added)
    disputed = viewer.add_labels(
        opened.disputed,
        name="Disputed",
        metadata={METADATA_KEY: DERIVED},
        **copied_placement(image),
        **class_options({1: "readers disagree"}, {1: DISPUTED}),
    )
    disputed.contour = 2
    bind(disputed, image)
    layers.append(disputed)
    return image, layers


def begin_decision(opened: OpenedReadings, start: str) -> LayerData:
    """Make the labels that the decision begins with, in a worker's thread: a consensus (majority, staple), or a
    reader's."""
    method = _method_of(start)
    readings = opened.readings
    labels = readings.labels[start] if method is None else readings.joined(method, opened.ignored)
    return _layer(readings, labels, "Decision")


def add_decision(made: LayerData, image: ImageLayer, viewer: ViewerModel) -> Labels:
    """Add the labels that the decision begins with."""
    layer = _add(made, image, viewer)
    accept_elsewhere(layer, f"{layer.name} is accepted in the panel Readers, with its history.")
    _unsaved.watch(layer)
    _unsaved.changed(layer)  # they are stored nowhere else
    return layer


def accept_decision(opened: OpenedReadings, shown: np.ndarray, start: str, who: str | None) -> LedgerEntry:
    """Store the decision with its history, in a worker's thread."""
    image = opened.image
    labels = Image(opened.grid.stored(shown), image.geometry, image.physical)
    consensus = _method_of(start) or "reading"
    return adjudicate(Ledger.open(opened.folder), opened.readings, labels, who=who, consensus=consensus)


def said_at(opened: OpenedReadings, region: Dispute) -> str:
    """List each reader's label in a disputed region."""
    names = {0: "nothing", **opened.readings.names}
    said = [f"{who}: {names.get(int(one[region.voxel]), 'another class')}" for who, one in opened.arrays.items()]
    return ", ".join(said)


def place_of_voxel(opened: OpenedReadings, voxel: tuple[int, int, int], image: ImageLayer) -> tuple[float, ...]:
    """Where a voxel (d, h, w) of the image's own grid lies in the viewer's world."""
    index = opened.grid.change.forward_index(voxel, opened.image.geometry.shape)
    return tuple(float(value) for value in image.data_to_world(index[-image.ndim :]))


def _method_of(start: str) -> Method | None:
    """The consensus that a decision begins with; None if it begins with a reader's labels."""
    return next((method for method in METHODS if method == start), None)


def _layer(readings: CaseReadings, labels: Image, whose: str) -> LayerData:
    names = readings.names
    data, options, kind = label_layer(labels, names, {label: class_colour(label) for label in names})
    return data, {**options, "name": f"{whose}: {readings.case}"}, kind


def _add(made: LayerData, image: ImageLayer, viewer: ViewerModel) -> Labels:
    data, options, _ = made
    placed: dict[str, Any] = {**options, **copied_placement(image)}
    layer: Labels = viewer.add_labels(data, **placed)
    bind(layer, image)
    return layer
