"""The table of a batch: the result of each case, and what was found out about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from meduniseg_core.images.choices import Choice
from napari_meduniseg.widgets.message import AMBER, readable
from napari_meduniseg.widgets.verdict import LIGHTS

_PATH = Qt.ItemDataRole.UserRole
_SEVERAL = Qt.ItemDataRole.UserRole + 1
_CASE, _WARNINGS, _TEXT, _TASK, _SECONDS, _DICE = range(6)
_CASE_WIDTH = 120  # pixels; what happened to a case has the rest of a narrow panel, and is wrapped


@dataclass(frozen=True)
class Several:
    """A case that holds several images, of which one is to be chosen. ``case`` is empty where there is but one case."""

    case: str
    choices: tuple[Choice, ...]


class CaseQueue(QTableWidget):
    """One row per result, failure or message. A click on a header sorts, so that doubtful cases stand together."""

    def __init__(self) -> None:
        super().__init__(0, 6)
        self._tasks: set[str] = set()  # of the rows
        self.setHorizontalHeaderLabels(["case", "!", "found out", "task", "s", "Dice"])
        self.setToolTip(
            "What happened to each case and what to look at; click a header to sort, double click to open the result, "
            "or to choose one of several series or frames. Dice: the lowest that is predicted of a class, where the "
            "model is calibrated; click it for the worst first."
        )
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.verticalHeader().hide()
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(_CASE, QHeaderView.ResizeMode.Interactive)
        header.resizeSection(_CASE, _CASE_WIDTH)
        header.setSectionResizeMode(_TEXT, QHeaderView.ResizeMode.Stretch)
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)  # as they come, until a header is clicked
        self.setSortingEnabled(True)
        self.clear()

    def clear(self) -> None:
        """Remove all rows; the header stays."""
        self.setRowCount(0)
        self._tasks.clear()
        for column in (_TASK, _DICE):  # until there is something to say in them
            self.setColumnHidden(column, True)

    def add_result(
        self,
        case: str,
        task: str,
        path: str,
        seconds: float,
        warnings: Sequence[str],
        quality: Mapping[str, Any] | None = None,
    ) -> None:
        """A case is done; its warnings may have been said before as messages, which it takes over.

        ``quality`` is that of its JSON: a result that is not green is found out about.
        """
        for row in reversed(range(self.rowCount())):
            if self._cell(row, _CASE) == "!" and self._cell(row, _TEXT) in warnings:
                self.removeRow(row)
        light, dice = (None, None) if quality is None else (quality.get("light"), quality.get("dice"))
        texts = list(warnings) if quality is None or light in (None, "green") else [*warnings, str(quality["sentence"])]
        first = self._add(f"✓ {case}", task, f"{seconds:.1f}", texts, path)
        if light in LIGHTS and isinstance(dice, float | int):
            self.setSortingEnabled(False)
            item = QTableWidgetItem()
            item.setData(Qt.ItemDataRole.DisplayRole, round(float(dice), 2))  # a number: sorted as one
            item.setForeground(QColor(readable(LIGHTS[light], self)))
            item.setToolTip(str(quality["sentence"]) if quality is not None else "")
            self.setItem(first.row(), _DICE, item)
            self.setColumnHidden(_DICE, False)
            self.setSortingEnabled(True)

    def add_message(self, text: str) -> None:
        """Add a warning that belongs to no result (yet)."""
        self._add("!", "", "", [text])

    def add_failure(self, text: str, case: str = "") -> QTableWidgetItem:
        """Add a case that failed, or (without ``case``) the error that ended the command."""
        return self._add(f"✗ {case}".strip(), "", "", [text.removeprefix(f"{case}: ")])

    def add_several(self, text: str, several: Several) -> None:
        """A case that was not segmented, because nobody said which of its images is meant."""
        first = self.add_failure(f"{text} Double click to choose.", several.case)
        first.setData(_SEVERAL, several)

    def several_of(self, item: QTableWidgetItem) -> Several | None:
        """What is to be chosen from in the item's row."""
        first = self.item(item.row(), _CASE)
        found = None if first is None else first.data(_SEVERAL)
        return found if isinstance(found, Several) else None

    def path_of(self, item: QTableWidgetItem) -> str:
        """The label file of the item's row; empty where it has none."""
        first = self.item(item.row(), _CASE)
        return "" if first is None else str(first.data(_PATH) or "")

    def lines(self) -> list[str]:
        """The rows as text, in the order shown."""
        found = []
        for row in range(self.rowCount()):
            case, _, text, task, seconds = (self._cell(row, column) for column in range(5))
            about = f" ({task}, {seconds} s)" if task else ""
            found.append(f"{case}{about}{' ' if text else ''}{text}")
        return found

    def _add(self, case: str, task: str, seconds: str, texts: Sequence[str], path: str = "") -> QTableWidgetItem:
        self.setSortingEnabled(False)  # a row that moves while it is filled would be filled elsewhere
        row = self.rowCount()
        self.insertRow(row)
        number = QTableWidgetItem()
        number.setData(Qt.ItemDataRole.DisplayRole, len(texts))  # a number: sorted as one
        said = QTableWidgetItem(" ".join(texts))
        cells = (QTableWidgetItem(case), number, said, QTableWidgetItem(task), QTableWidgetItem(seconds))
        for column, item in enumerate(cells):
            item.setToolTip("\n".join(texts) or case)
            if texts:
                item.setForeground(QColor(readable(AMBER, self)))
            self.setItem(row, column, item)
        cells[_CASE].setData(_PATH, path)
        self._tasks |= {task} - {""}
        self.setColumnHidden(_TASK, len(self._tasks) < 2)  # the same of all is chosen above the table
        self.setSortingEnabled(True)
        return cells[_CASE]

    def _cell(self, row: int, column: int) -> str:
        item = self.item(row, column)
        return item.text() if item is not None else ""
