"""The classes of a labels layer as a palette: choose, name, colour, show and lock them."""

from __future__ import annotations

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QColorDialog, QHeaderView, QTableWidget, QTableWidgetItem
from superqt.utils import signals_blocked

from napari_meduniseg._editing import Locks, class_names_of, unnamed
from napari_meduniseg.widgets.tick_boxes import outline_boxes
from napari_meduniseg.widgets.working import Working

_CLASS, _SHOWN, _LOCKED = range(3)


class ClassPalette(Working, QTableWidget):
    """A click chooses a class to paint with; the boxes show and lock it; a double click changes its colour."""

    picked = Signal(int)

    def __init__(self, locks: Locks) -> None:
        super().__init__(0, 3)
        self._locks = locks
        self._layer: Labels | None = None
        self.setHorizontalHeaderLabels(["class", "show", "lock"])
        self.setToolTip("Click a class to paint with it. A locked class cannot be painted over. Double click: colour.")
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.verticalHeader().hide()
        outline_boxes(self)
        self._fit()
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.horizontalHeader().setSectionResizeMode(_CLASS, QHeaderView.ResizeMode.Stretch)
        self.itemSelectionChanged.connect(self._pick)
        self.itemChanged.connect(self._toggle)
        self.itemDoubleClicked.connect(self._recolour)

    def show_layer(self, layer: Labels | None) -> None:
        """List the layer's classes: those with a name at once, others when all voxels have been looked at."""
        self._layer = layer
        self.drop_job()
        self.setRowCount(0)
        if layer is None:
            return
        for label, name in class_names_of(layer).items():
            self._add(layer, label, name)
        self._fit()
        find = unnamed(layer)
        self.start_job(lambda _events, _cancel: find(), self._add_unnamed)

    def _add_unnamed(self, found: list[int]) -> None:
        assert self._layer is not None
        for label in found:
            self._add(self._layer, label, f"class {label}")
        self._fit()

    def _fit(self) -> None:
        """Set the height for three to seven classes, as many as there are, so that what lies below keeps its place."""
        rows = max(3, min(7, self.rowCount())) * self.verticalHeader().defaultSectionSize()
        self.setFixedHeight(self.horizontalHeader().sizeHint().height() + rows + 2 * self.frameWidth())

    def _add(self, layer: Labels, label: int, name: str) -> None:
        row = self.rowCount()
        colour = np.asarray(layer.get_color(label) if layer.get_color(label) is not None else (0, 0, 0, 0))
        first = QTableWidgetItem(name)
        first.setData(Qt.ItemDataRole.UserRole, label)
        first.setData(Qt.ItemDataRole.DecorationRole, QColor.fromRgbF(*(float(v) for v in colour[:3])))
        with signals_blocked(self):
            self.insertRow(row)
            self.setItem(row, _CLASS, first)
            for column, on in ((_SHOWN, colour[3] > 0), (_LOCKED, label in self._locks.of(layer))):
                box = QTableWidgetItem()
                box.setFlags(Qt.ItemFlag.ItemIsUserCheckable | Qt.ItemFlag.ItemIsEnabled)
                box.setCheckState(Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)
                self.setItem(row, column, box)

    def row_of(self, label: int) -> int:
        """The row of a class."""
        return next(row for row in range(self.rowCount()) if self._label(row) == label)

    def set_locked(self, label: int, locked: bool) -> None:
        """Tick or untick a class's lock."""
        state = Qt.CheckState.Checked if locked else Qt.CheckState.Unchecked
        self._cell(self.row_of(label), _LOCKED).setCheckState(state)

    def set_shown(self, label: int, shown: bool) -> None:
        """Tick or untick a class's visibility."""
        state = Qt.CheckState.Checked if shown else Qt.CheckState.Unchecked
        self._cell(self.row_of(label), _SHOWN).setCheckState(state)

    def _label(self, row: int) -> int:
        return int(self._cell(row, _CLASS).data(Qt.ItemDataRole.UserRole))

    def _cell(self, row: int, column: int) -> QTableWidgetItem:
        item = self.item(row, column)
        assert item is not None  # every row has all its cells
        return item

    def _pick(self) -> None:
        row = self.currentRow()
        if self._layer is not None and row >= 0:
            self._layer.selected_label = self._label(row)
            self.picked.emit(self._label(row))

    def _toggle(self, item: QTableWidgetItem) -> None:
        if self._layer is None or item.column() == _CLASS:
            return
        label, on = self._label(item.row()), item.checkState() == Qt.CheckState.Checked
        if item.column() == _LOCKED:
            self._locks.set(self._layer, label, on)
        else:
            colour = np.asarray(self._layer.get_color(label))
            self._paint(label, (*colour[:3], 1.0 if on else 0.0))

    def _recolour(self, item: QTableWidgetItem) -> None:
        if self._layer is None or item.column() != _CLASS:
            return
        chosen = QColorDialog.getColor(item.data(Qt.ItemDataRole.DecorationRole), self, "Colour of the class")
        if chosen.isValid():
            self._paint(self._label(item.row()), (chosen.redF(), chosen.greenF(), chosen.blueF(), chosen.alphaF()))
            item.setData(Qt.ItemDataRole.DecorationRole, chosen)

    def _paint(self, label: int, colour: tuple[float, ...]) -> None:
        assert self._layer is not None
        layer = self._layer
        listed = [self._label(row) for row in range(self.rowCount())]
        table: dict[int | None, np.ndarray] = {0: np.zeros(4), None: np.ones(4)}
        table.update((number, np.asarray(layer.get_color(number), dtype=float)) for number in listed)
        table[label] = np.asarray(colour, dtype=float)
        layer.colormap = DirectLabelColormap(color_dict=table)
