"""What is painted over the viewer's canvas: the patient's sides (R, L, A, P, S, I), the ball, a lasso, a crosshair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QChildEvent, QEvent, QObject, QPointF, QRectF, Qt, QTimer
from qtpy.QtGui import QColor, QFont, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QMainWindow, QWidget
from superqt.utils import qdebounced

from napari_meduniseg._current import current_of
from napari_meduniseg._napari_versions import camera_of
from napari_meduniseg._views import PatientSides, canvas_places, pixels_per_mm, show_whole_again, shown_sides
from napari_meduniseg.widgets.safe_removal import SafeRemoval
from napari_meduniseg.widgets.scrolling import parent_of

_EDGE = 22  # px: from the canvas's edge to the middle of a letter
_LETTERS = QColor("#ffd24a")
_CROSS = QColor("#4ad2ff")
_GAP = 6  # px: from the crosshair's middle to its arms
_SHADOW = QColor(0, 0, 0, 170)
_SETTLE_MS = 150
_SLID_IN_MS = 500  # a notification has come to its place by then
_NOTIFICATION = "NapariQtNotification"


class CanvasOverlay(QWidget):
    """Lies over the canvas, lets every event through, and keeps an image in view whole when the canvas shrinks."""

    def __init__(self, canvas: QWidget, viewer: napari.Viewer) -> None:
        super().__init__(canvas)
        self._current = current_of(viewer)
        self._bare = self._current.viewer
        self._canvas = canvas
        self._cursor: QPointF | None = None
        self._ball: float | None = None
        self._line: np.ndarray | None = None
        self._escape: Callable[[], None] | None = None
        self._cross: np.ndarray | None = None
        self.sides: PatientSides | None = None
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_NoSystemBackground)
        self._settle = qdebounced(self._whole_again, timeout=_SETTLE_MS, parent=self)
        self._size = canvas.height(), canvas.width()  # before the canvas changed its size
        dims, camera = self._bare.dims, camera_of(self._bare)
        for event in (dims.events.order, dims.events.ndisplay, camera.events.orientation, self._current.events.changed):
            event.connect(self._sides_changed)
        camera.events.zoom.connect(self._zoomed)
        camera.events.center.connect(self._zoomed)
        canvas.installEventFilter(self)
        self._removal = SafeRemoval(canvas, self._bare) if isinstance(canvas, QOpenGLWidget) else None
        self.resize(canvas.size())
        self._sides_changed()
        self.show()

    def show_ball(self, radius: float | None) -> None:
        """Outline a ball of this radius (mm, or pixels of images without a size) at the cursor; None for no ball."""
        self._ball = radius
        self.update()

    def show_line(self, places: np.ndarray | None, escape: Callable[[], None] | None = None) -> None:
        """Draw a line through places of the world (n, axes); None for no line. ``escape`` is called at Escape."""
        self._line, self._escape = places, None if places is None else escape
        self.update()

    def show_cross(self, place: np.ndarray | None) -> None:
        """Draw a crosshair through a place of the world (axes); None for none."""
        self._cross = place
        self.update()

    def cross_pixels(self) -> tuple[float, float] | None:
        """The crosshair's place on the canvas (x, y); None where there is none to be seen."""
        if self._cross is None or self._bare.dims.ndisplay == 3 or len(self._cross) != self._bare.dims.ndim:
            return None
        x, y = canvas_places(self._bare, self._cross[None], (self.width(), self.height()))[0]
        return float(x), float(y)

    def line_pixels(self) -> np.ndarray | None:
        """The line's places on the canvas (n, 2: x, y); None where there is no line to be seen."""
        if self._line is None or self._bare.dims.ndisplay == 3:
            return None
        return canvas_places(self._bare, self._line, (self.width(), self.height()))

    def ball_pixels(self) -> float | None:
        """The radius of the outline on the screen; None where there is none."""
        image = self._current.labels or self._current.image
        if self._ball is None or image is None or self._bare.dims.ndisplay == 3:
            return None
        return self._ball * pixels_per_mm(self._bare, image)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Follow the canvas's size and the cursor; show napari's notifications whole."""
        kind = event.type()
        if kind == QEvent.Type.Resize:
            self.resize(self._canvas.size())
            self._settle()
        elif kind == QEvent.Type.MouseMove and isinstance(event, QMouseEvent):
            self._cursor = event.position()
            if self._ball is not None:
                self.update()
        elif kind == QEvent.Type.KeyPress and isinstance(event, QKeyEvent):
            if event.key() == Qt.Key.Key_Escape and self._escape is not None:
                self._escape()
        elif kind == QEvent.Type.ChildAdded and isinstance(event, QChildEvent):
            child = event.child()
            QTimer.singleShot(_SLID_IN_MS, lambda: _show_whole_text(child))
        elif kind == QEvent.Type.Leave:
            self._cursor = None
            self.update()
        return False

    def paintEvent(self, _event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self.sides is not None:
            draw_sides(painter, self.sides, self.width(), self.height())
        line = self.line_pixels()
        if line is not None:
            shape = QPolygonF([QPointF(float(x), float(y)) for x, y in line])
            for colour, width in ((_SHADOW, 3.5), (_LETTERS, 1.5)):
                painter.setPen(QPen(colour, width))
                painter.drawPolyline(shape)
        cross = self.cross_pixels()
        if cross is not None:
            draw_cross(painter, *cross, self.width(), self.height())
        radius = self.ball_pixels()
        if radius is not None and self._cursor is not None:
            for colour, width in ((_SHADOW, 3.0), (QColor("white"), 1.2)):
                painter.setPen(QPen(colour, width))
                painter.drawEllipse(self._cursor, radius, radius)
        painter.end()

    def _sides_changed(self, _event: Any = None) -> None:
        self.sides = shown_sides(self._bare, self._current.image)
        self.update()

    def _zoomed(self, _event: Any = None) -> None:
        if self._ball is not None or self._line is not None or self._cross is not None:
            self.update()

    def _whole_again(self) -> None:
        """What was seen whole stays whole when panels and sliders take room from the canvas."""
        before, self._size = self._size, (self._canvas.height(), self._canvas.width())
        image = self._current.image
        if image is not None and image in self._bare.layers and self._size != before:
            show_whole_again(self._bare, image, before)


def draw_sides(painter: QPainter, sides: PatientSides, width: float, height: float) -> None:
    """Write the patient's sides at the edges of a view of this size."""
    font = QFont(painter.font())
    font.setPixelSize(17)
    font.setBold(True)
    painter.setFont(font)
    places = (
        (sides.left, _EDGE, height / 2),
        (sides.right, width - _EDGE, height / 2),
        (sides.top, width / 2, _EDGE),
        (sides.bottom, width / 2, height - _EDGE),
    )
    for letter, x, y in places:
        for colour, shift in ((_SHADOW, 1.5), (_LETTERS, 0.0)):
            painter.setPen(colour)
            box = QRectF(x - 12 + shift, y - 12 + shift, 24, 24)
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter, letter)


