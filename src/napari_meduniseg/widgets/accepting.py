"""The part of the Edit widget that accepts a correction into a collection, from which the next model learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from weakref import WeakKeyDictionary

from napari.layers import Image as ImageLayer
from napari.layers import Labels
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGroupBox,
    QLineEdit,
    QPushButton,
)

from meduniseg_core.catalog import MODALITIES
from meduniseg_core.errors import MedUniSegError
from napari_meduniseg import _unsaved
from napari_meduniseg._accepting import (
    Acceptance,
    EditingClock,
    Origins,
    accept,
    check_accepted_here,
    origins_of,
    submission,
)
from napari_meduniseg._collections import Collection, new_collection
from napari_meduniseg._signals import signals
from napari_meduniseg.widgets.collection_combo import CollectionCombo
from napari_meduniseg.widgets.message import Sentence
from napari_meduniseg.widgets.reader_field import ReaderField
from napari_meduniseg.widgets.working import Working

_NEW = "new"


class AcceptBox(Working, QGroupBox):
    """Collection, patient, Accept.

    ``image`` gives the image of the labels. The panel places the button and the message line, so that they stay in
    sight.
    """

    def __init__(self, image: Callable[[], ImageLayer | None]) -> None:
        super().__init__("Accept the correction")
        self._image = image
        self._layer: Labels | None = None
        self._clocks: WeakKeyDictionary[Labels, EditingClock] = WeakKeyDictionary()
        self._changes = 0
        self._own: Path | None = None  # the collection for labels that tell no task
        self.collection = CollectionCombo(("New collection", _NEW))
        self.collection.setToolTip("Where the corrected case goes: a data set from which Learn makes a better model.")
        self.task = QLineEdit()
        self.task.setToolTip("A short name for what is segmented: letters, digits, _ and -.")
        self.modality = QComboBox()
        self.modality.setToolTip("What kind of image it is.")
        self.modality.setPlaceholderText("choose")
        for name, modality in MODALITIES.items():
            self.modality.addItem(modality.title, name)
        self.patient = QLineEdit()
        self.patient.setPlaceholderText("optional")
        self.patient.setToolTip(
            "A code, not a name. Images with the same code stay together: all for training, or all held back."
        )
        self.reader = ReaderField()
        self.button = QPushButton("Accept")
        self.button.setToolTip("Store image and labels as they are now; accepting again replaces them.")
        self.said = Sentence(0)
        self._form = QFormLayout(self)
        self._form.addRow("Collection", self.collection)
        self._form.addRow("Task", self.task)
        self._form.addRow("Modality", self.modality)
        self._form.addRow("Patient", self.patient)
        self._form.addRow("Reader", self.reader)
        self.collection.listed.connect(self._listed)
        self.collection.picked.connect(self._picked)
        self.collection.failed.connect(lambda sentence: self._say(sentence, trouble=True))
        self.button.clicked.connect(self.accept)
        self.show_layer(None)
        self.collection.refresh()

    @property
    def busy(self) -> bool:
        """Whether a correction is being accepted, or collections are looked for."""
        return super().busy or self.collection.busy

    # -- what is shown ------------------------------------------------------------------------------------------

    def show_layer(self, layer: Labels | None) -> None:
        """Show what would be done with these labels."""
        if layer is not self._layer and not self.does(""):
            self._say("")  # what was said of other labels is not of these
        self._layer = layer
        self.button.setEnabled(layer is not None and not self.does(""))
        if layer is None:
            return
        known = origins_of(layer)
        if known.task is None and self._choose_own():
            return  # labels that tell no task, one after the other, go where the last ones of that kind went
        self._tell_of(known)
        self._propose()

    def _tell_of(self, known: Origins) -> None:
        """Describe a new collection for these labels.

        What they do not tell is asked for, not taken from other labels.
        """
        self.task.setText(known.task or "")
        self.modality.setCurrentIndex(self.modality.findData(known.modality))

    def tick(self) -> None:
        """Note a change of the shown labels."""
        self._changes += 1
        if self.said.text() and not self.does(""):
            self._say("")  # what was accepted is no longer what is shown
        if self._layer is not None:
            self._clocks.setdefault(self._layer, EditingClock()).tick()

    # -- doing --------------------------------------------------------------------------------------------------

    def accept(self) -> None:
        """Accept the correction, in a thread."""
        if self.does("") or self._layer is None:
            return
        layer, clock, mark = self._layer, self._clocks.get(self._layer), _unsaved.mark(self._layer)
        try:
            check_accepted_here(layer)
            into = self._chosen()
            given = submission(
                layer,
                self._image(),
                clock.seconds if clock is not None else None,
                self.patient.text().strip(),
                lambda: self._changes,
            )
        except MedUniSegError as error:
            self._say(str(error), trouble=True)
            return
        reader = self.reader.text().strip() or None
        self.button.setEnabled(False)
        self._say("Accepting ...")
        self.start_job(
            lambda _events, _cancel: accept(given, into, reader),
            lambda done: self._accepted(layer, mark, done),
            self._failed,
        )

    def _accepted(self, layer: Labels, mark: int, done: Acceptance) -> None:
        entry, collection = done.entry, done.collection
        _unsaved.saved(layer, mark)
        self.button.setEnabled(self._layer is not None)
        side = "for training" if entry.subset == "training" else "held back for comparisons"
        said = [f"Accepted as {entry.case}, {side}.", *(finding.text for finding in done.findings)]
        self._say(" ".join(said), trouble=bool(done.findings))
        self._clocks.pop(layer, None)
        self._note(layer, collection)
        self.collection.show_collection(collection)
        signals().accepted.emit(str(collection.folder), bool(done.findings))

    def _failed(self, sentence: str) -> None:
        self.button.setEnabled(self._layer is not None)
        self._say(sentence, trouble=True)

    def _say(self, text: str, trouble: bool = False) -> None:
        self.said.say(text, trouble)

    # -- where it goes ------------------------------------------------------------------------------------------

    def _chosen(self) -> Collection:
        return self.collection.current() or new_collection(self.task.text(), self.modality.currentData())

    def _listed(self, kept: bool) -> None:
        if kept:
            self._show_fields()
        else:
            self._propose()

    def _note(self, layer: Labels | None, collection: Collection | None) -> None:
        """Remember the collection for the next labels without a task. Labels with a task are never proposed it."""
        if layer is not None and collection is not None and origins_of(layer).task is None:
            self._own = collection.folder

    def _choose_own(self) -> bool:
        found = self._own is not None and self.collection.choose(lambda entry: entry.folder == self._own)
        if found:
            self._show_fields()
        return found

    def _propose(self) -> None:
        """Propose the collection of the layer's task, or a new one where there is none."""
        task = self.task.text()
        if not self.collection.choose(lambda entry: entry.task == task):
            self.collection.choose_entry(_NEW)
        self._show_fields()

    def _picked(self) -> None:
        if self.collection.currentData() == _NEW and self._layer is not None:
            self._tell_of(origins_of(self._layer))
        self._note(self._layer, self.collection.current())
        self._show_fields()

    def _show_fields(self) -> None:
        new = self.collection.currentData() == _NEW
        for row in (self.task, self.modality):
            self._form.setRowVisible(row, new)
