"""The Learn widget: from accepted corrections to a better model, in a process that outlives napari."""

from __future__ import annotations

from pathlib import Path

import napari
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGroupBox,
    QPushButton,
    QVBoxLayout,
)
from superqt.utils import qdebounced, signals_blocked

from meduniseg_core.adaptation.run import Run
from meduniseg_core.adaptation.runs import begin, runs
from meduniseg_core.errors import MedUniSegError
from napari_meduniseg._learn_options import learn_form
from napari_meduniseg._learning import Cases, data_at, forecast_training, job_of, look_up, proposed_name
from napari_meduniseg._signals import signals
from napari_meduniseg.widgets.case_table import CaseTable
from napari_meduniseg.widgets.collection_combo import CollectionCombo
from napari_meduniseg.widgets.gate_view import GateView
from napari_meduniseg.widgets.message import Sentence
from napari_meduniseg.widgets.panel import Panel
from napari_meduniseg.widgets.run_view import RunView
from napari_meduniseg.widgets.typed_form import add_rows

_CASES, _TIME = "cases", "time"  # kinds of work: what is looked up
_SETTLE_MS = 300  # changes of the form that follow each other faster are one
_FEW = 3


class LearnWidget(Panel):
    """Choose cases and budget, start, watch, decide."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self._cases: Cases | None = None
        self.data = CollectionCombo(title="A collection of corrections, or a data set", find=data_at)
        self.data.setToolTip("What to learn from: accepted corrections, or any data set in nnU-Net's raw layout.")
        self.cases = CaseTable()
        self.options = learn_form()
        self.method, self.base, self.name, self.budget, self.device = (field.native for field in self.options)
        self.ahead = Sentence()
        self._forecast_soon = qdebounced(self._forecast, timeout=_SETTLE_MS, parent=self)
        self.start_button = QPushButton("Start")
        self.start_button.setToolTip("Train in a process of its own, which goes on when napari is closed.")
        self.run_box = QComboBox()
        self.run_box.setToolTip("All trainings, newest first.")
        self.run_view, self.gate_view = RunView(), GateView()
        self._lay_out()

        self.data.listed.connect(self._show_chosen)
        self.data.picked.connect(self._show_chosen)
        self.data.failed.connect(self.say_failure)
        self.options.changed.connect(self._forecast_soon)
        self.start_button.clicked.connect(self.start)
        self.run_box.currentIndexChanged.connect(self._run_picked)
        self.run_view.changed.connect(self._phase_changed)
        self.gate_view.decided.connect(self._refresh_runs)
        # methods, not lambdas: those would outlive this widget
        signals().models_changed.connect(self._refresh_models)
        self._refresh_models()
        self._refresh_runs(first=True)
        self.data.refresh()

    @property
    def busy(self) -> bool:
        """Whether something is looked up."""
        return super().busy or self.data.busy

    @property
    def found(self) -> Cases | None:
        """The data set that is shown."""
        return self._cases

    def choose_data(self, folder: Path) -> None:
        """Show a collection or a data set."""
        self.data.choose_folder(folder)

    def start(self) -> None:
        """Begin a training with what is chosen."""
        if self._cases is None:
            self.say_failure("There is nothing to learn from; accept a correction in Edit, or choose a data set.")
            return
        data = self._cases
        with self.saying_failures():
            run = begin(job_of(data, self.options(), self.cases.left_out()))
            self.say("")
            self.name.setText(proposed_name(data.task))
            self._refresh_runs(choose=run.job.name)

    # -- data ---------------------------------------------------------------------------------------------------

    def _show_chosen(self, _kept: bool = False) -> None:
        chosen = self.data.current()
        if chosen is not None:
            self._show_data(chosen.folder)
        else:
            self.say("No correction was accepted yet: correct a result in Edit and press Accept.")

    def _show_data(self, folder: Path) -> None:
        self.start_job(
            lambda _events, _cancel: look_up(folder), self._show_cases, self.say_failure, kind=_CASES, anew=True
        )

    def _show_cases(self, cases: Cases) -> None:
        new = self._cases is None or self._cases.folder != cases.folder
        self._cases = cases
        self.cases.show_cases(cases)
        if new:
            self.base.setCurrentIndex(max(0, self.base.findData(cases.base)))
            self.name.setText(proposed_name(cases.task))
        held = sum(row.held_back for row in cases.rows)
        few = len(cases.rows) < _FEW
        self.say(
            f"{len(cases.rows)} case{'' if len(cases.rows) == 1 else 's'}, {held} held back."
            + (" A few more cases make a visible difference." if few else "")
        )
        self._forecast_soon()

    def _forecast(self, _options: object = None) -> None:
        """Say before Start how long the training will take."""
        if self._cases is None:
            return
        try:
            job = job_of(self._cases, self.options(), self.cases.left_out())
        except MedUniSegError:
            self.drop_job(_TIME)
            self.ahead.say("")  # what is wrong is said at Start
            return
        self.start_job(
            lambda _events, _cancel: forecast_training(job), self.ahead.say, self.ahead.say, kind=_TIME, anew=True
        )

    # -- runs ---------------------------------------------------------------------------------------------------

    def _refresh_runs(self, choose: str | None = None, first: bool = False) -> None:
        shown = self.run_box.currentData()
        wanted = choose or (shown.job.name if isinstance(shown, Run) else None)
        with signals_blocked(self.run_box):
            self.run_box.clear()
            found = [(run, run.decision(), run.standing().phase) for run in runs()]
            for run, decision, phase in found:
                self.run_box.addItem(f"{run.job.name} ({decision or phase})", run)
            names = [run.job.name for run, _, _ in found]
            if first:
                # a training that napari was closed on is offered again
                waiting = [run.job.name for run, _, phase in found if phase in ("running", "stopped")]
                undecided = [run.job.name for run, decision, _ in found if decision is None]
                wanted = next(iter(waiting + undecided), None)
            index = names.index(wanted) if wanted in names else (0 if names and not first else -1)
            self.run_box.setCurrentIndex(index)
        self.run_box.setVisible(bool(found))
        current = self.run_box.currentData()
        if not isinstance(shown, Run) or not isinstance(current, Run) or shown.folder != current.folder:
            self._run_picked()

    def _run_picked(self, *_: object) -> None:
        run = self.run_box.currentData()
        self.run_view.show_run(run if isinstance(run, Run) else None)
        if not isinstance(run, Run):
            self.gate_view.show_run(None)

    def _phase_changed(self) -> None:
        run = self.run_box.currentData()
        phase = run.standing().phase if isinstance(run, Run) else None
        self.gate_view.show_run(run if phase == "finished" else None)
        if isinstance(run, Run):
            self.run_box.setItemText(self.run_box.currentIndex(), f"{run.job.name} ({run.decision() or phase})")

    # -- the rest -----------------------------------------------------------------------------------------------

    def _refresh_models(self, _name: str = "") -> None:
        before = self.base.currentData()
        self.base.clear()  # or new ones would stand last
        self.options.reset_choices()
        self.base.setCurrentIndex(max(0, self.base.findData(before)))

    def _lay_out(self) -> None:
        layout = self.content
        form = QFormLayout()
        form.addRow("Data", self.data)
        layout.addLayout(form)
        layout.addWidget(self.cases)
        new = QGroupBox("New model")
        fields = QFormLayout()
        add_rows(fields, self.options)
        inner = QVBoxLayout(new)
        inner.addLayout(fields)
        inner.addWidget(self.start_button)
        inner.addWidget(self.ahead)  # below: what it says comes late, and must not move the button under the mouse
        layout.addWidget(new)
        layout.addWidget(self.run_box)
        layout.addWidget(self.run_view)
        layout.addWidget(self.gate_view)
        layout.addStretch(1)
        self.footer.addWidget(self.said)
        layout.setAlignment(Qt.AlignmentFlag.AlignTop)
