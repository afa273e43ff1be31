"""The standard medical views and CT windows for a viewer. Knows no Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Layer

from meduniseg_core.images.modality_check import Window, sample
from napari_meduniseg._layers import METADATA_KEY, Origin, is_length, millimetres
from napari_meduniseg._napari_versions import camera_of, canvas_size

View = Literal["axial", "coronal", "sagittal"]

_SHARE = 0.3  # of the canvas or of the image: less is a corner, or a spot
_MARGIN = 0.95  # of the canvas, as napari does
_WHOLE = 0.99  # of an image: all but the last pixel's half
_NEARLY = 0.05  # of an image's longest side

# which of the last three world axes (z, y, x) is sliced, and which way the picture's rows run: the head is up
_ORDER: dict[View, tuple[int, int, int]] = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}


@dataclass(frozen=True)
class PatientSides:
    """The patient's sides at the edges of the picture: R, L, A, P, S (head) or I (feet)."""

    left: str
    right: str
    top: str
    bottom: str


_TOWARDS = (
    ("I", "S"),
    ("A", "P"),
    ("R", "L"),
)  # of the world's axes z, y, x: the side that each comes from, and the one it grows to


def shown_sides(viewer: ViewerModel, image: ImageLayer | None) -> PatientSides | None:
    """Tell which of the patient's sides lie at the edges of the present view.

    Args:
        viewer: The viewer.
        image: The image that is looked at.

    Returns:
        The sides; None in 3D, for pictures, and where the image's orientation is not known.
    """
    if image is None or viewer.dims.ndisplay != 2:
        return None
    rows, columns = (axis - (viewer.dims.ndim - 3) for axis in viewer.dims.order[-2:])
    down, right = camera_of(viewer).orientation2d
    return sides_of(image, rows, columns, down=str(down) == "down", right=str(right) == "right")


def sides_of(image: ImageLayer, rows: int, columns: int, *, down: bool, right: bool) -> PatientSides | None:
    """Tell which of the patient's sides lie at the edges of a plane.

    Args:
        image: The image that is looked at.
        rows: Its axis along which rows follow each other.
        columns: Its axis along which columns do.
        down: Whether rows run downwards.
        right: Whether columns run to the right.

    Returns:
        The sides; None for pictures and where the image's orientation is not known.
    """
    record = image.metadata.get(METADATA_KEY)
    if image.ndim != 3 or not isinstance(record, Origin):
        return None
    if not record.image.physical or any(finding.code == "orientation_unknown" for finding in record.image.findings):
        return None
    top, bottom = _TOWARDS[rows] if down else _TOWARDS[rows][::-1]
    left, other = _TOWARDS[columns] if right else _TOWARDS[columns][::-1]
    return PatientSides(left, other, top, bottom)


def active_view(viewer: ViewerModel) -> View | None:
    """The standard view that is shown; None in 3D and for any other order of axes."""
    dims = viewer.dims
    if dims.ndim < 3 or dims.ndisplay != 2:
        return None
    order = tuple(axis - (dims.ndim - 3) for axis in dims.order[-3:])
    return next((view for view, axes in _ORDER.items() if axes == order), None)


def active_window(layer: ImageLayer | None, windows: Sequence[Window]) -> Window | None:
    """The window of ``windows`` that an image layer is shown in; None for any other contrast."""
    if layer is None or layer.rgb:
        return None
    limits = tuple(layer.contrast_limits)
    return next((one for one in windows if np.allclose(limits, (one.low, one.high), atol=0.5)), None)


def pixels_per_mm(viewer: ViewerModel, layer: Layer) -> float:
    """How many pixels of the canvas one mm of a layer takes (of a layer without lengths: one of its units)."""
    unit = next(iter(layer.units))
    shown = viewer.layers.extent.units
    of_world = next(iter(shown)) if shown is not None else unit
    scale = 1.0
    if is_length(unit) and is_length(of_world):
        scale = 1 / millimetres(of_world)
    return float(camera_of(viewer).zoom) * scale


