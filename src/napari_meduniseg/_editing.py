"""Editing a labels layer: each operation of the core becomes one undo step of napari. Knows no Qt."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, wraps
from typing import Any, Literal
from weakref import WeakKeyDictionary, WeakSet

import napari
import numpy as np
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels

from meduniseg_core import editing
from meduniseg_core.editing import Edit
from meduniseg_core.errors import UsageError
from meduniseg_core.images.palette import Colour
from napari_meduniseg._intensities import intensities
from napari_meduniseg._layers import class_options, shown_colour, spacing_of
from napari_meduniseg._links import lies_on
from napari_meduniseg._views import slice_axis

PaintOver = Literal["background", "visible", "everything"]
"""What loses its class to what is painted: nothing but the background, visible classes too, or all of them."""

AT_ONCE = 1 << 18
"""Voxels that are changed in the window's thread before it may do something else."""

_CONTOUR = 2  # pixels
_MOST_BALLS = 32  # for one move of the mouse
_LOCKED = "A locked class was left as it is; unlock it in the palette to change it."
_KEPT = {
    "background": "Other classes were left as they are: Paint over says background only.",
    "visible": "Hidden classes were left as they are: Paint over says visible classes.",
}


@dataclass(frozen=True)
class Rule:
    """What one step may change: never ``locked`` classes, and only classes in ``over`` (None: all others)."""

    locked: frozenset[int] = frozenset()
    over: tuple[int, ...] | None = None


@dataclass
class Locks:
    """What may not be painted over: each layer's locked classes, and what ``paint_over`` excludes.

    Locks follow the layer, not its name. ``blocked`` is called with a sentence when napari's own tools were kept from
    changing something; ``changed`` is called with a layer whose locks have changed.
    """

    blocked: Callable[[str], None] = lambda _sentence: None
    changed: Callable[[Labels], None] = lambda _layer: None
    paint_over: PaintOver = "background"
    _by_layer: WeakKeyDictionary[Labels, set[int]] = field(default_factory=WeakKeyDictionary)
    _guarded: WeakSet[Labels] = field(default_factory=WeakSet)

    def of(self, layer: Labels) -> set[int]:
        """The locked labels of a layer."""
        return self._by_layer.setdefault(layer, set())

    def set(self, layer: Labels, label: int, locked: bool) -> None:
        """Lock or unlock a class."""
        (self.of(layer).add if locked else self.of(layer).discard)(label)
        self.changed(layer)

    def rule(self, layer: Labels, label: int) -> Rule:
        """The rule for painting with ``label``. Erasing (0) over background only means erasing the selected class."""
        locked = frozenset(self.of(layer))
        if self.paint_over == "everything":
            return Rule(locked)
        if self.paint_over == "background":
            return Rule(locked, (int(layer.selected_label),) if label == 0 else ())
        hidden, only = _hidden(layer)
        return Rule(locked | (hidden - {label}), only)

    def guard(self, layer: Labels) -> None:
        """Make napari's own brush, eraser, fill and polygon follow the rule.

        They all write through one method, which is replaced on this layer by one that leaves protected voxels out
        before anything is written. So a stroke stays one undo step, and undo restores exactly what it changed. napari
        has no public hook for this (its *preserve labels* protects all classes or none). Before 0.8 the method is
        ``data_setitem``, through which programs write, too: there it follows the rule only while a tool is at work.
        """
        step = "_apply_mask_to_data" if hasattr(layer, "_apply_mask_to_data") else "data_setitem"
        write: Callable[..., np.ndarray | None] | None = getattr(layer, step, None)
        if layer in self._guarded or write is None:
            return
        self._guarded.add(layer)

        def write_mask(data: np.ndarray, mask: np.ndarray, new_label: int, *rest: Any) -> np.ndarray | None:
            allowed = mask.copy()
            allowed[mask] = self._free(layer, data[mask], new_label)
            return write(data, allowed, new_label, *rest)

        if step == "_apply_mask_to_data":
            setattr(layer, step, write_mask)
            return
        is_tool_at_work = _notice_tools(layer)

        def write_indices(indices: tuple[np.ndarray, ...], value: Any, refresh: bool = True) -> None:
            if is_tool_at_work():
                free = self._free(layer, np.asarray(layer.data)[tuple(indices)], int(value))
                indices = tuple(np.asarray(axis)[free] for axis in indices)
            write(indices, value, refresh)

        setattr(layer, step, write_indices)

    def _free(self, layer: Labels, before: np.ndarray, new_label: int) -> np.ndarray:
        """Find which of these voxels a tool may change, and say so where it may not change others."""
        rule = self.rule(layer, new_label)
        free = editing.takeable(before, new_label, rule.locked, rule.over)
        barred = before[~free & (before != new_label)]
        if barred.size:
            locked = self.of(layer)
            self.blocked(self.why(new_label in locked or bool(np.isin(barred, list(locked)).any())))
        return free

    def why(self, locked: bool) -> str:
        """Say why something was left as it is: by a lock, or by the choice of what to paint over."""
        return _LOCKED if locked or self.paint_over == "everything" else _KEPT[self.paint_over]


