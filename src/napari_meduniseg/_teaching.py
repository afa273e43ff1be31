"""Strokes painted on a layer of their own, and the labels that the core makes of them. Knows no Qt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels

from meduniseg_core.editing import Edit
from meduniseg_core.errors import UsageError
from meduniseg_core.events import CancelToken, EventSink
from meduniseg_core.images import Reorientation
from meduniseg_core.images.modality_check import likely_modalities
from meduniseg_core.inference import Predictor
from meduniseg_core.interactive import FeatureCache, QuickTask, Stroke, Teacher
from napari_meduniseg._editing import names_of
from napari_meduniseg._layer_input import LayerSnapshot, read_layers
from napari_meduniseg._layers import DERIVED, METADATA_KEY, as_volume, class_options, copied_placement
from napari_meduniseg._links import bind
from napari_meduniseg._views import slice_axis

NOT_TARGET = 1
"""What strokes beside the target are painted with; the strokes of class n are painted with n + 1."""

_GREY = (150, 150, 150)


@dataclass(frozen=True, eq=False)
class Lesson:
    """What the user has painted, prepared in the window's thread.

    ``strokes`` is a copy of the strokes' layer, ``base`` of the labels to be corrected. ``plane`` is the visible slice:
    the layer's axis and the index along it; None for a 2D image.
    """

    snapshots: tuple[LayerSnapshot, ...]
    strokes: np.ndarray
    base: np.ndarray | None
    plane: tuple[int, int] | None


@dataclass(frozen=True, eq=False)
class Taught:
    """New labels of a part of the layer, and what made them."""

    box: tuple[slice, ...]
    labels: np.ndarray
    teacher: Teacher


def add_strokes(viewer: ViewerModel, image: ImageLayer, classes: dict[int, str]) -> Labels:
    """Add the layer that strokes are painted on."""
    names = {NOT_TARGET: "not target", **{label + 1: name for label, name in classes.items()}}
    shape = image.data.shape[: image.ndim]
    options = {
        **copied_placement(image),
        **class_options(names, {NOT_TARGET: _GREY}),
        "name": f"{image.name}: strokes",
        "metadata": {METADATA_KEY: DERIVED},
    }
    layer = viewer.add_labels(np.zeros(shape, np.uint8), **options)
    layer.brush_size = max(1, round(max(shape) / 100))
    bind(layer, image)
    return layer


def add_labels(viewer: ViewerModel, image: ImageLayer, classes: dict[int, str], base: Labels | None) -> Labels:
    """Add the layer of what is taught: empty, or a copy of the labels to be corrected."""
    shape = image.data.shape[: image.ndim]
    data = np.zeros(shape, np.uint8) if base is None else np.array(base.data)
    options = {**copied_placement(image), **class_options(classes, {}), "name": f"{image.name}: taught"}
    layer = viewer.add_labels(data, **options)
    bind(layer, image)
    return layer


def classes_of(base: Labels | None) -> dict[int, str]:
    """The classes to paint strokes of: those of the labels to be corrected, else one."""
    named = {} if base is None else names_of(base)
    return named or {1: "target"}


def visible_plane(layer: ImageLayer, viewer: ViewerModel) -> tuple[int, int] | None:
    """The slice that is shown: the layer's axis and the index along it."""
    if layer.ndim == 2:
        return None
    axis = slice_axis(layer, viewer)
    place = layer.world_to_data(viewer.dims.point)[-layer.ndim :]
    return axis, int(np.clip(round(float(place[axis])), 0, layer.data.shape[axis] - 1))


def teach(
    lesson: Lesson,
    cache: FeatureCache,
    predictor: Callable[[], Predictor | None],
    shown: Callable[[Taught], None],
    events: EventSink,
    cancel: CancelToken,
) -> Taught:
    """Label the visible slice, hand it to ``shown``, then label everything; in a worker's thread.

    Raises UsageError where there are too few strokes.
    """
    taken = read_layers(lesson.snapshots)
    likely = likely_modalities(taken.image)
    modality = likely[0] if len(likely) == 1 else None
    features = cache.get(taken.image, predictor(), modality=modality, events=events, cancel=cancel)
    change = taken.change
    base = None if lesson.base is None else _to_image(lesson.base, change)
    teacher = Teacher(features, base)
    painted = _to_image(lesson.strokes, change)
    for value in np.unique(painted):
        if value:
            where = np.nonzero(painted == value)
            teacher.add(Stroke((where[0], where[1], where[2]), int(value) - 1))
    if not teacher.ready:
        raise UsageError("Paint at least one stroke on the target and one beside it ('Not target').")
    cancel.raise_if_cancelled()
    if lesson.plane is not None:
        axis, index = lesson.plane
        spans = [slice(0, size) for size in lesson.strokes.shape]
        spans[axis] = slice(index, index + 1)
        inside = _box_to_image(tuple(spans), lesson.strokes.shape, change)
        shown(Taught(tuple(spans), change.forward(teacher.labels(inside)[None])[0], teacher))
    return _whole(teacher, change, lesson.strokes.shape, events, cancel)


def apply_task(
    task: QuickTask,
    snapshots: tuple[LayerSnapshot, ...],
    cache: FeatureCache,
    predictor: Callable[[], Predictor | None],
    events: EventSink,
    cancel: CancelToken,
) -> Taught:
    """Label an image with what another one taught, in a worker's thread."""
    taken = read_layers(snapshots)
    session = predictor() if task.tasks else None
    if task.tasks and (session is None or session.model.sha256 != task.model_sha256):
        raise UsageError(f"Quick task {task.name} was taught with features of another model, which is not in use here.")
    features = cache.get(taken.image, session, task.tasks, events=events, cancel=cancel)
    shape = taken.change.forward(taken.image.array).shape[1:]
    shape = shape[1:] if taken.image.is_2d else shape
    return _whole(task.teacher(features), taken.change, shape, events, cancel)


def difference(layer: Labels, taught: Taught) -> Edit:
    """What the new labels change in a layer, as one step."""
    before = np.asarray(layer.data)[taught.box]
    labels = taught.labels.reshape(before.shape)
    where = np.nonzero(before != labels)
    values = labels[where].astype(layer.data.dtype)
    return Edit(tuple(index + (part.start or 0) for index, part in zip(where, taught.box, strict=True)), values)


def _whole(
    teacher: Teacher, change: Reorientation, shape: tuple[int, ...], events: EventSink, cancel: CancelToken
) -> Taught:
    labels = change.forward(teacher.whole(events=events, cancel=cancel)[None])[0]
    return Taught(tuple(slice(0, size) for size in shape), labels.reshape(shape), teacher)


def _to_image(array: np.ndarray, change: Reorientation) -> np.ndarray:
    return np.ascontiguousarray(change.inverse(as_volume(array))[0])


def _box_to_image(spans: tuple[slice, ...], shape: tuple[int, ...], change: Reorientation) -> tuple[slice, ...]:
    box = [slice(0, 1)] * 3
    for span, size, axis, flip in zip(spans, shape, change.axes, change.flips, strict=True):
        box[axis] = slice(size - span.stop, size - span.start) if flip else span
    return tuple(box)
