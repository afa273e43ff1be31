"""Corrections of a labels layer: each operation of the core becomes one undo step of napari. Knows no Qt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels

from meduniseg_core import editing
from meduniseg_core.editing import Edit
from meduniseg_core.errors import UsageError
from napari_meduniseg._layers import spacing_of
from napari_meduniseg._views import slice_axis


@dataclass
class Locks:
    """Classes that may not be painted over, per layer; they follow the layer, not its name."""

    _by_layer: dict[int, set[int]] = field(default_factory=dict)

    def of(self, layer: Labels) -> set[int]:
        """The locked labels of a layer."""
        return self._by_layer.setdefault(id(layer), set())

    def set(self, layer: Labels, label: int, locked: bool) -> None:
        """Lock or unlock a class."""
        (self.of(layer).add if locked else self.of(layer).discard)(label)


def apply(layer: Labels, edit: Edit) -> int:
    """Change the layer in one undo step; the number of voxels that changed."""
    if edit.count:
        layer.data_setitem(edit.where, edit.values)
    return edit.count


def operation(name: str, layer: Labels, locked: set[int], viewer: ViewerModel, amount: float) -> Edit:
    """The edit that the button ``name`` asks for, for the layer's selected class. UsageError where it cannot be."""
    labels = _array(layer)
    label = int(layer.selected_label)
    spacing = spacing_of(layer)
    axis = slice_axis(layer, viewer)
    calls: dict[str, Callable[[], Edit]] = {
        "fill_holes": lambda: editing.fill_holes(labels, label, locked=locked),
        "fill_holes_in_slices": lambda: editing.fill_holes(
            labels, label, axis=axis if labels.ndim == 3 else None, locked=locked
        ),
        "keep_largest": lambda: editing.keep_largest(labels, label, locked=locked),
        "remove_islands": lambda: editing.remove_islands(labels, label, amount, spacing, locked=locked),
        "smooth": lambda: editing.smooth(labels, label, amount, spacing, locked=locked),
        "grow": lambda: editing.grow(labels, label, amount, spacing, locked=locked),
        "shrink": lambda: editing.shrink(labels, label, amount, spacing, locked=locked),
        "fill_between": lambda: editing.fill_between(labels, label, axis, spacing, locked=locked),
    }
    return calls[name]()


def relabel_at(layer: Labels, position: tuple[float, ...], label: int, locked: set[int]) -> Edit:
    """Give the component at a place of the world another label."""
    index = np.rint(np.asarray(layer.world_to_data(position))[-layer.ndim :]).astype(int)
    return editing.relabel_component(_array(layer), [int(value) for value in index], label, locked=locked)


def sphere_at(
    layer: Labels,
    position: tuple[float, ...],
    radius: float,
    locked: set[int],
    image: ImageLayer | None = None,
    limits: tuple[float, float] | None = None,
) -> Edit:
    """Paint the selected label as a ball in mm at a place of the world, on voxels of ``image`` within ``limits``."""
    if image is not None and limits is not None and tuple(image.data.shape) != tuple(layer.data.shape):
        raise UsageError(f"{image.name} has another grid than {layer.name}; choose the image the labels belong to.")
    centre = np.asarray(layer.world_to_data(position))[-layer.ndim :]
    return editing.sphere(
        _array(layer),
        [float(value) for value in centre],
        radius,
        int(layer.selected_label),
        spacing_of(layer),
        image=None if image is None else np.asarray(image.data),
        limits=limits,
        locked=locked,
    )


def names_of(layer: Labels, invent: bool = True) -> dict[int, str]:
    """The classes of a layer: those that its features name, and (``invent``) those that are painted without a name."""
    features = layer.features
    named = {}
    if "index" in features and "name" in features:
        named = {int(index): str(name) for index, name in zip(features["index"], features["name"], strict=True)}
    if not invent:
        return {label: name for label, name in named.items() if label}
    painted = {int(value) for value in np.unique(np.asarray(layer.data))}
    return {label: named.get(label, f"class {label}") for label in sorted((set(named) | painted) - {0})}


def next_doubtful(uncertainty: np.ndarray, axis: int, now: int, threshold: float = 0.25) -> int | None:
    """The next slice after ``now`` (round the end) with the most doubt in its neighbourhood; None if none is in doubt.

    A slice's doubt is the number of voxels whose uncertainty exceeds ``threshold``; only local maxima are visited.
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