def _notice_tools(layer: Labels) -> Callable[[], bool]:
    """Replace napari's tools on this layer by ones that are noticed; returns whether one of them is at work."""
    at_work = 0

    def noticed(tool: Callable[..., None]) -> Callable[..., None]:
        @wraps(tool)
        def use(*arguments: Any, **options: Any) -> None:
            nonlocal at_work
            at_work += 1
            try:
                tool(*arguments, **options)
            finally:
                at_work -= 1

        return use

    for name in ("paint", "fill", "paint_polygon"):
        setattr(layer, name, noticed(getattr(layer, name)))
    return lambda: at_work > 0


@cache
def locks_fault() -> str | None:
    """Find out whether napari's own tools respect the locks, by trying its brush and fill on a tiny layer, once.

    What `Locks.guard` replaces is not public API of napari, and any version may rename or bypass it.

    Returns:
        A sentence for the user where they do not; None where all is well.
    """
    if _locks_are_kept():
        return None
    return (
        f"napari {napari.__version__} does not let us keep locks from its own brush, fill and polygon: they paint over "
        "locked classes. The operations of this panel keep them; napari 0.9.2 is known to work."
    )


def _locks_are_kept() -> bool:
    layer = Labels(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]], np.uint8))
    locks = Locks(paint_over="everything")
    locks.set(layer, 1, True)
    try:
        locks.guard(layer)
        layer.brush_size = 3
        layer.paint((1, 1), 2)
        layer.fill((0, 0), 3)
    except (AttributeError, TypeError, ValueError, IndexError):
        return False  # its tools work in another way by now
    data = np.asarray(layer.data)
    return bool((data[:2, :2] == 1).all() and (data == 2).any())


def _hidden(layer: Labels) -> tuple[frozenset[int], tuple[int, ...] | None]:
    """The labels that are not shown; if only some can be shown at all, those that can."""
    if layer.show_selected_label:
        return frozenset(), (int(layer.selected_label),)
    colours = getattr(layer.colormap, "color_dict", None)
    if colours is None:
        return frozenset(), None
    seen = {label: bool(np.asarray(colour)[3] > 0) for label, colour in colours.items()}
    named = {int(label): shown for label, shown in seen.items() if label is not None}
    hidden = frozenset(label for label, shown in named.items() if not shown and label)
    others = seen.get(None, False)
    return hidden, None if others else tuple(label for label, shown in named.items() if shown)


def apply(layer: Labels, edit: Edit) -> int:
    """Change the layer in one undo step; returns the number of voxels that changed."""
    if edit.count:
        Labels.data_setitem(layer, edit.where, edit.values)  # the class's own: the edit has minded the locks already
    return edit.count


def apply_in_steps(layer: Labels, edit: Edit) -> Iterator[int]:
    """Change the layer in one undo step, a bounded number of voxels at a time; yields how many each time.

    It ends early where the layer is given other voxels meanwhile.
    """
    array = layer.data
    with layer.block_history():
        for first in range(0, edit.count, AT_ONCE):
            if layer.data is not array:
                return
            some = slice(first, first + AT_ONCE)
            yield apply(layer, Edit(tuple(index[some] for index in edit.where), edit.values[some]))


def operation(name: str, layer: Labels, rule: Rule, viewer: ViewerModel, amount: float) -> Callable[[], Edit]:
    """Prepare the operation of the button ``name`` on the layer's selected class.

    Returns a function that computes the edit, for a worker's thread. It raises UsageError where the edit is impossible;
    what can be checked at once is raised here.
    """
    labels, locked, over = _array(layer), rule.locked, rule.over
    label = int(layer.selected_label)
    spacing = spacing_of(layer)
    axis = slice_axis(layer, viewer)
    calls: dict[str, Callable[[], Edit]] = {
        "fill_holes": lambda: editing.fill_holes(labels, label, locked=locked, over=over),
        "fill_holes_in_slices": lambda: editing.fill_holes(
            labels, label, axis=axis if labels.ndim == 3 else None, locked=locked, over=over
        ),
        "keep_largest": lambda: editing.keep_largest(labels, label, locked=locked),
        "remove_islands": lambda: editing.remove_islands(labels, label, amount, spacing, locked=locked),
        "smooth": lambda: editing.smooth(labels, label, amount, spacing, locked=locked, over=over),
        "grow": lambda: editing.grow(labels, label, amount, spacing, locked=locked, over=over),
        "shrink": lambda: editing.shrink(labels, label, amount, spacing, locked=locked),
        "fill_between": lambda: editing.fill_between(labels, label, axis, spacing, locked=locked, over=over),
    }
    return calls[name]


def relabel_at(layer: Labels, position: tuple[float, ...], label: int, rule: Rule) -> Callable[[], Edit]:
    """Prepare to give the component at a place in the world another label.

    Returns a function that computes the edit, for a worker's thread. Only locks protect the component: a click on it
    means its class.
    """
    place = np.rint(np.asarray(layer.world_to_data(position))[-layer.ndim :]).astype(int)
    labels, index = _array(layer), [int(value) for value in place]
    return lambda: editing.relabel_component(labels, index, label, locked=rule.locked)


