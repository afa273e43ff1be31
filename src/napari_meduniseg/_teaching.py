"""Strokes painted on a layer of their own, and the labels that the core makes of them. Knows no Qt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels

from meduniseg_core.editing import Edit, unique_labels
from meduniseg_core.errors import UsageError
from meduniseg_core.events import CancelToken, EventSink
from meduniseg_core.images import Reorientation
from meduniseg_core.images.boxes import box_slices, whole_box
from meduniseg_core.interactive import QuickTask, Teacher, strokes_in
from napari_meduniseg._editing import AT_ONCE, apply, class_names_of
from napari_meduniseg._features import FeatureSource, MadeBy
from napari_meduniseg._layer_input import LayerSnapshot, read_layers, to_image
from napari_meduniseg._layers import DERIVED, METADATA_KEY, class_options, copied_placement, shown_colour
from napari_meduniseg._links import bind
from napari_meduniseg._views import slice_axis

NOT_TARGET = 1
"""The label of strokes beside the target; strokes of class n have the label n + 1."""

_GREY = (150, 150, 150)


@dataclass(frozen=True, eq=False)
class Lesson:
    """The user's strokes, captured in the window's thread.

    ``strokes`` is a copy of the strokes' layer, ``base`` of the labels to be corrected. ``plane`` is the visible slice:
    the layer's axis and the index along it; None for a 2D image. ``made_by`` chooses the network; None: no network.
    """

    snapshots: tuple[LayerSnapshot, ...]
    strokes: np.ndarray
    base: np.ndarray | None
    plane: tuple[int, int] | None
    made_by: MadeBy | None


@dataclass(frozen=True, eq=False)
class Taught:
    """New labels of a part of the layer, the teacher that made them, and a sentence about its features."""

    box: tuple[slice, ...]
    labels: np.ndarray
    teacher: Teacher
    text: str = ""


@dataclass(frozen=True)
class TooFew:
    """There is too little to learn from; ``target`` and ``beside``: which strokes there are."""

    target: bool
    beside: bool


def add_strokes(viewer: ViewerModel, image: ImageLayer, taught: Labels) -> Labels:
    """Add the layer that strokes are painted on, in the colours of the classes that they teach."""
    classes = class_names_of(taught)
    known = {label + 1: shown_colour(taught, label) for label in classes}
    colours = {label: colour for label, colour in known.items() if colour is not None}
    names = {NOT_TARGET: "not target", **{label + 1: name for label, name in classes.items()}}
    shape = image.data.shape[: image.ndim]
    options = {
        **copied_placement(image),
        **class_options(names, {**colours, NOT_TARGET: _GREY}),
        "name": f"{image.name}: strokes",
        "metadata": {METADATA_KEY: DERIVED},
    }
    layer = viewer.add_labels(np.zeros(shape, np.uint8), **options)
    layer.brush_size = max(1, round(max(shape) / 100))
    bind(layer, image)
    return layer


def add_labels(viewer: ViewerModel, image: ImageLayer, classes: dict[int, str], base: Labels | None) -> Labels:
    """Add the layer for the taught labels: empty, or a copy of the labels to be corrected."""
    shape = image.data.shape[: image.ndim]
    data = np.zeros(shape, np.uint8) if base is None else np.array(base.data)
    known = {} if base is None else {label: shown_colour(base, label) for label in classes}
    colours = {label: colour for label, colour in known.items() if colour is not None}
    options = {**copied_placement(image), **class_options(classes, colours), "name": f"{image.name}: taught"}
    layer = viewer.add_labels(data, **options)
    bind(layer, image)
    return layer


def classes_of(base: Labels | None) -> dict[int, str]:
    """The classes to paint strokes of: those of the labels to be corrected, else one."""
    named = {} if base is None else class_names_of(base)
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
    source: FeatureSource,
    shown: Callable[[Taught], None],
    events: EventSink,
    cancel: CancelToken,
) -> Taught | TooFew:
    """Label the visible slice and hand it to ``shown``, then label the whole image; in a worker's thread."""
    present = [value for value in unique_labels(lesson.strokes) if value]
    if len(present) < 2 and not (present and lesson.base is not None):
        return TooFew(any(value != NOT_TARGET for value in present), NOT_TARGET in present)
    found = source.of_layers(lesson.snapshots, lesson.made_by, events, cancel)
    features, change = found.features, lesson.snapshots[0].change
    base = None if lesson.base is None else to_image(lesson.base, change)
    teacher = Teacher(features, base)
    for stroke in strokes_in(to_image(lesson.strokes, change)):
        teacher.add(stroke)
    cancel.raise_if_cancelled()
    if lesson.plane is not None:
        axis, index = lesson.plane
        spans = list(whole_box(lesson.strokes.shape))
        spans[axis] = (index, index + 1)
        box = spans[0], spans[1], spans[2]
        labels = teacher.labels(box_slices(change.inverse_box(box, features.shape)))
        shown(Taught(box_slices(box), change.forward(labels[None])[0], teacher, found.text))
    return replace(_whole(teacher, change, lesson.strokes.shape, events, cancel), text=found.text)


def apply_task(
    task: QuickTask,
    snapshots: tuple[LayerSnapshot, ...],
    source: FeatureSource,
    events: EventSink,
    cancel: CancelToken,
) -> Taught:
    """Label an image with a quick task, in a worker's thread.

    Raises UsageError if its model is not among those in use.
    """
    taken = read_layers(snapshots)
    features = source.of_tasks(taken.image, task.model_sha256, task.tasks, events, cancel)
    if features is None:
        raise UsageError(f"Quick task {task.name} was taught with features of a model that is not in use; adopt it.")
    shape = taken.change.forward(taken.image.array).shape[1:]
    shape = shape[1:] if taken.image.is_2d else shape
    return _whole(task.teacher(features), taken.change, shape, events, cancel)


def put_in_steps(layer: Labels, labels: np.ndarray, box: tuple[slice, ...]) -> Iterator[int]:
    """Give a part of a layer new labels as one undo step, a bounded number of voxels at a time.

    Yields the number of voxels that changed, after each step: between them the window may work. Closing the iterator
    leaves the rest as it is.
    """
    slices = max(1, AT_ONCE // max(1, int(np.prod(labels.shape[1:]))))
    first = box[0].start or 0
    with layer.block_history():
        for low in range(0, labels.shape[0], slices):
            inside = slice(first + low, first + min(low + slices, labels.shape[0]))
            yield apply(layer, _difference(layer, labels[low : low + slices], (inside, *box[1:])))


def put(layer: Labels, labels: np.ndarray, box: tuple[slice, ...]) -> int:
    """Give a part of a layer new labels as one undo step; returns the number of voxels that changed."""
    return sum(put_in_steps(layer, labels, box))


def _difference(layer: Labels, labels: np.ndarray, box: tuple[slice, ...]) -> Edit:
    before = np.asarray(layer.data)[box]
    where = np.nonzero(before != labels)
    values = labels[where].astype(layer.data.dtype)
    return Edit(tuple(index + (part.start or 0) for index, part in zip(where, box, strict=True)), values)


def _whole(
    teacher: Teacher, change: Reorientation, shape: tuple[int, ...], events: EventSink, cancel: CancelToken
) -> Taught:
    labels = change.forward(teacher.whole(events=events, cancel=cancel)[None])[0]
    return Taught(tuple(slice(0, size) for size in shape), labels.reshape(shape), teacher)
