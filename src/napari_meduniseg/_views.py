"""The medical standard views and CT windows, for a viewer. Knows no Qt."""

from __future__ import annotations

from typing import Literal

from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Layer

from meduniseg_core.images.appearance import Window

View = Literal["axial", "coronal", "sagittal"]

# which of the last three world axes (z, y, x) is sliced, and which way the picture's rows run: the head is up
_ORDER: dict[View, tuple[int, int, int]] = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}


def set_view(viewer: ViewerModel, view: View) -> None:
    """Show slices of this orientation, as radiologists hang them: patient's left on the right, head or front up.

    Layers are LPS: x grows to the patient's left and y to the back, so axial slices need no flip; z grows to the head,
    so the rows of the other two run upwards. An image without depth is left as it is.
    """
    dims = viewer.dims
    if dims.ndim < 3:
        return
    dims.ndisplay = 2
    lead = dims.ndim - 3
    dims.order = (*range(lead), *(lead + axis for axis in _ORDER[view]))
    viewer.scene.camera.orientation2d = ("down" if view == "axial" else "up", "right")
    viewer.reset_view()


def set_window(layer: ImageLayer, window: Window) -> None:
    """Show a CT layer in this window."""
    low, high = layer.contrast_limits_range
    layer.contrast_limits_range = (min(low, window.low), max(high, window.high))
    layer.contrast_limits = (window.low, window.high)


def slice_axis(layer: Layer, viewer: ViewerModel) -> int:
    """The axis of the layer along which the viewer slices."""
    if layer.ndim < 3:
        return 0
    return int(viewer.dims.order[-3]) - (viewer.dims.ndim - layer.ndim)