def draw_cross(painter: QPainter, x: float, y: float, width: float, height: float) -> None:
    """Draw a crosshair through a place of a view of this size, open in the middle: what lies there stays seen."""
    arms = ((0, y, x - _GAP, y), (x + _GAP, y, width, y), (x, 0, x, y - _GAP), (x, y + _GAP, x, height))
    for colour, thick in ((_SHADOW, 3.0), (_CROSS, 1.0)):
        painter.setPen(QPen(colour, thick))
        for start_x, start_y, end_x, end_y in arms:
            if end_x >= start_x and end_y >= start_y:
                painter.drawLine(QPointF(start_x, start_y), QPointF(end_x, end_y))


def _show_whole_text(child: QObject) -> None:
    """napari cuts a notification off after its first line until it is clicked; then its end is not read."""
    try:
        if type(child).__name__ == _NOTIFICATION and isinstance(child, QWidget) and not child.property("expanded"):
            expand = getattr(child, "expand", None)
            if callable(expand) and child.isVisible() and child.sizeHint().height() > child.height():
                expand()
    except RuntimeError:
        return  # it was closed meanwhile


def overlay_of(panel: QWidget, viewer: napari.Viewer) -> CanvasOverlay | None:
    """The overlay of the window that holds a panel, made where needed; None outside a window with a canvas."""
    window = parent_of(panel, QMainWindow)
    canvas = None if not isinstance(window, QMainWindow) else _canvas_in(window.centralWidget())
    if canvas is None:
        return None
    known = canvas.findChild(CanvasOverlay)
    return known if isinstance(known, CanvasOverlay) else CanvasOverlay(canvas, viewer)


def _canvas_in(central: QWidget | None) -> QWidget | None:
    """vispy's canvas within napari's central widget: the only one that is drawn by OpenGL."""
    found = [] if central is None else central.findChildren(QWidget)
    return next((widget for widget in found if type(widget).__name__.startswith("CanvasBackend")), None)
