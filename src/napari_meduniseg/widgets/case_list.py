"""The table of a worklist: each case's picture, name and state, quality, expected minutes and worth."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap, QResizeEvent, QShowEvent
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem
from superqt.utils import qdebounced

from meduniseg_core.worklist import Order, WorkItem, ordered
from napari_meduniseg._cases import THUMBNAIL, pictures
from napari_meduniseg.widgets.message import readable
from napari_meduniseg.widgets.verdict import LIGHTS
from napari_meduniseg.widgets.working import Working

_CASE, _QUALITY, _MINUTES, _WORTH = range(4)
_ORDERS: tuple[Order, ...] = ("name", "quality", "minutes", "worth")  # of the columns
_MOST_PICTURES = 500
_SETTLE_MS = 150  # of scrolling, until pictures are drawn
_STATE_COLOURS = {"accepted": "#2e9e4f", "corrected": "#4a90e2", "skipped": "#8a8a8a"}
_DOT, _OPENED = "●", ", open"

Key = tuple[str, Path | None, int]


class CaseList(Working, QTableWidget):
    """Sorted by `sort_by` or by a click on a header, which emits ``order_changed``. A double click emits ``wanted``.

    Pictures are drawn in a thread, only for the visible rows, and the last few hundred are kept.
    """

    order_changed = Signal()
    wanted = Signal(str)

    def __init__(self, order: Order) -> None:
        super().__init__(0, 4)
        self.order = order
        self._items: list[WorkItem] = []
        self._trouble: dict[str, str] = {}
        self._open = ""
        self._pictures: OrderedDict[Key, QPixmap | None] = OrderedDict()
        self.setHorizontalHeaderLabels(["case", "Dice", "min", "worth"])
        for column, tip in (
            (_CASE, "By name."),
            (_QUALITY, "The lowest predicted Dice of a class, if the model is calibrated: worst first."),
            (_MINUTES, "Expected minutes of editing, learned from what you accepted: quickest first."),
            (_WORTH, "Worth annotating next: the result's uncertainty times its distance from the accepted cases."),
        ):
            header = self.horizontalHeaderItem(column)
            if header is not None:
                header.setToolTip(tip)
        self.setToolTip("Double-click a case to open it; click a header to sort. Next follows this order.")
        self.setIconSize(QSize(THUMBNAIL, THUMBNAIL))
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(THUMBNAIL + 6)
        across = self.horizontalHeader()
        across.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        across.setSectionResizeMode(_CASE, QHeaderView.ResizeMode.Stretch)
        across.setSortIndicatorShown(True)
        self._mark_order()
        across.setSectionsClickable(True)
        across.sectionClicked.connect(lambda column: self.sort_by(_ORDERS[column]))
        self.setMinimumHeight(4 * THUMBNAIL)
        self.itemDoubleClicked.connect(lambda item: self.wanted.emit(self.listed()[item.row()].name))
        self._draw_soon = qdebounced(self._draw, timeout=_SETTLE_MS, parent=self)
        self.verticalScrollBar().valueChanged.connect(lambda _value: self._draw_soon())

    def listed(self) -> list[WorkItem]:
        """The cases, in the order shown."""
        return self._items

    def selected(self) -> str | None:
        """The name of the chosen row's case."""
        row = self.currentRow()
        return self._items[row].name if 0 <= row < len(self._items) else None

    def show_items(self, items: Sequence[WorkItem], trouble: dict[str, str], opened: str) -> None:
        """Show cases; ``trouble`` has the failures by case, ``opened`` is the case in the viewer."""
        self._trouble, self._open = trouble, opened
        chosen = self.selected()
        self._items = ordered(items, self.order)
        self.setRowCount(len(self._items))
        for row, item in enumerate(self._items):
            self._fill(row, item)
        for column, known in (
            (_QUALITY, any(item.dice is not None for item in items)),
            (_MINUTES, any(item.seconds is not None for item in items)),
            (_WORTH, any(item.worth is not None for item in items)),
        ):
            self.setColumnHidden(column, not known)
        names = [item.name for item in self._items]
        if chosen in names:
            self.setCurrentCell(names.index(chosen), _CASE)
        self._draw_soon()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        super().resizeEvent(event)
        self._draw_soon()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        super().showEvent(event)
        self._draw_soon()

    def _fill(self, row: int, item: WorkItem) -> None:
        fault = str(item.case.fault) if item.case.fault is not None else self._trouble.get(item.name, "")
        state = "failed" if fault else item.state
        texts = [
            f"{item.name}\n{state}{_OPENED if item.name == self._open else ''}",
            "" if item.dice is None else f"{_DOT} {item.dice:.2f}",
            "" if item.seconds is None else f"{max(item.seconds, 6) / 60:.1f}",
            "" if item.worth is None else f"{item.worth:.2f}",
        ]
        for column, text in enumerate(texts):
            cell = QTableWidgetItem(text)
            cell.setToolTip(fault or (str(item.quality.get("sentence", "")) if column == _QUALITY else item.name))
            self.setItem(row, column, cell)
        colour = LIGHTS["amber"] if fault else _STATE_COLOURS.get(state)
        if colour is not None:
            self._colour(row, _CASE, colour)
        light = item.light
        if light in LIGHTS:
            self._colour(row, _QUALITY, LIGHTS[light])
        picture = self._pictures.get(_key(item))
        first = self.item(row, _CASE)
        if picture is not None and first is not None:
            first.setIcon(QIcon(picture))

    def _colour(self, row: int, column: int, colour: str) -> None:
        cell = self.item(row, column)
        if cell is not None:
            cell.setForeground(QColor(readable(colour, self)))

    def sort_by(self, order: Order) -> None:
        """Change the order."""
        if order == self.order:
            return
        self.order = order
        self._mark_order()
        self.show_items(self._items, self._trouble, self._open)
        self.order_changed.emit()

    def _mark_order(self) -> None:
        column = _ORDERS.index(self.order) if self.order in _ORDERS else -1
        self.horizontalHeader().setSortIndicator(column, Qt.SortOrder.AscendingOrder)

    # -- pictures -----------------------------------------------------------------------------------------------

    def _draw(self) -> None:
        """Draw the missing pictures of the visible rows; drawing for other rows ends after the current case."""
        missing = [item for item in self._in_sight() if _key(item) not in self._pictures]
        if not missing:
            return
        keys = {item.name: _key(item) for item in missing}
        self.start_job(
            lambda events, cancel: pictures(missing, events, cancel),
            lambda _: None,
            event=lambda found: self._show_picture(keys[found[0]], *found),
            anew=True,
        )

    def _in_sight(self) -> list[WorkItem]:
        if not self._items or not self.isVisible():
            return []
        first = max(0, self.rowAt(0))
        last = self.rowAt(self.viewport().height() - 1)
        return self._items[first : (last if last >= 0 else len(self._items) - 1) + 1]

    def _show_picture(self, key: Key, name: str, png: bytes) -> None:
        picture = QPixmap()
        self._pictures[key] = picture if png and picture.loadFromData(png) else None
        while len(self._pictures) > _MOST_PICTURES:
            self._pictures.popitem(last=False)
        for row, item in enumerate(self._items):
            first = self.item(row, _CASE)
            if item.name == name and first is not None and self._pictures.get(key) is not None:
                first.setIcon(QIcon(picture))


def _key(item: WorkItem) -> Key:
    """The key of a case's picture: it changes with the labels."""
    try:
        changed = 0 if item.labels is None else item.labels.stat().st_mtime_ns
    except OSError:
        changed = 0
    return item.name, item.labels, changed
