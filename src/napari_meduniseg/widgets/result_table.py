"""The table of what was found: class, colour, voxels, size, mean intensity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget
from superqt.utils import qdebounced

from napari_meduniseg._segmentation_job import Outcome, recount
from napari_meduniseg.widgets.working import Working

_SETTLE_MS = 500  # strokes that follow each other faster are counted once
_COLUMNS = ("class", "voxels", "size", "mean")


class ResultTable(Working, QWidget):
    """One row per class; a click picks the class in its layer, and ``picked`` brings that layer."""

    picked = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.table = QTableWidget(0, len(_COLUMNS))
        self.table.setHorizontalHeaderLabels(_COLUMNS)
        self.table.setToolTip("What was found: click a row to pick the class; sizes are ml in volumes, mm2 in slices.")
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.verticalHeader().hide()
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.itemSelectionChanged.connect(self._pick)
        self._targets: list[tuple[Labels, int]] = []
        self._layers: dict[str, Labels] = {}
        self._outcome: Outcome | None = None
        self._recount_soon = qdebounced(self._recount, timeout=_SETTLE_MS, parent=self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        self.hide()

    def show_results(self, outcome: Outcome, layers: list[Labels]) -> None:
        """Replace the rows; from now on they follow what is corrected in the layers."""
        self.clear()
        self._outcome = outcome
        self._layers = dict(zip(outcome.results, layers, strict=True))
        for layer in layers:
            layer.events.paint.connect(self._changed)
            layer.events.labels_update.connect(self._changed)
        self._fill(outcome, layers)

    def clear(self) -> None:
        """Show no result."""
        for layer in self._layers.values():
            layer.events.paint.disconnect(self._changed)
            layer.events.labels_update.disconnect(self._changed)
        self._outcome, self._layers, self._targets = None, {}, []
        self._recount_soon.cancel()
        self.table.setRowCount(0)
        self.hide()

    def shows(self, layers: list[Labels]) -> bool:
        """Whether the rows are those of these layers."""
        return list(self._layers.values()) == layers

    def count_again(self) -> None:
        """The labels may have been changed while others were shown."""
        self._recount_soon()

    def _changed(self, _event: Any = None) -> None:
        self._recount_soon()

    def _recount(self) -> None:
        """Count what the layers hold now, beside the GUI."""
        if self._outcome is None:
            return
        if self.busy:
            self._recount_soon()  # once more when the count that runs is done
            return
        outcome, now = self._outcome, {task: np.asarray(layer.data) for task, layer in self._layers.items()}
        self.start_job(lambda _events, _cancel: recount(outcome, now), lambda found: self._counted(outcome, found))

    def _counted(self, before: Outcome, found: Outcome) -> None:
        if self._outcome is before:  # no new result came meanwhile
            self._fill(found, list(self._layers.values()))

    def _fill(self, outcome: Outcome, layers: list[Labels]) -> None:
        self._targets = []
        self.table.setRowCount(0)
        for task, layer in zip(outcome.results, layers, strict=True):
            for row in outcome.tables[task]:
                number = self.table.rowCount()
                self.table.insertRow(number)
                name = row.name if len(outcome.results) == 1 else f"{task}: {row.name}"
                unit = {"ml": "ml", "mm2": "mm²", "pixels": "px"}[row.unit]
                size = f"{row.size:,.0f} {unit}" if row.unit == "pixels" else f"{row.size:,.2f} {unit}"
                means = ", ".join("-" if math.isnan(mean) else f"{mean:.4g}" for mean in row.mean_intensity)
                for column, text in enumerate((name, f"{row.voxels:,}", size, means)):
                    item = QTableWidgetItem(text)
                    if column == 0:
                        item.setData(
                            1, QColor.fromRgbF(*(float(value) for value in layer.get_color(row.label)[:3]))
                        )  # Qt.DecorationRole: a coloured square
                    self.table.setItem(number, column, item)
                self._targets.append((layer, row.label))
        self.show()

    def text(self) -> str:
        """The table, tab separated."""
        lines = ["\t".join(_COLUMNS)]
        for row in range(self.table.rowCount()):
            cells = (self.table.item(row, column) for column in range(len(_COLUMNS)))
            lines.append("\t".join(cell.text() if cell else "" for cell in cells))
        return "\n".join(lines)

    def _pick(self) -> None:
        row = self.table.currentRow()
        if 0 <= row < len(self._targets):
            layer, label = self._targets[row]
            layer.selected_label = label
            self.picked.emit(layer)
