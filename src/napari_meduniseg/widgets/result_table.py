"""The table of what was found: class, colour, voxels, size, mean intensity; measures of several classes; as CSV."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QGuiApplication
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import qdebounced

from meduniseg_core.errors import MedUniSegError
from meduniseg_core.files import write_text
from meduniseg_core.images.modality_check import looks_like_ct
from meduniseg_core.inference import Segmentation
from meduniseg_core.inference.derived import table_csv
from meduniseg_core.inference.image_class import ImageClass
from napari_meduniseg._jobs import os_failure
from napari_meduniseg._segmentation_job import Outcome, recount
from napari_meduniseg.widgets.working import Working

_SETTLE_MS = 500  # strokes that follow each other faster are counted once
_COLUMNS = ("class", "voxels", "size", "mean", "lesions")
_SIZE, _LESIONS = _COLUMNS.index("size"), _COLUMNS.index("lesions")
_MOST_ROWS = 7  # further ones are scrolled to
_MOST_CLASSES = 5  # of an image, in a line


class ResultTable(Working, QWidget):
    """One row per class; a click picks the class in its layer, and ``picked`` brings that layer.

    ``said`` brings what became of copying or saving in one sentence, and whether it is trouble.
    """

    picked = Signal(object)
    said = Signal(str, bool)

    def __init__(self) -> None:
        super().__init__()
        self.table = QTableWidget(0, len(_COLUMNS))
        self.table.setHorizontalHeaderLabels(_COLUMNS)
        self.table.setToolTip(
            "What was found: click a row to pick the class. Mean: the mean intensity of the image there, for "
            "each channel (in colour pictures red, green, blue). "
            "Lesions: how many the network found and how sure it is of the surest; corrections do not change that."
        )
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.verticalHeader().hide()
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.itemSelectionChanged.connect(self._pick)
        self._targets: list[tuple[Labels, int]] = []
        self._layers: dict[str, Labels] = {}
        self._outcome: Outcome | None = None
        self._shown: Outcome | None = None  # with what was corrected since
        self._recount_soon = qdebounced(self._recount, timeout=_SETTLE_MS, parent=self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        self.image_class = QLabel()
        self.image_class.setWordWrap(True)
        self.image_class.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.image_class.setToolTip("What the head says of the whole image; corrections do not change that.")
        layout.addWidget(self.image_class)
        self.derived = QLabel()
        self.derived.setWordWrap(True)
        self.derived.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.derived.setToolTip("Measures of several classes together; they follow what is corrected.")
        layout.addWidget(self.derived)
        self.copy_button, self.export_button = QPushButton("Copy table"), QPushButton("Export CSV ...")
        self.copy_button.setToolTip("Copy the table, to be pasted into a spreadsheet.")
        self.export_button.setToolTip("Save the table, with all digits.")
        self.copy_button.clicked.connect(self.copy)
        self.export_button.clicked.connect(self._ask_and_export)
        row = QHBoxLayout()
        row.addWidget(self.copy_button)
        row.addWidget(self.export_button)
        layout.addLayout(row)
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
        self._outcome, self._shown, self._layers, self._targets = None, None, {}, []
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
        self._shown = outcome
        self.table.setColumnHidden(_LESIONS, all(result.instances is None for result in outcome.results.values()))
        flat = all(result.labels.is_2d for result in outcome.results.values())
        mean = "mean (HU)" if looks_like_ct(outcome.taken.image) else "mean"
        self.table.setHorizontalHeaderLabels(("class", "pixels" if flat else "voxels", "size", mean, "lesions"))
        rows = [row for task in outcome.results for row in outcome.tables[task]]
        self.table.setColumnHidden(_SIZE, all(row.unit == "pixels" for row in rows))  # they are counted already
        said = [_class_line(found.image_class) for found in outcome.results.values() if found.image_class is not None]
        self.image_class.setText("\n".join(said))
        self.image_class.setVisible(bool(said))
        lines = [f"{one.name}: {one.value:.2f}" for found in outcome.derived.values() for one in found]
        self.derived.setText("\n".join(line[0].upper() + line[1:] for line in lines))
        self.derived.setVisible(bool(lines))
        for task, layer in zip(outcome.results, layers, strict=True):
            for row in outcome.tables[task]:
                number = self.table.rowCount()
                self.table.insertRow(number)
                name = row.name if len(outcome.results) == 1 else f"{outcome.results[task].shown_title}: {row.name}"
                unit = {"ml": "ml", "mm2": "mm²", "pixels": "px"}[row.unit]
                size = f"{row.size:,.0f} {unit}" if row.unit == "pixels" else f"{row.size:,.2f} {unit}"
                digits = 4 if len(row.mean_intensity) == 1 else 3  # three must fit beside each other
                means = ", ".join("-" if math.isnan(mean) else f"{mean:.{digits}g}" for mean in row.mean_intensity)
                lesions = _lesions(outcome.results[task], row.label)
                for column, text in enumerate((name, f"{row.voxels:,}", size, means, lesions)):
                    item = QTableWidgetItem(text)
                    if column == 0:
                        item.setData(
                            1, QColor.fromRgbF(*(float(value) for value in layer.get_color(row.label)[:3]))
                        )  # Qt.DecorationRole: a coloured square
                    self.table.setItem(number, column, item)
                self._targets.append((layer, row.label))
        self._fit()
        self.show()

    def _fit(self) -> None:
        """No higher than its rows, so that what stands below it is in sight."""
        header, frame = self.table.horizontalHeader().sizeHint().height(), 2 * self.table.frameWidth()
        rows = min(_MOST_ROWS, self.table.rowCount()) * self.table.verticalHeader().defaultSectionSize()
        self.table.setFixedHeight(header + rows + frame)

    def copy(self) -> None:
        """Put the table on the clipboard."""
        QGuiApplication.clipboard().setText(self.text())
        self.said.emit("The table is on the clipboard.", False)

    def export(self, path: Path) -> None:
        """Write the table as CSV."""
        if self._shown is not None:
            try:
                write_text(path, self._csv(self._shown))
            except (MedUniSegError, OSError) as error:
                self.said.emit(os_failure(error) if isinstance(error, OSError) else str(error), True)
                return
            self.said.emit(f"Saved {path.name}.", False)

    @staticmethod
    def _csv(shown: Outcome) -> str:
        classes = {task: one.image_class for task, one in shown.results.items() if one.image_class is not None}
        return table_csv(shown.taken.image.name, shown.tables, shown.derived, classes)

    def _ask_and_export(self) -> None:
        proposed = (
            "result.csv" if self._shown is None else f"{Path(self._shown.taken.image.name).name.split('.')[0]}.csv"
        )
        name, _ = QFileDialog.getSaveFileName(self, "Save the table", proposed, "CSV (*.csv)")
        if name:
            self.export(Path(name))

    def text(self) -> str:
        """The table, tab separated, and what stands below it."""
        headers = (self.table.horizontalHeaderItem(column) for column in self._columns())
        lines = ["\t".join(header.text() if header else "" for header in headers)]
        for row in range(self.table.rowCount()):
            cells = (self.table.item(row, column) for column in self._columns())
            lines.append("\t".join(cell.text() if cell else "" for cell in cells))
        below = [*self.image_class.text().splitlines(), *self.derived.text().splitlines()]
        return "\n".join([*lines, *(line.replace(": ", "\t") for line in below)])

    def _columns(self) -> list[int]:
        return [column for column in range(len(_COLUMNS)) if not self.table.isColumnHidden(column)]

    def _pick(self) -> None:
        row = self.table.currentRow()
        if 0 <= row < len(self._targets):
            layer, label = self._targets[row]
            layer.selected_label = label
            self.picked.emit(layer)


def _class_line(found: ImageClass) -> str:
    """The most probable classes of the image, each with its probability."""
    listed = [f"{name} ({share:.2f})" for name, share in found.ranked]
    more = f", and {len(listed) - _MOST_CLASSES} less probable" if len(listed) > _MOST_CLASSES else ""
    return f"Class of the image: {', '.join(listed[:_MOST_CLASSES])}{more}"


def _lesions(result: Segmentation, label: int) -> str:
    """How many lesions of a class the network found, and the highest score; empty where boxes were not asked for."""
    scores = [one.score for one in result.instances or () if one.label == label]
    if result.instances is None:
        return ""
    return f"{len(scores)} (up to {max(scores):.2f})" if scores else "0"
