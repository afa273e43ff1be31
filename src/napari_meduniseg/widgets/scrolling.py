"""Panels that scroll where the screen is small, keep their last rows in sight, and open as tabs in one place."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDockWidget,
    QFrame,
    QMainWindow,
    QScrollArea,
    QScrollBar,
    QVBoxLayout,
    QWidget,
)

_LOW = 240  # px: what a panel keeps at least
_ROOM = 6  # px: frame and rounding
_NARROW = QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
_SHORTEST = 12  # characters of a list's entry that are always in sight


class _Area(QScrollArea):
    """As wide as its content, as low as necessary. The mouse wheel scrolls it and changes no value in it; a long entry
    of a list (a model's name, a collection's) does not widen it."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self._content = content
        self._placed = False
        # before the panel is docked: below the panels that are there it makes a window higher, at times than the screen
        self._heights = {id(window): window.height() for window in _main_windows()}

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        bar = self.verticalScrollBar()
        width = self._content.minimumSizeHint().width() + max(bar.width(), bar.sizeHint().width()) + _ROOM
        return QSize(width, min(_LOW, self._content.minimumSizeHint().height()))

    def event(self, event: QEvent) -> bool:
        """Before the panel is laid out for the first time."""
        if event.type() == QEvent.Type.Polish:
            self._mind_values()
        return super().event(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Widen the panel when its content becomes wider; otherwise Qt cuts off the right edge."""
        kind = event.type()
        if kind == QEvent.Type.Wheel and _holds_a_value(watched):
            event.ignore()  # it goes on to the widget around, and so to this area
            return True
        if kind == QEvent.Type.LayoutRequest and watched is self._content:
            self.updateGeometry()
            self._mind_values()
        return super().eventFilter(watched, event)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        super().showEvent(event)
        self._mind_values()
        if not self._placed:
            self._placed = True
            _shorten_title(self)
            _open_as_tab(self)
            self._soon(self._keep_height)
        if event.spontaneous():
            return  # the whole window comes back
        # a tab that is not laid out yet does not come to the front, and one that napari's menu shows again stays behind
        self._soon(self._to_front)

    def _soon(self, act: Callable[[], None]) -> None:
        later = QTimer(self)  # as a child, it ends with this area
        later.setSingleShot(True)
        later.timeout.connect(act)
        later.timeout.connect(later.deleteLater)
        later.start(0)

    def _keep_height(self) -> None:
        """Use no more height as a tab than there was."""
        window = parent_of(self, QMainWindow)
        before = self._heights.get(id(window))
        if window is None or before is None or window.isMaximized() or window.isFullScreen():
            return
        if window.height() > before:
            window.resize(window.width(), max(before, window.minimumSizeHint().height()))

    def _to_front(self) -> None:
        dock = parent_of(self, QDockWidget)
        if dock is not None:
            dock.raise_()

    def _mind_values(self) -> None:
        """Keep the wheel from changing values, with or without the focus: it is meant for the panel. Let lists be
        narrower than their longest entry."""
        panel = self.parentWidget() or self._content  # with the footer
        for child in panel.findChildren(QWidget):
            if _holds_a_value(child):
                child.installEventFilter(self)  # once more is no more
            if isinstance(child, QComboBox) and child.sizeAdjustPolicy() != _NARROW:
                child.setSizeAdjustPolicy(_NARROW)
                child.setMinimumContentsLength(_SHORTEST)
                child.view().setTextElideMode(Qt.TextElideMode.ElideMiddle)


class _Content(QWidget):
    """Never lower than its parts prefer, so that they do not move when the area around it becomes lower."""

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        return QSize(super().minimumSizeHint().width(), self.sizeHint().height())


def scrolling_layout(panel: QWidget) -> QVBoxLayout:
    """Make the layout for the panel's content, within a scroll area."""
    content = _Content()
    area = _Area(content)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    # a bar that comes with a longer message would make the content narrower, and move its buttons
    area.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
    area.setWidget(content)
    outer = QVBoxLayout(panel)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.setSpacing(0)
    outer.addWidget(area, 1)
    return QVBoxLayout(content)


def footer_layout(panel: QWidget) -> QVBoxLayout:
    """Make the layout below the panel's scroll area, which stays in sight: messages first, buttons last.

    It ends at the panel's lower edge. A message that needs another line takes it from the scroll area, so the buttons
    below it keep their places.
    """
    footer = QWidget()
    outer = panel.layout()
    assert isinstance(outer, QVBoxLayout)
    outer.addWidget(footer)
    layout = QVBoxLayout(footer)
    layout.setContentsMargins(9, 3, 9, 6)
    layout.setSpacing(4)
    return layout


def _main_windows() -> list[QMainWindow]:
    return [one for one in QApplication.topLevelWidgets() if isinstance(one, QMainWindow) and one.isVisible()]


def _holds_a_value(widget: QObject) -> bool:
    return isinstance(widget, QComboBox | QAbstractSpinBox | QAbstractSlider) and not isinstance(widget, QScrollBar)


def _open_as_tab(area: QWidget) -> None:
    """Open a panel as a tab beside the others: one below the other, none would have enough room."""
    dock = parent_of(area, QDockWidget)
    window = parent_of(area, QMainWindow)
    if not isinstance(dock, QDockWidget) or not isinstance(window, QMainWindow) or dock.isFloating():
        return
    place = window.dockWidgetArea(dock)
    others = {parent_of(other, QDockWidget) for other in window.findChildren(_Area) if other is not area}
    beside = [
        other
        for other in window.findChildren(QDockWidget)
        if other in others and not other.isFloating() and window.dockWidgetArea(other) == place
    ]
    if beside and dock not in window.tabifiedDockWidgets(beside[-1]):
        window.tabifyDockWidget(beside[-1], dock)
        dock.show()
        dock.raise_()


def _shorten_title(area: QWidget) -> None:
    """Let the tab and the menus show the panel's own name; the plugin's is in the title bar above the panel."""
    dock = parent_of(area, QDockWidget)
    if isinstance(dock, QDockWidget):
        dock.setWindowTitle(dock.windowTitle().partition(" (")[0])


def parent_of(widget: QWidget, kind: type[QWidget]) -> QWidget | None:
    found = widget.parentWidget()
    while found is not None and not isinstance(found, kind):
        found = found.parentWidget()
    return found
