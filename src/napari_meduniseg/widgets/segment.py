"""The Segment widget: image, modality, tasks; what will happen; Run, progress, Cancel; the table of what was found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import napari
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer
from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import Qt
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QPushButton
from superqt.utils import qdebounced

from meduniseg_core.errors import MedUniSegError, UsageError
from meduniseg_core.events import Event, Message, Progress
from meduniseg_core.images import Finding
from meduniseg_core.images.findings import without_options
from meduniseg_core.preprocessing import TaskPlan
from napari_meduniseg._current import current_of
from napari_meduniseg._durations import duration
from napari_meduniseg._layer_input import LayerSnapshot, same_images, snapshot_layers
from napari_meduniseg._layers import LayerData
from napari_meduniseg._reader import read_one
from napari_meduniseg._result_layers import add_results
from napari_meduniseg._segmentation_job import (
    Forecast,
    Looked,
    Outcome,
    Predictors,
    Said,
    SegmentationJob,
    SegmentChoice,
    findings_for,
    forecast,
    look_at_image,
    prepare_job,
    run_job,
    seen_at_once,
)
from napari_meduniseg.widgets.message import Sentence, keep_room
from napari_meduniseg.widgets.panel import Panel
from napari_meduniseg.widgets.remedies import Remedies
from napari_meduniseg.widgets.result_actions import ResultActions
from napari_meduniseg.widgets.result_table import ResultTable
from napari_meduniseg.widgets.segment_form import SegmentForm
from napari_meduniseg.widgets.verdict import Verdict
from napari_meduniseg.widgets.view_bar import ViewBar

_SETTLE_MS = 250  # changes that follow each other faster are one
_RUN, _FORECAST, _LOOK, _OPEN = "run", "forecast", "look", "open"  # kinds of work


class SegmentWidget(Panel):
    """Segments an image layer by one or several tasks of a model."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self._current = current_of(napari_viewer)
        self._results: WeakKeyDictionary[Labels, tuple[Outcome, list[Labels]]] = WeakKeyDictionary()
        self._predictors = Predictors()
        self._heard: list[Message] = []  # of the run
        self._acted = False  # something was done with the labels since the choice changed
        self._looked_at: tuple[tuple[LayerSnapshot, ...], list[TaskPlan], Said] = (), [], Said()
        self._at_once: tuple[Finding, ...] = ()
        self._found: dict[str, tuple[Finding, ...]] = {}
        self._in_results: dict[str, tuple[Finding, ...]] = {}  # what runs found out, of the image below
        self._run_on: tuple[tuple[LayerSnapshot, ...], Said] = (), Said()
        self._trouble = ""  # why the voxels cannot be used
        self._announced: str | None = None  # the time that was forecast for the choice
        self._ahead = False  # what is said is about the choice, not about what was done

        self.form = SegmentForm(napari_viewer)
        self.warning = Sentence(0)
        self.warning.hide()
        self.note = Sentence(0)
        self.note.hide()
        self.remedies = Remedies()
        self.remedies.changed.connect(self._choice_changed)
        self.remedies.refused.connect(self.say_failure)
        self.remedies.reopen.connect(self._reopen)
        self.run_button = QPushButton("Run")
        self.run_button.setToolTip("Segment the image by the tasks that are ticked.")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop soon; nothing is changed.")
        self.cancel_button.setEnabled(False)
        self.progress = QProgressBar()
        self.progress.setToolTip("The progress over all tasks, and about how long the rest will take.")
        keep_room(self.progress)
        self.progress.hide()
        self.table = ResultTable()
        self.verdict = Verdict()
        self.result_actions = ResultActions(napari_viewer)
        self.result_actions.said.connect(self._say_of_action)
        self.table.said.connect(self._say_of_action)

        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button)
        buttons.addWidget(self.cancel_button)
        self.view_bar = ViewBar(napari_viewer)
        for part in (self.view_bar, self.form, self.verdict, self.table):
            self.content.addWidget(part)
        self.content.addStretch(1)
        self.content.setAlignment(Qt.AlignmentFlag.AlignTop)
        for widget in (self.form.in_use, self.note, self.warning, self.remedies, self.said, self.progress):
            self.footer.addWidget(widget)
        self.footer.addLayout(buttons)
        self.footer.addWidget(self.result_actions)

        self._look_ahead_soon = qdebounced(self._look_ahead, timeout=_SETTLE_MS, parent=self)
        self.form.changed.connect(self._choice_changed)
        self.table.picked.connect(self._current.choose_labels)
        self._current.events.changed.connect(self._show_table)
        self.run_button.clicked.connect(self.run)
        self.cancel_button.clicked.connect(self.cancel)
        self._look_ahead_soon()

    @property
    def busy(self) -> bool:
        """Whether a segmentation is running; looking ahead does not count."""
        return self.does(_RUN)

    def run(self) -> None:
        """Start; what is wrong with the choice is said in one sentence."""
        if self.busy:
            return
        with self.saying_failures():
            choice = self._choice()
            if choice.layers and self.form.modality() is None:
                raise UsageError("Choose the modality first: the image does not tell what it is of.")
            order = prepare_job(choice, self._viewer)
            self.run_button.setEnabled(False)
            self.cancel_button.setEnabled(True)
            self.progress.setRange(0, 0)
            self.progress.setFormat("")
            self.progress.show()
            self.say("Running ...")
            self._heard = []
            announced = self._announced
            self.start_job(
                lambda events, cancel: run_job(order, self._predictors, events, cancel),
                lambda outcome: self._finish(order, outcome, announced),
                self._fail,
                cancelled=self._stopped,
                event=self._show_event,
                kind=_RUN,
                title="A segmentation",
            )

    def _choice(self) -> SegmentChoice:
        choice = self.form.choice()
        return replace(choice, said=self.remedies.said(choice.layers[0] if choice.layers else None))

    def cancel(self) -> None:
        """Ask the running segmentation to stop."""
        if self.cancel_job(_RUN):
            self.cancel_button.setEnabled(False)
            self.say("Stopping ...")

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """A closed widget leaves no work behind."""
        self.cancel()
        super().closeEvent(event)

    def _finish(self, order: SegmentationJob, outcome: Outcome, announced: str | None) -> None:
        self._end()
        image = order.choice.layers[0]
        with self._current.adding_to(image) as layers:
            layers += add_results(order, outcome, self._current.viewer)
        if not layers:
            self.say_failure("The image layer was removed or given another image meanwhile; the result was dropped.")
            return
        for layer in layers:
            self._results[layer] = outcome, layers
        self._show_table()
        results = outcome.results
        first = next(iter(results.values()))
        how = f"{first.settings.get('precision', '')}, {first.execution}"
        elsewhere = "" if self._current.labels in layers else f" To see it, choose {image.name} under Image."
        promised = "" if announced is None else f" (announced: {announced})"
        self.say(f"Done in {outcome.seconds:.1f} s{promised}.{elsewhere} {first.intended_use}")
        self.said.setToolTip(how)
        if not elsewhere:
            # a look at the image that ends later, or that the new labels layer asks for, does not replace this
            if not self._ran_on(order.snapshots, order.choice.said):
                self._in_results = {}
            self._run_on = order.snapshots, order.choice.said
            self._in_results |= {task: result.findings for task, result in results.items()}
            self._look_at_image(self._choice())
        self._notify(() if elsewhere else [one.text for result in results.values() for one in result.findings])

    def _notify(self, shown: Collection[str]) -> None:
        """Tell what the panel does not show, in one notification: napari's cover each other."""
        unseen = [event for event in self._heard if event.text not in shown]
        if unseen:
            tell = show_warning if any(event.level == "warning" for event in unseen) else show_info
            tell(without_options("\n".join(dict.fromkeys(event.text for event in unseen))))

    def _show_table(self, _event: Any = None) -> None:
        """What was found in the current image, where its labels are a result."""
        labels = self._current.labels
        known = None if labels is None else self._results.get(labels)
        if known is None:
            self.table.clear()
            self.verdict.clear()
        elif not self.table.shows(known[1]):
            self.table.show_results(*known)
            self.verdict.show_results(known[0])
            self.table.count_again()

    def _fail(self, sentence: str) -> None:
        self._end()
        self.say_failure(sentence)

    def _stopped(self) -> None:
        self._end()
        self.say("Cancelled; nothing was changed.")

    def _end(self) -> None:
        self.run_button.setEnabled(True)
        self.cancel_button.setEnabled(False)
        self.progress.hide()

    def _show_event(self, event: Event) -> None:
        if isinstance(event, Progress) and event.total > 0:
            self.progress.setRange(0, event.total)
            self.progress.setValue(event.done)
            left = event.remaining_seconds
            self.progress.setFormat("%p %" if left is None else f"%p %  (about {duration(left)} left)")
        elif isinstance(event, Message):
            self._heard.append(event)
            self.say(f"Running ... {event.text}")

    def _choice_changed(self) -> None:
        self._announced = None
        self.drop_job(_FORECAST)  # an answer to an older choice is not shown
        self._acted = False
        self._look_ahead_soon()

    def _look_ahead(self) -> None:
        """Say what Run will do, and whether the image looks like what was chosen."""
        choice = self._choice()
        self._look_at_image(choice)
        if self.busy or self._acted:
            return
        if choice.layers and self.form.modality() is None:
            self._say_ahead("Choose the modality: the image does not tell what it is of.")
            return
        try:
            order = prepare_job(choice, self._viewer)
        except MedUniSegError as error:
            self._say_ahead(str(error))
            return
        if self._ahead and not self._trouble:
            self._say_ahead("Estimating what it takes ...")  # nothing of the choice before stays
        self.start_job(
            lambda _events, _cancel: forecast(order, self._predictors),
            self._show_forecast,
            self.say_failure,
            kind=_FORECAST,
            anew=True,
        )

    def _show_forecast(self, found: Forecast) -> None:
        if self.busy:
            return
        self._announced = found.time
        if self._trouble:
            self.say_failure(self._trouble)
        else:
            self._say_ahead(f"{found.text}. Classes: {self.form.classes_text()}.")

    def _look_at_image(self, choice: SegmentChoice) -> None:
        """Warn of an image that is not what the tasks expect: its voxels are read once, not at every tick."""
        plans = self.form.possible_plans()
        try:
            snapshots = snapshot_layers(choice.layers)
        except MedUniSegError:
            snapshots = ()  # what is wrong is said where the order is prepared
        said = choice.said
        if (plans, said) == self._looked_at[1:] and same_images(snapshots, self._looked_at[0]):
            self._show_found()
            return
        self._looked_at = snapshots, plans, said
        self.drop_job(_LOOK)
        self._trouble = ""
        self._at_once = seen_at_once(snapshots, said)
        self._look_done({})
        if not snapshots:
            return
        self.start_job(
            lambda _events, _cancel: look_at_image(snapshots, plans, said),
            lambda looked: self._looked(choice, looked),
            self._no_good,
            kind=_LOOK,
        )

    def _looked(self, choice: SegmentChoice, looked: Looked) -> None:
        self._look_done(looked.findings)
        if len(choice.layers) == 1:
            self.form.tell_modalities(choice.layers[0], looked.guess)

    def _look_done(self, found: dict[str, tuple[Finding, ...]]) -> None:
        self._found = found
        self._show_found()

    def _ran_on(self, snapshots: tuple[LayerSnapshot, ...], said: Said) -> bool:
        return said == self._run_on[1] and same_images(snapshots, self._run_on[0])

    def _show_found(self) -> None:
        """What was found out about the image, for the tasks that are ticked."""
        tasks = [plan.task for plan in self.form.chosen_plans()]
        of_results = self._in_results if self._ran_on(self._looked_at[0], self._looked_at[2]) else {}
        found = findings_for(self._at_once, {**self._found, **of_results}, tasks)
        self._warn([finding.text for finding in found if finding.level == "warning"])
        notes = [finding.text for finding in found if finding.level == "info"]
        self.note.say(without_options("\n".join(notes)))
        self.note.setVisible(bool(notes))
        self.remedies.show_for(self._current.image, found)

    def _reopen(self) -> None:
        """Open the image's file by our own reader, beside the layer that another one made."""
        image = self._current.image
        if image is None or not image.source.path:
            return
        path = Path(image.source.path)
        self.start_job(lambda _events, _cancel: read_one(path), self._opened_again, self.say_failure, kind=_OPEN)

    def _opened_again(self, layers: list[LayerData]) -> None:
        added = [self._current.viewer.add_layer(Layer.create(data, options, kind)) for data, options, kind in layers]
        if added and isinstance(added[0], ImageLayer):
            self._current.choose_image(added[0])

    def _warn(self, texts: Sequence[str]) -> None:
        self.warning.say(without_options("\n".join(texts)), trouble=True)
        self.warning.setVisible(bool(texts))

    def _no_good(self, sentence: str) -> None:
        self._trouble = sentence
        self._looked_at = (), [], Said()  # it may be mended: look again at the next change
        if not self.busy:
            self.say_failure(sentence)

    def _say_of_action(self, text: str, warn: bool) -> None:
        """What became of saving or correcting: no forecast for a choice made before is put over it."""
        self._acted = True
        self.drop_job(_FORECAST)
        self.say(text, warn)

    def _say_ahead(self, text: str) -> None:
        """Something about the choice as it stands, which another choice makes void."""
        self.say(text)
        self._ahead = True

    def say(self, text: str, trouble: bool = False) -> None:
        """Show a sentence, in the panel's terms; trouble stands out."""
        self._ahead = False
        super().say(without_options(text), trouble)
        self.said.setToolTip("")
