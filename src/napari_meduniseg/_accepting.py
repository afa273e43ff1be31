"""Accepting a corrected labels layer into a ledger. Knows no Qt."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels

from meduniseg_core.corrections import (
    Ledger,
    LedgerEntry,
    ModelReference,
    channels_for,
    ending_for,
    model_beside,
)
from meduniseg_core.errors import UsageError
from meduniseg_core.former_results import read_record
from meduniseg_core.images import Finding, Image
from meduniseg_core.images.findings import merge
from meduniseg_core.preprocessing import image_doubts
from meduniseg_core.provenance import provenance_path, read_provenance
from napari_meduniseg._belonging import Grid, grid_of, image_layers_at, labels_image, made_for
from napari_meduniseg._collections import Collection, collection_at
from napari_meduniseg._editing import class_names_of
from napari_meduniseg._layer_input import LayerSnapshot, read_layers, snapshot_layers
from napari_meduniseg._layers import METADATA_KEY, Origin
from napari_meduniseg._links import known_image

_ELSEWHERE: WeakKeyDictionary[Labels, str] = WeakKeyDictionary()
"""Labels that Edit does not accept, and what it says instead."""

PAUSE = 60.0
"""Seconds without a change after which the annotator is taken to be away."""


@dataclass
class EditingClock:
    """Measures how long a layer was worked on: the time between changes, without pauses."""

    now: Callable[[], float] = time.monotonic
    seconds: float = 0.0
    _last: float | None = None

    def tick(self) -> None:
        """Note a change."""
        at = self.now()
        if self._last is not None and at - self._last <= PAUSE:
            self.seconds += at - self._last
        self._last = at


@dataclass(frozen=True)
class Origins:
    """What is known about a labels layer: task, modality, the model that predicted it, and its predicted label map."""

    task: str | None = None
    modality: str | None = None
    model: ModelReference | None = None
    predicted: Image | None = None


@dataclass(frozen=True)
class Submission:
    """A correction captured in the GUI's thread, to be accepted in another one."""

    layer: str
    labels: Callable[[], np.ndarray]
    attributes: dict[str, Any]
    image: Image | tuple[LayerSnapshot, ...]
    grid: Grid | None
    origins: Origins
    classes: tuple[str, ...]
    seconds: float | None = None
    patient: str | None = None


@dataclass(frozen=True)
class Acceptance:
    """What was accepted, into what, and what the annotator must know of it."""

    entry: LedgerEntry
    collection: Collection
    findings: tuple[Finding, ...]


def accept_elsewhere(layer: Labels, sentence: str) -> None:
    """Have labels refused here, in these words: another panel accepts them."""
    _ELSEWHERE[layer] = sentence


def check_accepted_here(layer: Labels) -> None:
    """UsageError for labels that another panel accepts."""
    if layer in _ELSEWHERE:
        raise UsageError(_ELSEWHERE[layer])


def origins_of(layer: Labels) -> Origins:
    """Find what the layer's metadata, or the file it was read from, say about it."""
    record = layer.metadata.get(METADATA_KEY)
    if isinstance(record, dict) and isinstance(record.get("provenance"), dict):
        said = record["provenance"]
        model = ModelReference(name=str(said["model"]), sha256=said.get("model_sha256"))
        return Origins(said.get("task"), said.get("modality"), model, record.get("predicted"))
    if isinstance(record, Origin) and record.image.source is not None:
        path = Path(record.image.source)
        said_there = read_provenance(path)
        if said_there is not None and said_there.model:
            modality = read_record(provenance_path(path)).get("modality")
            known = modality if isinstance(modality, str) else None
            return Origins(said_there.task, known, model_beside(path), record.image)
    return Origins()


def class_names(layer: Labels) -> tuple[str, ...]:
    """List the names of labels 1, 2, ... as a ledger needs them; UsageError where a number in between has no name."""
    names = class_names_of(layer)
    highest = max(names, default=0)
    missing = [label for label in range(1, highest + 1) if label not in names]
    if not names or missing:
        raise UsageError(f"Label {missing[0] if missing else 1} of {layer.name} has no name; add it as a class.")
    return tuple(names[label] for label in range(1, highest + 1))


def submission(
    layer: Labels,
    image: ImageLayer | None,
    seconds: float | None = None,
    patient: str | None = None,
    changes: Callable[[], int] = lambda: 0,
) -> Submission:
    """Capture what is to be accepted: the layer as it is now, and its image.

    A result's image is the one it was made for, any other layer's is ``image``. The voxels are copied when the
    submission is accepted, which may take a while; if ``changes`` goes on counting until then, the submission is
    refused. Raises UsageError or BadInputError where something is missing.
    """
    source: Image | tuple[LayerSnapshot, ...]
    grid = made_for(layer)
    if grid is not None and grid.image is not None:
        source = grid.image
    else:
        image = known_image(layer, image)
        source = snapshot_layers((image,))
        grid = grid_of(image) if image_layers_at(layer, (image,)) else None
    _, attributes, _ = layer.as_layer_data_tuple()
    data, before, name = layer.data, changes(), layer.name

    def voxels() -> np.ndarray:
        copied = np.array(data)
        if changes() != before:
            raise UsageError(f"{name} was changed while it was being accepted; accept it again.")
        return copied

    return Submission(
        layer=layer.name,
        labels=voxels,
        attributes=attributes,
        image=source,
        grid=grid,
        origins=origins_of(layer),
        classes=class_names(layer),
        seconds=seconds,
        patient=patient or None,
    )


def accept(given: Submission, into: Collection, reader: str | None = None) -> Acceptance:
    """Accept a submission of a reader into a ledger, which is created where needed. Runs in a worker's thread.

    Raises what `Ledger.accept` raises.
    """
    image = given.image if isinstance(given.image, Image) else read_layers(given.image).image
    array = given.labels()
    if given.grid is not None:
        labels = Image(given.grid.stored(array), given.grid.geometry, given.grid.physical)
    else:
        placed = labels_image(array, given.attributes, ())
        labels = placed.labels
        if placed.like is None or labels.geometry.shape != image.geometry.shape:
            raise UsageError(
                f"{given.layer} has another grid than {image.name}; choose the image the labels belong to."
            )
    if into.exists:
        ledger = Ledger.open(into.folder)
    else:
        assert into.modality is not None
        ledger = Ledger.create(
            into.folder,
            task=into.task,
            modality=into.modality,
            classes=given.classes,
            channels=channels_for(image, into.modality),
            file_ending=ending_for(image),
            exist_ok=True,
            begins_with=(image, labels),
        )
    entry = ledger.accept(
        image,
        labels,
        patient=given.patient,
        predicted=given.origins.predicted,
        model=given.origins.model,
        seconds=given.seconds,
        who=reader,
        classes=given.classes,
    )
    doubts = image_doubts(image, ledger.dataset.channels, ledger.dataset.modality)
    return Acceptance(entry, collection_at(into.folder), merge(doubts, entry.findings))
