"""What the napari versions that this plugin runs in call by different names."""

from __future__ import annotations

from typing import Any

from napari.components import ViewerModel


def camera_of(viewer: ViewerModel) -> Any:
    """The viewer's camera: that of its scene since napari 0.9, the viewer's own before."""
    return getattr(viewer, "scene", viewer).camera


def canvas_size(viewer: ViewerModel) -> tuple[int, int]:
    """Height and width of the canvas in pixels; no public part of napari before 0.9."""
    bare = getattr(viewer, "__wrapped__", viewer)  # panels get a proxy that hides what is not public
    height, width = bare.canvas.size if hasattr(bare, "canvas") else bare._canvas_size
    return int(height), int(width)
