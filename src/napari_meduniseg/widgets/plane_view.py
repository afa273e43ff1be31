"""A view of one plane of a volume with a crosshair: painted by Qt, so that it needs no second OpenGL context."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QMouseEvent, QPainter, QPaintEvent, QWheelEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_meduniseg._planes import Plane
from napari_meduniseg.widgets.canvas_overlay import draw_cross, draw_sides

_LEAST = QSize(160, 130)  # px
_NOTCH = 120  # of a wheel's angle: one step


class PlaneView(QWidget):
    """Emits ``picked`` with row and column (fractions of a voxel) at a press or a drag, and ``stepped`` with the number
    of planes that the wheel was turned by."""

    picked = Signal(float, float)
    stepped = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.plane: Plane | None = None
        self._picture: QImage | None = None
        self._cross: tuple[float, float] | None = None
        self._turned = 0
        self.setMinimumSize(_LEAST)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setCursor(Qt.CursorShape.CrossCursor)

    def show_plane(self, plane: Plane, cross: tuple[float, float] | None) -> None:
        """Show a plane; ``cross`` is the crosshair's row and column, None for no crosshair."""
        self.plane, self._cross = plane, cross
        shown = np.ascontiguousarray(plane.picture[::-1] if plane.upwards else plane.picture)
        rows, columns = shown.shape[:2]
        self._picture = QImage(shown.data, columns, rows, 3 * columns, QImage.Format.Format_RGB888).copy()
        self.update()

    def box(self) -> QRectF:
        """The part of the widget that shows the plane, as large as fits in the plane's own proportions."""
        if self.plane is None:
            return QRectF()
        rows, columns = self.plane.picture.shape[:2]
        height, width = rows * self.plane.spacing[0], columns * self.plane.spacing[1]
        scale = min(self.width() / width, self.height() / height)
        shown = QRectF(0, 0, width * scale, height * scale)
        shown.moveCenter(QRectF(self.rect()).center())
        return shown

    def cross_at(self) -> tuple[float, float] | None:
        """The crosshair's place in the widget (x, y)."""
        if self.plane is None or self._cross is None:
            return None
        box, (rows, columns) = self.box(), self.plane.picture.shape[:2]
        down, along = (self._cross[0] + 0.5) / rows, (self._cross[1] + 0.5) / columns
        down = 1 - down if self.plane.upwards else down
        return box.left() + along * box.width(), box.top() + down * box.height()

    def paintEvent(self, _event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor("black"))
        if self.plane is not None and self._picture is not None:
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            painter.drawImage(self.box(), self._picture)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            cross = self.cross_at()
            if cross is not None:
                draw_cross(painter, *cross, self.width(), self.height())
            if self.plane.sides is not None:
                draw_sides(painter, self.plane.sides, self.width(), self.height())
            painter.setPen(QColor("white"))
            painter.drawText(8, self.height() - 8, f"{self.plane.name} {self.plane.index}")
        painter.end()

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        self._pick(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        self._pick(event)

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802 - Qt's name
        self._turned += event.angleDelta().y()
        steps = int(self._turned / _NOTCH)
        if steps:
            self._turned -= steps * _NOTCH
            self.stepped.emit(steps)
        event.accept()

    def _pick(self, event: QMouseEvent) -> None:
        box = self.box()
        if self.plane is None or box.isEmpty() or not event.buttons() & Qt.MouseButton.LeftButton:
            return
        rows, columns = self.plane.picture.shape[:2]
        down = (event.position().y() - box.top()) / box.height()
        along = (event.position().x() - box.left()) / box.width()
        down = 1 - down if self.plane.upwards else down
        row, column = down * rows - 0.5, along * columns - 0.5
        self.picked.emit(min(max(row, 0.0), rows - 1.0), min(max(column, 0.0), columns - 1.0))
