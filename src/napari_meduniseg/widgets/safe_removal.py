"""Removing a layer while others stay: vispy then deletes its OpenGL objects in whatever context is current.

That is Qt's own, which puts the window together, and not the canvas's. Graphics drivers do not all survive that: Mesa's
ends the program two pictures later, and Windows reports access violations (vispy's issue 1611, napari's 6472 and 8471).
"""

from __future__ import annotations

from typing import Any

from napari.components import ViewerModel
from qtpy.QtGui import QOpenGLContext
from qtpy.QtOpenGLWidgets import QOpenGLWidget


class SafeRemoval:
    """Makes the canvas's context the current one while a layer is removed, as long as somebody keeps it."""

    def __init__(self, canvas: QOpenGLWidget, viewer: ViewerModel) -> None:
        self._canvas = canvas
        self._before: QOpenGLContext | None = None
        self._during = False
        viewer.layers.events.removing.connect(self._begin)
        viewer.layers.events.removed.connect(self._end, position="last")  # after napari has deleted the layer's picture

    def _begin(self, _event: Any = None) -> None:
        if self._canvas.isVisible() and not self._during:  # nothing was drawn in a context that was never shown
            self._before = QOpenGLContext.currentContext()
            self._during = True
            self._canvas.makeCurrent()

    def _end(self, _event: Any = None) -> None:
        """Give the context back: left current, it would be destroyed with the window while others use it."""
        if not self._during:
            return
        before, self._before, self._during = self._before, None, False
        if before is None or before.surface() is None or not before.makeCurrent(before.surface()):
            self._canvas.doneCurrent()
