"""From the region that the user marks in the viewer to a box of the image's voxels. Knows no Qt."""

from __future__ import annotations

from typing import Literal

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Layer, Shapes

from meduniseg_core.errors import UsageError
from meduniseg_core.images.boxes import Box
from napari_meduniseg._layer_input import LayerSnapshot
from napari_meduniseg._views import slice_axis

Region = Literal["volume", "slice", "box"]


def slice_box(layer: Layer, snapshot: LayerSnapshot, viewer: ViewerModel) -> Box | None:
    """The visible slice, in voxels of the image; None if the image is a single slice. UsageError in a 3D view."""
    if layer.ndim == 2:
        return None  # the visible slice is the image
    if viewer.dims.ndisplay == 3:
        raise UsageError("The viewer shows the volume in 3D; switch to 2D to segment the visible slice.")
    axis = slice_axis(layer, viewer)
    position = layer.world_to_data(viewer.dims.point)[-layer.ndim :]
    size = layer.data.shape[axis]
    index = int(np.clip(round(float(position[axis])), 0, size - 1))
    spans = [(0, length) for length in layer.data.shape[: layer.ndim]]
    spans[axis] = (index, index + 1)
    return _to_image(spans, snapshot)


def shapes_box(layer: ImageLayer, snapshot: LayerSnapshot, shapes: Shapes | None) -> Box:
    """The box around the selected shapes (else all), in voxels of the image.

    A shape that was drawn on one slice extends through the whole depth. UsageError if there is no shape, or the box
    lies outside the image.
    """
    if shapes is None or shapes.nshapes == 0:
        raise UsageError("There is no box; add a Shapes layer, draw a rectangle and choose that layer.")
    chosen = sorted(shapes.selected_data) or range(shapes.nshapes)
    corners = np.concatenate([np.asarray(shapes.data[index], dtype=float) for index in chosen])
    places = np.array([layer.world_to_data(shapes.data_to_world(corner))[-layer.ndim :] for corner in corners])
    shape = layer.data.shape[: layer.ndim]
    low, high = places.min(axis=0), places.max(axis=0)
    spans = []
    for axis, size in enumerate(shape):
        if high[axis] - low[axis] < 1e-3:  # drawn on one slice: through the whole volume
            spans.append((0, size))
            continue
        first = int(np.clip(np.floor(low[axis] + 0.5), 0, size))
        last = int(np.clip(np.floor(high[axis] + 0.5) + 1, 0, size))
        if first >= last:
            raise UsageError(f"The box lies outside {layer.name}; draw it on the image.")
        spans.append((first, last))
    return _to_image(spans, snapshot)


def _to_image(spans: list[tuple[int, int]], snapshot: LayerSnapshot) -> Box:
    """Turn a box of the layer's voxels into a box of the image's own, whose axes may be turned."""
    depth, height, width = [(0, 1), *spans] if len(spans) == 2 else spans
    return snapshot.change.inverse_box((depth, height, width), snapshot.shape)
