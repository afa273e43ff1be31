"""The comparison at the end of a training, and the decision: adopt, keep as a candidate, discard, roll back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices, QPixmap
from qtpy.QtWidgets import (
    QGroupBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QMessageBox,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
)

from meduniseg_core.adaptation.decisions import adopt, discard, in_use, roll_back, verdict
from meduniseg_core.adaptation.gate import GATE
from meduniseg_core.adaptation.gate_report import GateReport
from meduniseg_core.adaptation.run import Run
from meduniseg_core.errors import MedUniSegError
from meduniseg_core.weights import ActiveModels
from napari_meduniseg._signals import signals
from napari_meduniseg.widgets.message import AMBER, readable
from napari_meduniseg.widgets.working import Working

_COLUMNS = ("class", "Dice\nbefore", "after", "HD95\nbefore", "after")  # narrow: names of classes need room


class GateView(Working, QGroupBox):
    """Shown for finished runs. ``decided`` is emitted after every decision."""

    decided = Signal()

    def __init__(self) -> None:
        super().__init__("Before and after")
        self._run: Run | None = None
        self._report: GateReport | None = None
        self.heading, self.reason, self.notes = QLabel(), QLabel(), QLabel()
        self.heading.setStyleSheet("font-weight: bold;")
        self.table = QTableWidget(0, len(_COLUMNS))
        self.table.setHorizontalHeaderLabels(list(_COLUMNS))
        self.table.setToolTip("On the cases that were held back; HD95 in mm (pixels for pictures without a size).")
        self.table.verticalHeader().hide()
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.pictures = QVBoxLayout()
        self.adopt_button, self.keep_button = QPushButton("Adopt"), QPushButton("Keep as candidate")
        self.discard_button, self.back_button = QPushButton("Discard"), QPushButton("Roll back")
        self.report_button = QPushButton("Report")
        self.adopt_button.setToolTip("Put the new model into use: Segment and Batch take it for this task from now on.")
        self.keep_button.setToolTip("Change nothing; the model stays here and can be adopted later.")
        self.discard_button.setToolTip("Delete this training and its model.")
        self.back_button.setToolTip("Take the model out of use; the previous one is used again.")
        self.report_button.setToolTip("Open the whole comparison in the browser.")
        self.said = QLabel()
        layout = QVBoxLayout(self)
        for label in (self.heading, self.reason, self.notes, self.said):
            label.setWordWrap(True)
        layout.addWidget(self.heading)
        layout.addWidget(self.reason)
        layout.addWidget(self.notes)
        layout.addWidget(self.table)
        layout.addLayout(self.pictures)
        for buttons in (
            (self.adopt_button, self.keep_button, self.discard_button),
            (self.back_button, self.report_button),
        ):
            row = QHBoxLayout()
            for button in buttons:
                row.addWidget(button)
            layout.addLayout(row)
        layout.addWidget(self.said)
        self.adopt_button.clicked.connect(self._ask_and_adopt)
        self.keep_button.clicked.connect(self.keep)
        self.discard_button.clicked.connect(self._ask_and_discard)
        self.back_button.clicked.connect(self.roll_back)
        self.report_button.clicked.connect(self._open_report)
        self.hide()

    def show_run(self, run: Run | None) -> None:
        """Show a finished run's comparison, or nothing for None."""
        self._run = run
        self.said.setText("")
        self.setVisible(run is not None)
        if run is None:
            return
        try:
            self._report = report = verdict(run)
        except (MedUniSegError, OSError) as error:
            self._report = report = None
            self.said.setText(str(error))
        self._fill(report)
        self._enable()

    def adopt(self, anyway: bool = False) -> None:
        """Put the model into use (its file is copied and checked)."""
        run = self._run
        if run is not None:
            self._do(lambda: adopt(run, anyway=anyway), lambda name: self._adopted(run, name), "Adopting ...")

    def keep(self) -> None:
        """Record the decision to leave things as they are."""
        run = self._run
        if run is not None:
            text = f"{run.job.name} is kept as a candidate; nothing else changed."
            self._do(lambda: run.decide("candidate"), lambda _: self._say(text))

    def discard(self) -> None:
        """Delete the run."""
        run = self._run
        if run is not None:
            self._do(lambda: discard(run), lambda _: self._gone(), "Deleting ...")

    def roll_back(self) -> None:
        """Go back to what was in use before."""
        run = self._run
        if run is not None:
            self._do(lambda: roll_back(run), lambda now: self._rolled_back(run, now))

    def _do(self, work: Callable[[], Any], then: Callable[[Any], None], text: str = "") -> None:
        """Work in a thread: files are copied or deleted, and another process may hold the lock."""
        if self.start_job(lambda _events, _cancel: work(), then, self._failed):
            self.said.setText(text)

    def _gone(self) -> None:
        self._run = None
        self.hide()
        self.decided.emit()

    def _rolled_back(self, run: Run, now: str | None) -> None:
        job = run.job
        self._say(f"{job.name} is out of use for {job.task}; {now or job.base} is used again.")
        signals().models_changed.emit(ActiveModels().models().get(job.task, job.base))

    def _adopted(self, run: Run, name: str) -> None:
        self._say(f"{name} is adopted for {run.job.task}; Segment and Batch use it from now on.")
        signals().models_changed.emit(name if run.job.kind == "finetune" else run.job.base)

    def _failed(self, sentence: str) -> None:
        self.said.setText(sentence)

    def _say(self, sentence: str) -> None:
        self.decided.emit()
        self._enable()
        self.said.setText(sentence)

    def _fill(self, report: GateReport | None) -> None:
        self.heading.setText(report.headline if report is not None else "Not compared")
        self.heading.setStyleSheet(
            "font-weight: bold;"
            + (f"color: {readable(AMBER, self)};" if report is not None and not report.recommended else "")
        )
        self.reason.setText(report.reason if report is not None else "")
        self.notes.setText(" ".join([report.bias, *report.notes]).strip() if report is not None else "")
        classes = report.classes if report is not None else ()
        self.table.setRowCount(len(classes))
        self.table.setVisible(bool(classes))
        for row, entry in enumerate(classes):
            cells = (
                entry.name,
                *(_number(value, 3) for value in (entry.dice_before, entry.dice_after)),
                *(_number(value, 1) for value in (entry.hd95_before, entry.hd95_after)),
            )
            for column, text in enumerate(cells):
                self.table.setItem(row, column, QTableWidgetItem(text))
        header = self.table.horizontalHeader().sizeHint().height() + 2 * self.table.frameWidth()
        self.table.setFixedHeight(header + 30 * min(len(classes), 6))
        while self.pictures.count():
            item = self.pictures.takeAt(0)
            picture = None if item is None else item.widget()
            if picture is not None:
                picture.deleteLater()
        for found in report.pictures if report is not None else ():
            self._add_picture(found.case, found.png, report)

    def _add_picture(self, case: str, png: bytes, report: Any) -> None:
        order = "before, after, accepted" if report.dice_before is not None else "after, accepted"
        text = QLabel(f"{case}: {order}")
        picture = QPixmap()
        picture.loadFromData(png)
        shown = QLabel()
        shown.setPixmap(picture.scaledToWidth(320, Qt.TransformationMode.SmoothTransformation))
        shown.setToolTip("One of the cases that gained least or lost most.")
        self.pictures.addWidget(text)
        self.pictures.addWidget(shown)

    def _enable(self) -> None:
        if self._run is None:
            return
        try:
            used = in_use(self._run)
        except MedUniSegError as error:
            self.said.setText(str(error))
            return
        self.keep_button.setEnabled(not used)
        self.adopt_button.setEnabled(not used)
        self.adopt_button.setDefault(self._report is not None and self._report.recommended)
        self.back_button.setEnabled(used)
        self.discard_button.setEnabled(not used)
        self.report_button.setEnabled(self._report is not None)

    def _ask_and_adopt(self) -> None:
        if self._report is not None and self._report.recommended:
            self.adopt()
            return
        report = self._report
        why = f"{report.reason} {report.bias}" if report is not None else "It was not compared with its base."
        answer = QMessageBox.question(self, "Adopt", f"{why}\n\nAdopt it anyway?", defaultButton=_NO)
        if answer == QMessageBox.StandardButton.Yes:
            self.adopt(anyway=True)

    def _ask_and_discard(self) -> None:
        if self._run is None:
            return
        name = self._run.job.name
        answer = QMessageBox.question(self, "Discard", f"Delete the training '{name}' with its model?")
        if answer == QMessageBox.StandardButton.Yes:
            self.discard()

    def _open_report(self) -> None:
        if self._run is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._run.folder / GATE / "gate.html")))


_NO = QMessageBox.StandardButton.No


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
