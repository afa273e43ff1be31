"""The Batch widget: all cases of a folder, one after the other, by the ``meduniseg segment`` command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from qtpy.QtGui import QCloseEvent, QGuiApplication
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QTableWidgetItem,
)
from superqt.utils import signals_blocked

from meduniseg_core.dicom_objects import DICOM_FORMATS
from meduniseg_core.errors import UsageError
from meduniseg_core.images.choices import Choice
from meduniseg_core.images.findings import without_options
from meduniseg_core.inference.quality.assessment import REVIEW_BELOW
from meduniseg_core.preprocessing import TaskPlan, is_colour
from meduniseg_core.provenance import read_provenance
from meduniseg_core.weights.offer import Offer
from napari_meduniseg._batch_options import batch_form
from napari_meduniseg._choose_images import ask_which
from napari_meduniseg._current import current_of
from napari_meduniseg._process import Command
from napari_meduniseg._reader import read_one
from napari_meduniseg._signals import signals
from napari_meduniseg.widgets.case_queue import CaseQueue, Several
from napari_meduniseg.widgets.folder_field import folder_row
from napari_meduniseg.widgets.in_use_line import IN_USE, InUseLine, ModelCombo
from napari_meduniseg.widgets.panel import Panel
from napari_meduniseg.widgets.said_fields import OrientationBox, ScaleBox
from napari_meduniseg.widgets.task_combo import TaskCombo
from napari_meduniseg.widgets.typed_form import add_rows


class BatchWidget(Panel):
    """A queue of cases with progress; a case that fails is named and skipped; a double click opens a result."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self._current = current_of(napari_viewer)
        self._command: Command | None = None
        self._cases: tuple[int, int] = (0, 1)
        self._failed: list[str] = []
        self._case = ""  # the one that runs alone
        self._plans: dict[str, TaskPlan] = {}
        self._offer: Offer | None = None
        self.folder, self.output = QLineEdit(), QLineEdit()
        self.folder.setToolTip("The folder of the cases; CASE_0000, CASE_0001, ... are the channels of one case.")
        self.output.setToolTip("Where the results go: CASE.nii.gz, for 2D images CASE.png.")
        self.model, self.task = ModelCombo(), TaskCombo()
        self.model.setToolTip("The network: what is in use for the task, or one of the installed models.")
        self.in_use = InUseLine()
        self.task.setToolTip("What to segment.")
        self.format = QComboBox()
        self.format.addItem("NIfTI, for 2D images PNG", "")
        for kind in DICOM_FORMATS.values():
            self.format.addItem(f"{kind.title.removeprefix('a ')} (of DICOM cases)", kind.name)
        self.format.setToolTip("The format of the results; a DICOM object belongs to its case's study.")
        self.options = batch_form()
        self.tta, self.review_below = (field.native for field in self.options)
        self.orientation, self.scale = OrientationBox("as the files say"), ScaleBox()
        self.run_button, self.cancel_button = QPushButton("Run"), QPushButton("Cancel")
        self.run_button.setToolTip("Segment every case of the folder.")
        self.cancel_button.setToolTip("Stop; results that are done stay.")
        self.cancel_button.setEnabled(False)
        self.copy_button = QPushButton("Copy command")
        self.copy_button.setToolTip("Copy the command that does the same in a terminal.")
        self.progress = QProgressBar()
        self.progress.setToolTip("The progress over all cases.")
        self.queue = CaseQueue()
        form = QFormLayout()
        form.addRow("Cases", folder_row(self.folder, "The folder of the cases"))
        form.addRow("Results", folder_row(self.output, "The folder for the results"))
        form.addRow("Model", self.model)
        form.addRow("Task", self.task)
        form.addRow("Format", self.format)
        add_rows(form, self.options)
        form.addRow("Orientation", self.orientation)
        form.addRow("Scale", self.scale)
        self._form = form
        buttons = QHBoxLayout()
        for button in (self.run_button, self.cancel_button, self.copy_button):
            buttons.addWidget(button)
        self.content.addLayout(form)
        self.content.addWidget(self.in_use)
        self.content.addLayout(buttons)
        self.content.addWidget(self.progress)
        self.content.addWidget(self.queue)
        self.footer.addWidget(self.said)
        signals().models_changed.connect(self._refresh_models)
        self.model.currentIndexChanged.connect(self._fill_tasks)
        self.in_use.instead.connect(self._use_instead)
        self.in_use.packs_changed.connect(self._show_options)
        self.task.currentIndexChanged.connect(self._show_options)
        self.run_button.clicked.connect(self.run)
        self.cancel_button.clicked.connect(self.cancel)
        self.copy_button.clicked.connect(self.copy_command)
        self.queue.itemDoubleClicked.connect(self._open)
        self._fill_tasks()

    @property
    def busy(self) -> bool:
        """Whether the queue is running."""
        return self._command is not None

    def arguments(self) -> list[str]:
        """What the command gets; UsageError where a folder is missing."""
        folder, output = self.folder.text().strip(), self.output.text().strip()
        if not folder or not Path(folder).is_dir():
            raise UsageError(
                f"'{folder}' is not a folder; choose the folder of the cases."
                if folder
                else "Choose the folder of the cases."
            )
        if not output:
            raise UsageError("Choose a folder for the results.")
        common = ["segment", folder, "-o", output, "--task", self.task.task()]
        model = [] if self.model.currentData() == IN_USE else ["--model", self.model.currentData()]
        return [*common, *model, *self._options()]

    def _options(self) -> list[str]:
        """The options that differ from the defaults; UsageError for an invalid orientation."""
        options = self.options()
        found = ["--tta"] if options.tta else []
        found += [] if self.in_use.packs else ["--no-packs"]
        chosen = self.format.currentData()
        found += ["--format", chosen] if chosen else []
        threshold = options.review_below
        found += [] if threshold == REVIEW_BELOW else ["--review-below", f"{threshold:g}"]
        code = self.orientation.code() if self._form.isRowVisible(self.orientation) else None
        found += [] if code is None else ["--assume-orientation", code]
        scaled = self._form.isRowVisible(self.scale) and self.scale.value() != 1
        return [*found, *(["--scale", f"{self.scale.value():g}"] if scaled else [])]

    def run(self) -> None:
        """Start the queue."""
        if self.busy:
            return
        with self.saying_failures():
            arguments = self.arguments()
            self.queue.clear()
            self._start(arguments)

    def _start(self, arguments: list[str], case: str = "") -> None:
        command = Command(arguments, self)
        self._failed, self._cases, self._case = [], (0, 1), case
        self._command = command
        command.reported.connect(self._event)
        command.finished.connect(self._finished)
        self.run_button.setEnabled(False)
        self.cancel_button.setEnabled(True)
        self.progress.setRange(0, 0)
        self.say("Running ...")
        command.start()

    def cancel(self) -> None:
        """Stop after the present window."""
        if self._command is not None:
            self._command.cancel()
            self.say("Stopping ...")

    def copy_command(self) -> None:
        """Put the command on the clipboard."""
        with self.saying_failures():
            QGuiApplication.clipboard().setText(Command(self.arguments()).text)
            self.say("The command is on the clipboard.")

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """A closed widget leaves no work behind."""
        self.cancel()
        super().closeEvent(event)

    def _event(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "progress" and event.get("stage") == "cases":
            self._cases = int(event["done"]), max(1, int(event["total"]))
            self.say(f"{event.get('detail', '')} ({self._cases[0] + 1} of {self._cases[1]})")
        elif kind == "progress" and event.get("stage") == "segment":
            done, total = self._cases
            share = event["done"] / max(1, event["total"])
            self.progress.setRange(0, 1000 * total)
            self.progress.setValue(round(1000 * (done + share)))
        elif kind == "casedone":  # at once: what is done can be looked at while the others run
            self.queue.add_result(
                event["case"],
                event["task"],
                event["path"],
                event["seconds"],
                [without_options(str(text)) for text in event.get("warnings", ())],
                event.get("quality"),
            )
        elif kind == "message" and event.get("level") == "warning":
            self.queue.add_message(without_options(str(event["text"])))
        elif kind == "error":
            self._failed.append(without_options(str(event["message"])))
            choices = tuple(Choice(**choice) for choice in event.get("choices", ()))
            if choices:
                self.queue.add_several(self._failed[-1], Several(event.get("case", self._case), choices))
            else:
                self.queue.add_failure(self._failed[-1], event.get("case", ""))

    def _finished(self, result: Any, code: int) -> None:
        self._command = None
        self.run_button.setEnabled(True)
        self.cancel_button.setEnabled(False)
        self.progress.setRange(0, 1)
        results = result.get("results", []) if isinstance(result, dict) else []
        self.progress.setValue(1 if code == 0 or (results and code != 130) else 0)  # one that failed is done with, too
        if code == 130:
            self.say("Cancelled; what was done stays.")
        elif results:
            failed = len(result.get("failed", []))
            self.say(_counted(len(results), "result") + (f", {_counted(failed, 'case')} failed." if failed else "."))
        elif code == 0:
            self.say("Nothing was left to do; see the list.")
        else:
            self.say_failure(self._failed[-1] if self._failed else f"The command ended with code {code}.")

    def _choose(self, row: int, several: Several) -> None:
        """Ask which of a case's images is meant, and segment that."""
        if self.busy:
            self.say("Wait until the other cases are done, then choose.")
            return
        what = several.case or Path(self.folder.text().strip()).name
        text = f"{what} holds {len(several.choices)} images; choose the one to segment."
        row_proposed = next((number for number, choice in enumerate(several.choices) if choice.proposed), 0)
        chosen = ask_which(
            text, [choice.title for choice in several.choices], several=False, parent=self, row=row_proposed
        )
        if not chosen:
            return
        choice = several.choices[chosen[0]]
        with self.saying_failures():
            arguments = self.arguments()
            arguments += ["--case", several.case] if several.case else []
            arguments += [] if choice.series is None else ["--series", choice.series]
            arguments += [] if choice.frame is None else ["--frame", str(choice.frame)]
            self.queue.removeRow(row)
            self._start(arguments, several.case)

    def _open(self, item: QTableWidgetItem) -> None:
        several = self.queue.several_of(item)
        if several is not None:
            self._choose(item.row(), several)
            return
        path = self.queue.path_of(item)
        if not path:
            return
        from napari.layers import Layer

        record = read_provenance(Path(path))
        image = Path(self.folder.text().strip()) / record.image if record is not None and record.image else Path(path)
        with self.saying_failures():
            # the image below its labels, where it is one file of the folder, or a DICOM folder in it
            added = [
                self._viewer.add_layer(Layer.create(data, options, kind))
                for file in dict.fromkeys((image, Path(path)) if image.exists() else (Path(path),))
                for data, options, kind in read_one(file)
            ]
            if isinstance(added[0], ImageLayer):  # who opens a result wants to see it, not others through it
                self._current.choose_image(added[0])
            if isinstance(added[-1], Labels):
                self._current.choose_labels(added[-1])

    def _refresh_models(self, _name: str = "") -> None:
        with signals_blocked(self.model):
            self.model.refresh()
        self._fill_tasks()

    def _use_instead(self, model: str) -> None:
        with signals_blocked(self.model):
            self.model.refresh(model)
        self._fill_tasks()

    def _fill_tasks(self, *_: Any) -> None:
        self._offer = self.model.offer()
        self._plans = self._offer.plans
        self.task.fill(self._plans)
        self._show_options()

    def _show_options(self, *_: Any) -> None:
        """Only what the task can be told: photographs have no orientation, and scans have their size in mm."""
        task = self.task.task()
        plan = self._plans.get(task)
        models = {task: self._offer.models[task]} if self._offer is not None and plan is not None else {}
        self.in_use.show_for(models, self.model, self._offer)
        self._form.setRowVisible(self.orientation, plan is not None and not is_colour(plan.channels))
        self._form.setRowVisible(self.scale, plan is not None and plan.longest_side is not None)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
