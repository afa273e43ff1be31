"""The Cases widget: a worklist. Cases are opened one after the other; the next is predicted while one is edited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari
from qtpy.QtCore import Qt
from qtpy.QtGui import QCloseEvent, QShowEvent
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QHBoxLayout, QLineEdit, QPushButton
from superqt.utils import signals_blocked

from meduniseg_core.errors import UsageError
from meduniseg_core.paths import corrections_folder
from meduniseg_core.preprocessing import TaskPlan, files_per_case
from meduniseg_core.worklist import (
    DEFAULT_ORDER,
    Order,
    WorkItem,
    Worklist,
    default_results,
    next_item,
    results_of_reader,
)
from napari_meduniseg import _unsaved
from napari_meduniseg._cases import OpenedCase, open_case, with_labels
from napari_meduniseg._collections import Collection, collection_at
from napari_meduniseg._current import current_of
from napari_meduniseg._shown_case import ShownCase
from napari_meduniseg._signals import signals
from napari_meduniseg.widgets.case_list import CaseList
from napari_meduniseg.widgets.folder_field import folder_row
from napari_meduniseg.widgets.in_use_line import IN_USE, ModelCombo
from napari_meduniseg.widgets.panel import Panel
from napari_meduniseg.widgets.prediction import CasePrediction
from napari_meduniseg.widgets.reader_field import ReaderField
from napari_meduniseg.widgets.shortcut_sheet import list_keys
from napari_meduniseg.widgets.task_combo import TaskCombo
from napari_meduniseg.widgets.window_key import bind_in_window

NEXT_KEY = "F3"
_ORDERS: tuple[tuple[str, Order], ...] = (
    ("Name", "name"),
    ("State", "state"),
    ("Quality, worst first", "quality"),
    ("Minutes, quickest first", "minutes"),
    ("Worth annotating next", "worth"),
)
_LIST, _OPEN, _SKIP = "list", "open", "skip"  # kinds of work
_KEEP, _ACCEPTED = "keep ", "accepted "  # ... one for each case, and for each collection


class CasesWidget(Panel):
    """Lists the cases of a folder, opens them one by one and predicts ahead in a process of its own."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self._current = current_of(napari_viewer)
        self._worklist: Worklist | None = None
        self._case: ShownCase | None = None  # the open one
        self._plans: dict[str, TaskPlan] = {}
        self._just_accepted = ""  # the case that the next one follows, for its message
        self._listed_for: tuple[object, ...] = ()  # folder, results, task and second reader of the list
        self.folder, self.results = QLineEdit(), QLineEdit()
        self.folder.setToolTip("The folder of the cases, or a data set (a folder with dataset.json).")
        self.results.setToolTip(
            "Where predictions and corrections lie. Empty: beside the cases, named after the task. "
            "A second reading has a folder of its own beside it, with the reader's name."
        )
        self.results.setPlaceholderText("beside the cases")
        self.model, self.task = ModelCombo(), TaskCombo()
        self.model.setToolTip("The network: what is in use for the task, or one of the installed models.")
        self.task.setToolTip("What is segmented.")
        self.second = QCheckBox("Second reading")
        self.second.setToolTip(
            "Read without seeing what others did: only what you accepted counts, your corrections have a folder of "
            "their own, and every case begins with its prediction."
        )
        self.reader = ReaderField()
        self.list_button = QPushButton("List the cases")
        self.list_button.setToolTip("List the folder's cases and what was done with each.")
        self.cases = CaseList(DEFAULT_ORDER)
        self.order = QComboBox()
        self.order.setToolTip("The order of the list, which Next follows; a click on a header does the same.")
        for text, value in _ORDERS:
            self.order.addItem(text, value)
        self.order.setCurrentIndex(self.order.findData(DEFAULT_ORDER))
        self.ahead = QCheckBox("Predict the next case while I edit")
        self.ahead.setChecked(True)
        self.ahead.setToolTip("In a process of its own that leaves the processors to your work; one case at a time.")
        self.all_button = QPushButton("Predict all")
        self.all_button.setCheckable(True)
        self.all_button.setToolTip("Predict every new case, one after the other; only then is the worth of all known.")
        self.next_on_accept = QCheckBox("Next case after Accept")
        self.next_on_accept.setToolTip(
            "Open the next case once you have accepted a correction in Edit, unless something was said about it there."
        )
        self.next_button = QPushButton(f"Next ({NEXT_KEY})")
        self.next_button.setToolTip("Save your corrections, and open the next case that is not done.")
        self.skip_button = QPushButton("Skip")
        self.skip_button.setToolTip("Leave out the chosen case (or else the open one), or take it up again.")
        self.prediction = CasePrediction()
        self._lay_out()
        self._fill_tasks()
        signals().models_changed.connect(self._refresh_models)
        signals().accepted.connect(self._accepted)
        self.model.currentIndexChanged.connect(self._fill_tasks)
        self.list_button.clicked.connect(self.list_cases)
        self.second.toggled.connect(self._second_toggled)
        signals().reader_changed.connect(self._reader_changed)
        self.folder.returnPressed.connect(self.list_cases)
        self.cases.wanted.connect(self.open)
        self.next_button.clicked.connect(self.next)
        self.skip_button.clicked.connect(self.skip)
        self.ahead.toggled.connect(lambda _on: self._predict_ahead())
        self.all_button.toggled.connect(lambda _on: self._predict_ahead())
        self.order.currentIndexChanged.connect(lambda _index: self.cases.sort_by(self.order.currentData()))
        self.cases.order_changed.connect(self._order_changed)
        self.prediction.ended.connect(self._predicted)
        list_keys([(NEXT_KEY, "Next case of the Cases panel")])

    # -- the list -----------------------------------------------------------------------------------------------

    def list_cases(self) -> None:
        """List the cases of the chosen folder, task and model."""
        with self.saying_failures():
            text, task = self.folder.text().strip(), self.task.task()
            if not text or not Path(text).is_dir():
                raise UsageError(f"'{text}' is not a folder; choose the folder of the cases.")
            if not task:
                raise UsageError("The model has no task; choose another model.")
            folder, chosen = Path(text), self.results.text().strip()
            channels = files_per_case(self._plans[task].channels)
            reader = self._second_reader()
            results = results_of_reader(Path(chosen) if chosen else default_results(folder, task), reader)
            self._stop()
            listed = str(folder), str(results), task, reader
            if listed != self._listed_for:
                self._put_away()  # the open case is of another list, and perhaps of another reader
            self._listed_for = listed
            self._worklist = Worklist(
                folder, results, task, ledger=corrections_folder() / task, channels=channels, reader=reader
            )
            self.say("Listing the cases ...")
            self._refresh(self._listed)

    def _second_reader(self) -> str | None:
        """The reader of a second reading; None for a first one."""
        if not self.second.isChecked():
            return None
        name = self.reader.text().strip()
        if not name:
            raise UsageError("A second reading needs a reader; enter the reader's name.")
        return name

    def _second_toggled(self, _on: bool) -> None:
        """List anew: nothing of the list before stays in sight."""
        if self._worklist is not None:
            self.list_cases()

    def _reader_changed(self, _name: str) -> None:
        if self.second.isChecked():
            self._second_toggled(True)

    def _listed(self) -> None:
        items = self.cases.listed()
        left = sum(not item.is_done for item in items)
        reader = f" Second reading by {self.reader.text().strip()}." if self.second.isChecked() else ""
        self.say(f"{len(items)} cases, {left} to do.{reader}")

    def _refresh(self, then: Any = None) -> None:
        """List the cases anew, in a thread."""
        worklist = self._worklist
        if worklist is None:
            return

        def show(items: list[WorkItem]) -> None:
            if worklist is self._worklist:
                self.cases.show_items(items, self.prediction.failures, self._open_name or "")
                if then is not None:
                    then()
                self._predict_ahead()

        self.start_job(lambda _events, cancel: worklist.items(cancel), show, self.say_failure, kind=_LIST, anew=True)

    def _fill_tasks(self, *_: Any) -> None:
        self._plans = self.model.offer().plans
        self.task.fill(self._plans)

    def _refresh_models(self, _name: str = "") -> None:
        with signals_blocked(self.model):
            self.model.refresh()
        self._fill_tasks()

    # -- one case after the other -------------------------------------------------------------------------------

    def next(self) -> None:
        """Open the next case that is neither accepted nor skipped, in the order of the list."""
        if self._worklist is None:
            self.say_failure("List the cases of a folder first.")
            return
        found = next_item(self.cases.listed(), self._open_name)
        if found is None:
            self._put_away()
            self.say(f"{self._after_acceptance()}Every other case is accepted or skipped.")
        else:
            self.open(found.name)

    def open(self, name: str) -> None:
        """Open a case in place of the present one, whose corrections are saved to the results first."""
        worklist = self._worklist
        item = next((item for item in self.cases.listed() if item.name == name), None)
        if worklist is None or item is None or self.does(_OPEN):
            return
        if self._case is not None and name == self._case.name and self._case.image is not None:
            return
        if self.does(_KEEP + name):
            self.say(f"{name} is being saved; open it in a moment.")
            return
        self.say(f"Opening {name} ...")
        self.start_job(
            lambda _events, _cancel: open_case(worklist, item),
            lambda opened: self._show(worklist, opened),
            self.say_failure,
            kind=_OPEN,
        )

    def _show(self, worklist: Worklist, opened: OpenedCase) -> None:
        if worklist is not self._worklist:
            return
        self._put_away()
        self._case = ShownCase.show(opened, self._current)
        self._refresh()
        said = {
            "new": "There is no prediction yet; it will appear when it is done." if self.ahead.isChecked() else "",
            "predicted": "Correct it in Edit, then Accept it there.",
            "corrected": "It has been corrected and is not accepted yet.",
            "accepted": "It is accepted; accepting it again replaces its labels.",
            "skipped": "It was skipped.",
        }
        self.say(f"{self._after_acceptance()}{opened.item.name}: {said[opened.item.state]}".rstrip(": "))

    def _after_acceptance(self) -> str:
        """The sentence that the case before was accepted, once: Edit shows the next case's labels by now."""
        name, self._just_accepted = self._just_accepted, ""
        return f"{name} is accepted. " if name else ""

    @property
    def _open_name(self) -> str | None:
        return None if self._case is None else self._case.name

    def _put_away(self) -> None:
        """Save the open case's corrections, and remove its layers from the viewer once they are on the disk."""
        case, self._case = self._case, None
        worklist = self._worklist
        if case is None or worklist is None:
            return
        given = case.correction(worklist.results)
        if given is None:
            case.remove()
            return

        def kept(_answer: Any) -> None:
            _unsaved.saved(given.layer, given.mark)
            case.remove()
            self._refresh()

        kind = _KEEP + case.name
        if not self.start_job(
            lambda _events, _cancel: given.write(), kept, self.say_failure, kind=kind, title="Saving"
        ):
            self.say(f"{case.name} stays open: it is still being saved.")

    def skip(self) -> None:
        """Leave out the chosen case, or take it up again; if it is the open one, the next is opened."""
        worklist = self._worklist
        opened = self._open_name
        name = self.cases.selected() or opened
        item = next((item for item in self.cases.listed() if item.name == name), None)
        if worklist is None or item is None:
            self.say_failure("Choose a case in the list first.")
            return
        skipped = item.state != "skipped"

        def done(_answer: None) -> None:
            self.say(f"{item.name} is {'skipped' if skipped else 'taken up again'}.")
            self._refresh(self.next if skipped and item.name == opened else None)

        work = item.name, skipped
        self.start_job(lambda _events, _cancel: worklist.skip(*work), done, self.say_failure, kind=_SKIP)

    def _accepted(self, folder: str, doubtful: bool) -> None:
        """A correction was accepted in some panel: it counts here if the collection is of this task.

        Where something was said about it, the case stays open: the next one's labels would wipe that from Edit.
        """
        worklist, case = self._worklist, self._case
        if worklist is None:
            return
        of_case = case is not None and self._current.image in case.images  # or of another image: in Readers, say

        def count(found: Collection) -> None:
            if worklist is not self._worklist or found.task != worklist.task:
                return
            worklist.ledger = found.folder
            done = of_case and case is not None and case is self._case and not case.unsaved()
            if not done or case is None:
                self._refresh()
                return
            moves_on = not doubtful and self.next_on_accept.isChecked()
            self._just_accepted = case.name if moves_on else ""
            self.say(f"{case.name} is accepted.")
            self._refresh(self.next if moves_on else None)

        kind = _ACCEPTED + folder
        self.start_job(
            lambda _events, _cancel: collection_at(Path(folder)), count, self.say_failure, kind=kind, anew=True
        )

    # -- predicting ahead ---------------------------------------------------------------------------------------

    def _wanted_next(self) -> str | None:
        """The new case to predict: the open one, else the one after it; with *Predict all* any."""
        new = [item for item in self.cases.listed() if item.state == "new" and not item.is_done]
        new = [item for item in new if item.name not in self.prediction.failures]
        names = [item.name for item in new]
        opened = self._open_name
        if opened in names:
            return opened
        follows = next_item(self.cases.listed(), opened)
        if follows is not None and follows.name in names:
            return follows.name
        return names[0] if names and self.all_button.isChecked() else None

    def _predict_ahead(self) -> None:
        """Start the prediction that is wanted, if none is running."""
        worklist = self._worklist
        if self.prediction.running or worklist is None or self.does(_LIST):
            return
        if not (self.ahead.isChecked() or self.all_button.isChecked()):
            return
        name = self._wanted_next()
        if name is None:
            if self.all_button.isChecked():
                self.all_button.setChecked(False)
            return
        model = self.model.currentData()
        self.prediction.begin(worklist, name, None if model == IN_USE else str(model))

    def _order_changed(self) -> None:
        self.order.setCurrentIndex(self.order.findData(self.cases.order))
        self._predict_ahead()

    def _predicted(self, failure: str) -> None:
        if failure:
            self.say_failure(failure)
        self._refresh(self._take_prediction)

    def _take_prediction(self) -> None:
        """Show the prediction of the open case, if it waited for one and nobody has labelled it meanwhile."""
        case = self._case
        if case is None or case.labels is not None or case.image is None or self.does(_OPEN):
            return
        opened = case.opened
        item = next((item for item in self.cases.listed() if item.name == case.name), None)
        if item is None or item.labels is None or self._current.labels_of(case.image):
            return

        def show(found: OpenedCase) -> None:
            if case is self._case and case.image is not None:
                case.show_labels(found)
                self.say(f"{item.name} is predicted. Correct it in Edit, then Accept it there.")

        self.start_job(lambda _events, _cancel: with_labels(opened, item), show, self.say_failure, kind=_OPEN)

    def _stop(self) -> None:
        self.all_button.setChecked(False)
        self.prediction.stop()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """A closed widget leaves no work behind."""
        self._worklist = None
        self._stop()
        super().closeEvent(event)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        super().showEvent(event)
        bind_in_window(self.window(), NEXT_KEY, self.next)

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.addRow("Cases", folder_row(self.folder, "The folder of the cases"))
        form.addRow("Model", self.model)
        form.addRow("Task", self.task)
        form.addRow("Results", folder_row(self.results, "The folder for the results"))
        second = QHBoxLayout()
        second.addWidget(self.second)
        second.addWidget(self.reader, 1)
        form.addRow("Reader", second)
        self.content.addLayout(form)
        self.content.addWidget(self.list_button)
        order = QFormLayout()
        order.addRow("Order", self.order)
        self.content.addLayout(order)
        self.content.addWidget(self.ahead)
        self.content.addWidget(self.next_on_accept)
        self.content.addWidget(self.cases, 1)  # last: it becomes lower where a message needs room
        self.content.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.footer.addWidget(self.said)
        self.footer.addWidget(self.prediction)
        buttons = QHBoxLayout()
        for button in (self.next_button, self.skip_button, self.all_button):
            buttons.addWidget(button)
        self.footer.addLayout(buttons)