def canvas_places(viewer: ViewerModel, places: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Find where places of the world lie on the canvas while slices are shown.

    Args:
        viewer: The viewer.
        places: (n, axes of the world), in the world's units.
        size: Width and height of the canvas, in pixels.

    Returns:
        (n, 2) x and y, in pixels from the upper left corner.
    """
    camera = camera_of(viewer)
    shown = places[:, list(viewer.dims.displayed)] - np.asarray(camera.center)[-2:]
    down, right = camera.orientation2d
    signs = np.array([1.0 if str(down) == "down" else -1.0, 1.0 if str(right) == "right" else -1.0])
    moved = shown * signs * camera.zoom + np.array([size[1], size[0]]) / 2
    found: np.ndarray = moved[:, ::-1]
    return found


def show_whole_again(viewer: ViewerModel, image: ImageLayer, before: tuple[int, int]) -> None:
    """Show all of an image once more if all of it was in view, filling the canvas, while that had another size.

    Args:
        viewer: The viewer whose camera is changed.
        image: The image that is looked at.
        before: Height and width of the canvas before it changed, in pixels.
    """
    if viewer.dims.ndisplay == 3:
        return
    was, now = _shares_in_view(viewer, image, before), _shares_in_view(viewer, image)
    if was[1] > _WHOLE and was[0] > _SHARE and now[1] <= _WHOLE:
        _fit(viewer, [image])


def set_view(viewer: ViewerModel, view: View, image: ImageLayer | None = None) -> None:
    """Show slices of this orientation the way radiologists do: the patient's left on the right, head or front up.

    Layers are LPS: x grows to the patient's left and y to the back, so axial slices need no flip; z grows to the head,
    so the rows of the other two run upwards. An image without depth is left as it is.

    Args:
        viewer: The viewer.
        view: The orientation.
        image: The image that is looked at: the slice meets it, and it is shown whole. By default all that is visible.
    """
    dims = viewer.dims
    if dims.ndim < 3:
        return
    dims.ndisplay = 2
    lead = dims.ndim - 3
    dims.order = (*range(lead), *(lead + axis for axis in _ORDER[view]))
    camera_of(viewer).orientation2d = ("down" if view == "axial" else "up", "right")
    if image is not None and image.ndim >= 3:
        _meet(viewer, image)
        _fit(viewer, [image])
        return
    _fit(viewer, [layer for layer in viewer.layers if layer.visible])  # what is hidden may lie far away


def bring_into_view(viewer: ViewerModel, image: ImageLayer, before: ImageLayer | None) -> None:
    """Show ``image``, in a slice that meets it and at a zoom that fits, if it lies elsewhere than the present view.

    Slice and zoom stay where they fit: for scans that overlap in the patient, and for photographs of one size.

    Args:
        viewer: The viewer whose dims and camera are changed.
        image: The image to look at; it is visible.
        before: The image that was looked at until now, where that is known.
    """
    dims = viewer.dims
    other_kind = before is not None and before is not image and _lies_in_mm(before) != _lies_in_mm(image)
    anew = other_kind or (before is not None and before.ndim < image.ndim)
    if image.ndim == 2 and dims.ndisplay == 2 and set(dims.order[-2:]) != {dims.ndim - 2, dims.ndim - 1}:
        dims.order = tuple(range(dims.ndim))  # a picture has no other side than its front
        camera_of(viewer).orientation2d = ("down", "right")
    _meet(viewer, image, anew)
    if other_kind or not _is_well_in_view(viewer, image, before):
        _fit(viewer, [image])


def _meet(viewer: ViewerModel, image: ImageLayer, anew: bool = False) -> None:
    """Go to the image's middle slice where the present one does not meet it, or if it is looked at ``anew``."""
    dims = viewer.dims
    low, high = _box(viewer, image)
    for axis in dims.order[: dims.ndim - dims.ndisplay]:
        own = axis - (dims.ndim - image.ndim)
        if own >= 0 and (anew or not low[own] <= dims.point[axis] <= high[own]):
            dims.set_point(axis, (low[own] + high[own]) / 2)


def show_place(viewer: ViewerModel, world: Sequence[float]) -> None:
    """Show the slice through a place of a layer's world, whose axes are the viewer's last ones."""
    point = list(viewer.dims.point)
    point[-len(world) :] = world
    viewer.dims.point = point


def is_out_of_sight(viewer: ViewerModel, image: ImageLayer) -> bool:
    """Whether the viewer's present slice and zoom show nothing of a (visible) image."""
    dims = viewer.dims
    low, high = _box(viewer, image)
    for axis in dims.order[: dims.ndim - dims.ndisplay]:
        own = axis - (dims.ndim - image.ndim)
        if own >= 0 and not low[own] <= dims.point[axis] <= high[own]:
            return True
    return dims.ndisplay == 2 and _shares_in_view(viewer, image)[0] == 0


def _fit(viewer: ViewerModel, layers: Sequence[Layer]) -> None:
    """Show all of these layers in 2D, and all layers in 3D.

    Napari's own method (0.9) fails for pictures beside volumes.
    """
    dims, camera = viewer.dims, camera_of(viewer)
    axes = [axis - dims.ndim for axis in dims.order[-2:]]  # counted from the last: a picture has no others
    boxes = [_box(viewer, layer) for layer in layers if layer.ndim >= -min(axes)]
    if dims.ndisplay == 3 or not boxes:
        viewer.reset_view()
        return
    low = np.min([box[0][axes] for box in boxes], axis=0)
    high = np.max([box[1][axes] for box in boxes], axis=0)
    camera.center = (camera.center[0], *(low + high) / 2)
    camera.zoom = _MARGIN * float(np.min(np.asarray(canvas_size(viewer)) / np.maximum(high - low, 1e-9)))


def _is_well_in_view(viewer: ViewerModel, image: ImageLayer, before: ImageLayer | None) -> bool:
    if viewer.dims.ndisplay == 3:
        return before is not None and _alike(viewer, image, before)
    of_view, of_image = _shares_in_view(viewer, image)
    if max(of_view, of_image) < _SHARE or of_view < _SHARE**2:
        return False
    return (_lies_in_mm(image) and _is_centre_within(viewer, image)) or (
        before is not None and _alike(viewer, image, before)
    )


def _is_centre_within(viewer: ViewerModel, image: ImageLayer) -> bool:
    """Whether the canvas's centre lies on the image. (A corner of another patient's scan may reach into the view.)"""
    low, high = _box(viewer, image)
    axes = [axis - viewer.dims.ndim for axis in viewer.dims.order[-2:]]
    centre = np.asarray(camera_of(viewer).center)[-2:]
    return bool(np.all((low[axes] <= centre) & (centre <= high[axes])))


def _alike(viewer: ViewerModel, image: ImageLayer, before: ImageLayer) -> bool:
    """Whether two layers fill about the same box in the world."""
    one, other = _box(viewer, image), _box(viewer, before)
    return image.ndim == before.ndim and bool(
        np.allclose(one, other, rtol=0, atol=_NEARLY * float(np.max(one[1] - one[0])))
    )


def _lies_in_mm(layer: Layer) -> bool:
    return all(is_length(unit) for unit in layer.units)


def _shares_in_view(
    viewer: ViewerModel, image: ImageLayer, canvas: tuple[int, int] | None = None
) -> tuple[float, float]:
    """How much of the canvas (of this height and width) shows the image's box, and how much of the box is in view."""
    camera, displayed = camera_of(viewer), viewer.dims.order[-2:]
    half = np.asarray(canvas or canvas_size(viewer)) / camera.zoom / 2
    centre = np.asarray(camera.center)[-2:]
    low, high = _box(viewer, image)
    own = [axis - (viewer.dims.ndim - image.ndim) for axis in displayed]
    if min(own) < 0:
        return 0.0, 0.0
    sides = np.minimum(high[own], centre + half) - np.maximum(low[own], centre - half)
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / float(np.prod(2 * half)), shared / max(float(np.prod(high[own] - low[own])), 1e-12)


def _box(viewer: ViewerModel, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest corner of a layer, in the viewer's world."""
    low, high = np.asarray(layer.extent.world, dtype=float)
    units = viewer.layers.extent.units
    if units is not None and all(is_length(unit) for unit in (*units, *layer.units)):
        factors = [
            millimetres(own) / millimetres(shown) for own, shown in zip(layer.units, units[-layer.ndim :], strict=True)
        ]
        low, high = low * factors, high * factors
    return low, high


def set_window(layer: ImageLayer, window: Window) -> None:
    """Show a CT layer in this window."""
    low, high = layer.contrast_limits_range
    layer.contrast_limits_range = (min(low, window.low), max(high, window.high))
    layer.contrast_limits = (window.low, window.high)


def reach_all_intensities(layer: ImageLayer) -> None:
    """Let the slider of the contrast reach all of an image that was opened in a part of its range."""
    record = layer.metadata.get(METADATA_KEY)
    if layer.rgb or not isinstance(record, Origin):
        return
    values = sample(record.image.array[0])  # of a large volume not each: one outlier would make the slider useless
    values = values[np.isfinite(values)]
    if values.size:
        low, high = layer.contrast_limits_range
        layer.contrast_limits_range = (min(low, float(values.min())), max(high, float(values.max())))


def slice_axis(layer: Layer, viewer: ViewerModel) -> int:
    """The axis of the layer along which the viewer slices."""
    if layer.ndim < 3:
        return 0
    return int(viewer.dims.order[-3]) - int(viewer.dims.ndim - layer.ndim)
