"""Removing a layer while others stay: vispy then deletes its OpenGL objects in whatever context is current.

That is Qt's own, which puts the window together, and not the canvas's. Graphics drivers do not all survive that: Mesa's
ends the program two pictures later, and Windows reports access violations (vispy's issue 1611, napari's 6472 and 8471).
"""

from __future__ import annotations

from typing import Any

from napari.components import ViewerModel
from qtpy.QtCore import QObject
from qtpy.QtOpenGLWidgets import QOpenGLWidget


class SafeRemoval(QObject):
    """Makes the canvas's context the current one whenever a layer is about to be removed; lives with the canvas."""

    def __init__(self, canvas: QOpenGLWidget, viewer: ViewerModel) -> None:
        super().__init__(canvas)
        self._canvas = canvas
        viewer.layers.events.removing.connect(self._prepare)

    def _prepare(self, _event: Any = None) -> None:
        self._canvas.makeCurrent()
