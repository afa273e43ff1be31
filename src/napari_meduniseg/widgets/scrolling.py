"""Panels that scroll where the screen is small: docked below each other they must not push the window off it."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

_LOW = 240  # px: what a panel keeps at least
_ROOM = 6  # px: frame and rounding


class _Area(QScrollArea):
    """As wide as its content, as low as it must be."""

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        content = self.widget()
        bar = self.verticalScrollBar()
        width = content.minimumSizeHint().width() + max(bar.width(), bar.sizeHint().width()) + _ROOM
        return QSize(width, min(_LOW, content.minimumSizeHint().height()))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """A content that became wider needs a wider panel: without a word of that, Qt cuts its right edge off."""
        if watched is self.widget() and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)


def scrolling_layout(panel: QWidget) -> QVBoxLayout:
    """The layout for the panel's content, within a scroll area."""
    area, content = _Area(), QWidget()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(content)
    outer = QVBoxLayout(panel)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.addWidget(area)
    return QVBoxLayout(content)