def sphere_at(
    layer: Labels,
    position: tuple[float, ...],
    radius: float,
    label: int,
    rule: Rule,
    image: ImageLayer | None = None,
    limits: tuple[float, float] | None = None,
) -> Edit:
    """Paint a ball (radius in mm) at a place in the world.

    With ``image``, only voxels whose intensity is within ``limits``.
    """
    bounded = image if limits is not None else None
    if bounded is not None and (
        tuple(bounded.data.shape[: bounded.ndim]) != tuple(layer.data.shape) or not lies_on(layer, bounded)
    ):
        raise UsageError(f"{bounded.name} has another grid than {layer.name}; choose the image the labels belong to.")
    centre = np.asarray(layer.world_to_data(position))[-layer.ndim :]
    return editing.sphere(
        _array(layer),
        [float(value) for value in centre],
        radius,
        label,
        spacing_of(layer),
        image=None if bounded is None else intensities(bounded),
        limits=limits,
        locked=rule.locked,
        over=rule.over,
    )


def places_between(
    layer: Labels, start: tuple[float, ...], end: tuple[float, ...], radius: float
) -> list[tuple[float, ...]]:
    """Find the places in the world, the last one ``end``, at which balls (radius in mm) join to a stroke.

    A mouse that moves fast is told of far apart.
    """
    way = np.asarray(layer.world_to_data(end)) - np.asarray(layer.world_to_data(start))
    length = float(np.linalg.norm(way[-layer.ndim :] * np.asarray(spacing_of(layer))))
    count = min(_MOST_BALLS, max(1, math.ceil(length / (radius / 2))))
    first, last = np.asarray(start, float), np.asarray(end, float)
    return [tuple((first + (last - first) * number / count).tolist()) for number in range(1, count + 1)]


def class_names_of(layer: Labels) -> dict[int, str]:
    """The class names in the layer's features."""
    features = layer.features
    if "index" not in features or "name" not in features:
        return {}
    return {int(index): str(name) for index, name in zip(features["index"], features["name"], strict=True) if index}


def add_class(layer: Labels, name: str, colour: Colour | None = None) -> int:
    """Give a name and a colour (the palette's where none is given) to the lowest label that has no name.

    Returns the label. Voxels that are painted with it have the name from now on. Raises UsageError for a name that
    exists already.
    """
    names = class_names_of(layer)
    if name in names.values() or name.lower() in ("background", "ignore"):
        raise UsageError(f"'{name}' cannot be a new class: there is one of that name; give another.")
    label = next(number for number in range(1, len(names) + 2) if number not in names)
    names = dict(sorted({**names, label: name}.items()))
    colours = {number: shown_colour(layer, number) if number != label else colour for number in names}
    kept = {number: found for number, found in colours.items() if found is not None}
    options = class_options(names, kept)
    layer.features = options["features"]
    layer.colormap = options["colormap"]
    return label


def toggle_contour(layer: Labels) -> None:
    """Show the labels as outlines, or filled again."""
    layer.contour = 0 if layer.contour else _CONTOUR


def unnamed(layer: Labels) -> Callable[[], list[int]]:
    """Prepare to find painted labels without a name.

    Returns a function for a worker's thread, because it looks at every voxel.
    """
    labels, named = np.asarray(layer.data), set(class_names_of(layer))
    return lambda: [label for label in editing.unique_labels(labels) if label and label not in named]


def uncertainty_for(labels: Labels | None, viewer: ViewerModel) -> ImageLayer | None:
    """The newest uncertainty layer of a volume on the same grid as ``labels``."""
    for layer in reversed(viewer.layers):
        known = isinstance(layer, ImageLayer) and layer.ndim == 3 and "uncertainty" in layer.name
        if known and (labels is None or layer.data.shape == labels.data.shape):
            return layer
    return None


def next_doubtful(uncertainty: np.ndarray, axis: int, now: int, threshold: float = 0.25) -> int | None:
    """Find the next slice after ``now`` (and from the start again) that is most doubtful in its neighbourhood.

    A slice's doubt is the number of voxels whose uncertainty exceeds ``threshold``; only local maxima count. Returns
    None where no slice is in doubt.
    """
    others = tuple(position for position in range(uncertainty.ndim) if position != axis)
    doubt = (uncertainty > threshold).sum(axis=others)
    padded = np.pad(doubt, 1, constant_values=-1)
    peaks = np.flatnonzero((doubt > 0) & (doubt >= padded[:-2]) & (doubt > padded[2:]))
    if peaks.size == 0:
        return None
    later = peaks[peaks > now]
    return int(later[0] if later.size else peaks[0])


def _array(layer: Labels) -> np.ndarray:
    if layer.multiscale:
        raise UsageError(f"{layer.name} is multiscale and cannot be edited here.")
    array = np.asarray(layer.data)
    if array.ndim not in (2, 3):
        raise UsageError(f"{layer.name} has {array.ndim} dimensions; editing works in two and three.")
    return array
