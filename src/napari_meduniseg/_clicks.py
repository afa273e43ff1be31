"""Corrections by a click on a labels layer: which of its voxels a click, and a lasso, change. Knows no Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels

from meduniseg_core.editing import Edit
from meduniseg_core.errors import UsageError
from meduniseg_core.events import CancelToken, EventSink
from meduniseg_core.interactive import grow_at, lasso_mask, remove_at
from napari_meduniseg._editing import Locks, Rule
from napari_meduniseg._features import FeatureSource, Found, MadeBy, made_by
from napari_meduniseg._layer_input import LayerSnapshot, snapshot_layers, to_image
from napari_meduniseg._links import known_image

_STEP = 2  # pixels of the canvas: a shorter drag is a click


@dataclass(frozen=True, eq=False)
class Lasso:
    """A line drawn around a part of a slice: ``corners`` (n, axes of the world), and its mask on the labels' grid."""

    corners: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True, eq=False)
class Click:
    """A click: the voxel of the layer, and the class that grows there; None removes the part that is there."""

    at: tuple[int, ...]
    label: int | None
    labels: np.ndarray
    lasso: np.ndarray | None


def click_on(layer: Labels, position: Sequence[float], lasso: Lasso | None, over: bool) -> Click:
    """Find out what a click means: on background it grows the layer's selected class, on a class it removes that part.

    ``over``: the selected class also grows over other classes (a click on a part of it still removes that part).
    Raises UsageError for a click outside the labels.
    """
    labels = np.asarray(layer.data)
    place = np.rint(np.asarray(layer.world_to_data(tuple(position)))[-layer.ndim :]).astype(int)
    at = tuple(int(value) for value in place)
    if any(not 0 <= value < size for value, size in zip(at, labels.shape, strict=True)):
        raise UsageError("The click lies outside the labels.")
    there, chosen = int(labels[at]), int(layer.selected_label)
    grows = there == 0 or (over and there != chosen)
    return Click(at, chosen if grows else None, labels, None if lasso is None else lasso.mask)


def draw_lasso(layer: Labels, positions: Sequence[Sequence[float]], axis: int) -> Lasso:
    """Close a line that was drawn on the visible slice; ``axis`` is the axis that is sliced.

    Raises UsageError if it encloses nothing.
    """
    corners = np.array([np.asarray(layer.world_to_data(tuple(place)))[-layer.ndim :] for place in positions])
    return Lasso(np.asarray(positions, float), lasso_mask(layer.data.shape, corners, axis))


def is_drag(positions: Sequence[Sequence[float]], pixels: float) -> bool:
    """Whether the mouse moved between press and release; ``pixels``: of the canvas, for one unit of the world."""
    places = np.asarray(positions, float)
    return bool(np.abs(places - places[0]).max() * pixels > _STEP)


@dataclass(frozen=True, eq=False)
class Surroundings:
    """The image that labels belong to, prepared in the window's thread."""

    snapshots: tuple[LayerSnapshot, ...]
    made_by: MadeBy
    source: FeatureSource

    def look(self, events: EventSink, cancel: CancelToken) -> Found:
        """Compute the image's features, for a worker's thread."""
        return self.source.of_layers(self.snapshots, self.made_by, events, cancel)


def surroundings(layer: Labels, image: ImageLayer | None, source: FeatureSource) -> Surroundings:
    """Prepare the computation of features of the labels' image.

    Raises UsageError if the image is not known, and BadInputError if it cannot be used.
    """
    return Surroundings(snapshot_layers([known_image(layer, image)]), made_by(layer), source)


def correction(
    layer: Labels, click: Click, locks: Locks, image: ImageLayer | None, source: FeatureSource
) -> Callable[[EventSink, CancelToken], Edit]:
    """Prepare the change that a click makes. A part that is clicked on is removed unless its class is locked.

    Returns a function for a worker's thread. Raises as `surroundings` does.
    """
    if click.label is None:
        locked = frozenset(locks.of(layer))
        return lambda _events, _cancel: remove_at(click.labels, click.at, lasso=click.lasso, locked=locked)
    rule, around = locks.rule(layer, click.label), surroundings(layer, image, source)
    return lambda events, cancel: _grown(click, rule, around, events, cancel)


def _grown(click: Click, rule: Rule, around: Surroundings, events: EventSink, cancel: CancelToken) -> Edit:
    assert click.label is not None
    features, change = around.look(events, cancel).features, around.snapshots[0].change
    place = (0,) * (3 - len(click.at)) + click.at
    edit = grow_at(
        features,
        to_image(click.labels, change),
        change.inverse_index(place, features.shape),
        click.label,
        lasso=None if click.lasso is None else to_image(click.lasso, change),
        locked=rule.locked,
        over=rule.over,
    )
    where = change.forward_index(edit.where, features.shape)
    return Edit(where[3 - click.labels.ndim :], edit.values)
