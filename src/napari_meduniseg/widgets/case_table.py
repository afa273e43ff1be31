"""The cases of a data set with pictures; a tick includes a case."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QIcon, QPixmap
from qtpy.QtWidgets import QHeaderView, QTableWidget, QTableWidgetItem

from napari_meduniseg._learning import THUMBNAIL, Cases, thumbnails
from napari_meduniseg.widgets.tick_boxes import outline_boxes
from napari_meduniseg.widgets.working import Working

_CASE, _SIDE, _CHANGED = range(3)


class CaseTable(Working, QTableWidget):
    """Pictures arrive one after the other and are kept while the labels stay the same."""

    def __init__(self) -> None:
        super().__init__(0, 3)
        self._pictures: dict[tuple[Path, str, str], QPixmap] = {}
        self._cases: Cases | None = None
        self.setHorizontalHeaderLabels(["case", "side", "changed"])
        self.setToolTip(
            "Tick the cases to learn from. Cases held back are never trained on: they compare before and after."
        )
        self.setIconSize(QSize(THUMBNAIL, THUMBNAIL))
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(THUMBNAIL + 6)
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.horizontalHeader().setSectionResizeMode(_CASE, QHeaderView.ResizeMode.Stretch)
        self.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.setMinimumHeight(180)
        outline_boxes(self)

    def show_cases(self, cases: Cases | None) -> None:
        """List cases; if they are of the same data set as before, their ticks are kept."""
        again = cases is not None and self._cases is not None and cases.folder == self._cases.folder
        unticked = set(self.left_out()) if again else set()
        self.drop_job()
        self._cases = cases
        self.setRowCount(0)
        if cases is None:
            return
        for entry in cases.rows:
            row = self.rowCount()
            self.insertRow(row)
            first = QTableWidgetItem(entry.case + (f"\n{entry.patient}" if entry.patient else ""))
            first.setData(Qt.ItemDataRole.UserRole, entry.case)
            first.setToolTip(first.text())
            first.setFlags(first.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            first.setCheckState(Qt.CheckState.Unchecked if entry.case in unticked else Qt.CheckState.Checked)
            self.setItem(row, _CASE, first)
            for column, text in ((_SIDE, entry.side), (_CHANGED, entry.changed)):
                self.setItem(row, column, QTableWidgetItem(text))
            picture = self._pictures.get((cases.folder, entry.case, entry.version))
            if picture is not None:
                first.setIcon(QIcon(picture))
        missing = [row for row in cases.rows if (cases.folder, row.case, row.version) not in self._pictures]
        self.start_job(
            lambda events, cancel: thumbnails(missing, events, cancel),
            lambda _: None,
            event=lambda found: self._show_picture(*found),
        )

    def left_out(self) -> tuple[str, ...]:
        """The cases without a tick."""
        return tuple(_case_of(item) for item in self._items() if item.checkState() == Qt.CheckState.Unchecked)

    def set_ticked(self, case: str, on: bool) -> None:
        """Include a case or leave it out."""
        for item in self._items():
            if _case_of(item) == case:
                item.setCheckState(Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)

    def _show_picture(self, case: str, png: bytes) -> None:
        assert self._cases is not None
        picture = QPixmap()
        picture.loadFromData(png)
        for item, entry in zip(self._items(), self._cases.rows, strict=True):
            if entry.case == case:
                self._pictures[self._cases.folder, case, entry.version] = picture
                item.setIcon(QIcon(picture))

    def _items(self) -> list[QTableWidgetItem]:
        """Those with the cases' names, one a row."""
        items = (self.item(row, _CASE) for row in range(self.rowCount()))
        return [item for item in items if item is not None]


def _case_of(item: QTableWidgetItem) -> str:
    return str(item.data(Qt.ItemDataRole.UserRole))
