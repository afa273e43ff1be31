"""The readings of a case as layers, and the decision between them on its way to the ledger. Knows no Qt."""

from __future__ import annotations

from collections.abc import Mapping
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
    Agreement,
    CaseReadings,
    Dispute,
    Method,
    adjudicate,
    agreement,
    consensus,
    disputes,
    read_readings,
    shared_cases,
)
from napari_meduniseg import _unsaved
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

_METHODS: Mapping[str, Method] = {"majority": "majority", "staple": "staple"}
"""What a decision may begin with, besides a reader's labels."""
DISPUTED = (255, 0, 255)  # of the map of disputes


@dataclass(frozen=True)
class SharedCase:
    """A case that several readers have labelled; ``decided`` says by whom, empty where nobody has."""

    case: str
    readers: tuple[str, ...]
    decided: str


@dataclass(frozen=True, eq=False)
class OpenedReadings:
    """A case as it was read and compared, in a worker's thread."""

    folder: Path
    readings: CaseReadings
    agreement: Agreement
    map: Image
    regions: list[Dispute]
    arrays: dict[str, np.ndarray]

    @property
    def grid(self) -> Grid:
        """How the viewer turns the image."""
        image = self.readings.image
        return Grid(image.geometry, image.physical, canonical_orientation(image)[1], image)


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
    readings = read_readings(ledger, case)
    arrays = readings.arrays(ledger.dataset.ignored)
    cancel.raise_if_cancelled()
    spacing = readings.image.geometry.spacing
    compared = agreement(arrays, spacing, readings.names, tolerance, cancel)
    numbered, regions = disputes(arrays)
    return OpenedReadings(folder, readings, compared, readings.image.with_array(numbered[None]), regions, arrays)


def add_readings(opened: OpenedReadings, viewer: ViewerModel) -> tuple[ImageLayer, list[Layer]]:
    """Add the image, each reader's labels (hidden but the first) and the map of disputes. Returns image and all."""
    made = image_layers(opened.readings.image)
    layers: list[Layer] = [viewer.add_layer(Layer.create(data, options, kind)) for data, options, kind in made]
    image = layers[0]
    assert isinstance(image, ImageLayer)
    for name, labels in opened.readings.labels.items():
        added = _add(_labels(opened, labels, f"{name}: {opened.readings.case}"), image, viewer)
        added.visible = len(layers) == len(made)
        layers.append(added)
    data = opened.grid.change.forward(opened.map.array)
    shown = np.array(data[0, 0] if opened.map.is_2d else data[0])
    disputed = viewer.add_labels(
        (shown > 0).astype(np.uint8),
        name="Disputed",
        metadata={METADATA_KEY: DERIVED},
        **copied_placement(image),
        **class_options({1: "readers disagree"}, {1: DISPUTED}),
    )
    disputed.contour = 2
    bind(disputed, image)
    layers.append(disputed)
    return image, layers


def add_decision(opened: OpenedReadings, start: str, image: ImageLayer, viewer: ViewerModel) -> Labels:
    """Add the labels that the decision begins with: a consensus (majority, staple), or a reader's."""
    labels = decision(opened, start)
    layer = _add(_labels(opened, labels, f"Decision: {opened.readings.case}"), image, viewer)
    _unsaved.watch(layer)
    _unsaved.changed(layer)  # it is nowhere else
    return layer


def decision(opened: OpenedReadings, start: str) -> Image:
    """The labels that the decision begins with."""
    if start in _METHODS:
        return opened.readings.image.with_array(consensus(opened.arrays, _METHODS[start])[None])
    return opened.readings.labels[start]


def accept_decision(opened: OpenedReadings, shown: np.ndarray, start: str, who: str | None) -> LedgerEntry:
    """Store the decision with its history, in a worker's thread."""
    image = opened.readings.image
    labels = Image(opened.grid.stored(shown), image.geometry, image.physical)
    ledger = Ledger.open(opened.folder)
    return adjudicate(ledger, opened.readings, labels, who=who, consensus=_METHODS.get(start, "reading"))


def said_at(opened: OpenedReadings, region: Dispute) -> str:
    """What each reader says at a disputed region."""
    names = {0: "nothing", **opened.readings.names}
    said = [f"{who}: {names.get(int(one[region.voxel]), 'another class')}" for who, one in opened.arrays.items()]
    return ", ".join(said)


def place_of_voxel(opened: OpenedReadings, voxel: tuple[int, int, int], image: ImageLayer) -> tuple[float, ...]:
    """Where a voxel (d, h, w) of the image's own grid lies in the viewer's world."""
    index = opened.grid.change.forward_index(voxel, opened.map.geometry.shape)
    return tuple(float(value) for value in image.data_to_world(index[-image.ndim :]))


def _labels(opened: OpenedReadings, labels: Image, name: str) -> LayerData:
    names = opened.readings.names
    data, options, kind = label_layer(labels, names, {label: class_colour(label) for label in names})
    return data, {**options, "name": name}, kind


def _add(made: LayerData, image: ImageLayer, viewer: ViewerModel) -> Labels:
    data, options, _ = made
    placed: dict[str, Any] = {**options, **copied_placement(image)}
    layer: Labels = viewer.add_labels(data, **placed)
    bind(layer, image)
    return layer
