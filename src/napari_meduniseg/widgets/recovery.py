"""Keeping unfinished edits, and offering back what a crash left."""

from __future__ import annotations

from typing import Any

import napari
from napari.layers import Labels
from qtpy.QtCore import QCoreApplication, QTimer
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_meduniseg import _autosave
from napari_meduniseg._editing import Locks
from napari_meduniseg._jobs import Job

SAVE_EVERY_MS = 30_000
_END_SECONDS = 10.0


class Recovery(QWidget):
    """Invisible until there is something to offer back."""

    def __init__(self, viewer: napari.Viewer, locks: Locks) -> None:
        super().__init__()
        self._viewer, self._locks = viewer, locks
        locks.changed = self._locks_changed
        self._dirty: set[Labels] = set()
        self._watched: Labels | None = None
        self._job: Job | None = None
        self._reading: Job | None = None
        self.box = QComboBox()
        self.box.setToolTip("Edits that were not saved when the program ended unexpectedly.")
        self.restore_button, self.discard_button = QPushButton("Restore"), QPushButton("Discard")
        self.restore_button.setToolTip("Add these labels to the viewer.")
        self.discard_button.setToolTip("Delete these edits for good.")
        row = QHBoxLayout()
        for widget in (self.box, self.restore_button, self.discard_button):
            row.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("Unfinished edits were found:"))
        layout.addLayout(row)
        self._timer = QTimer(self)
        self._timer.setInterval(SAVE_EVERY_MS)
        self._timer.timeout.connect(self.save_now)
        self._timer.start()
        self.restore_button.clicked.connect(self.restore)
        self.discard_button.clicked.connect(self.discard)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._end)
        self.refresh()

    def watch(self, layer: Labels | None) -> None:
        """Keep the changes of this layer from now on."""
        if self._watched is layer:
            return
        if self._watched is not None:
            self._watched.events.paint.disconnect(self._changed)
            self._watched.events.labels_update.disconnect(self._changed)
        self._watched = layer
        if layer is not None:
            layer.events.paint.connect(self._changed)
            layer.events.labels_update.connect(self._changed)

    @property
    def busy(self) -> bool:
        """Whether edits are being written or read."""
        return self._job is not None or self._reading is not None

    def save_now(self) -> None:
        """Write what has changed since the last time, beside the GUI; layers that are gone are forgotten."""
        if self._job is not None:
            return  # the next round takes what is changed meanwhile
        for layer in [layer for layer in self._dirty if layer not in self._viewer.layers]:
            _autosave.forget(layer)
            self._dirty.discard(layer)
        if not self._dirty:
            return
        taken = [_autosave.snapshot(layer, self._locks.of(layer)) for layer in self._dirty]
        layers = set(self._dirty)
        self._dirty.clear()
        job = self._job = Job(lambda _events, _cancel: _write_all(taken), self)
        job.done.connect(lambda trouble: self._saved(trouble, layers))
        job.failed.connect(lambda sentence: self._saved(sentence, layers))
        job.start()

    def _end(self) -> None:
        if self._job is not None:
            self._job.wait(_END_SECONDS)  # else it would leave a file that looks like a crash's
        _autosave.forget_all()

    def _saved(self, trouble: str | None, layers: set[Labels]) -> None:
        self._job = None
        for layer in [layer for layer in layers if layer not in self._viewer.layers]:
            _autosave.forget(layer)
        if trouble is not None:
            self._dirty |= layers  # tried again the next time
            self._viewer.status = trouble

    def refresh(self) -> None:
        """Show what there is to offer."""
        self.box.clear()
        for leftover in _autosave.leftovers():
            self.box.addItem(leftover.text, leftover)
        self.setVisible(self.box.count() > 0)

    def restore(self) -> None:
        """Add the chosen edits as a labels layer; they are read beside the GUI, and kept until napari ends properly."""
        leftover = self.box.currentData()
        if leftover is None or self._reading is not None:
            return
        job = self._reading = Job(lambda _events, _cancel: _autosave.restore(leftover), self)
        job.done.connect(lambda found: self._restored(leftover, found))
        job.failed.connect(self._unreadable)
        job.start()

    def _restored(self, leftover: _autosave.Leftover, found: _autosave.Restored) -> None:
        self._reading = None
        layer = Labels(found.labels, **found.options)
        for label in found.locked:
            self._locks.set(layer, label, True)
        self._viewer.add_layer(layer)  # type: ignore[no-untyped-call]
        _autosave.take_over(leftover, layer)
        self.refresh()

    def _unreadable(self, sentence: str) -> None:
        self._reading = None
        self._viewer.status = sentence

    def discard(self) -> None:
        """Delete the chosen edits."""
        leftover = self.box.currentData()
        if leftover is not None:
            leftover.path.unlink(missing_ok=True)
            self.refresh()

    def _locks_changed(self, layer: Labels) -> None:
        if _autosave.is_kept(layer):  # a lock alone is no edit that one would miss
            self._dirty.add(layer)

    def _changed(self, _event: Any = None) -> None:
        if self._watched is not None:
            self._dirty.add(self._watched)


def _write_all(taken: list[_autosave.Snapshot]) -> str | None:
    """Write them; what went wrong in one sentence."""
    try:
        for one in taken:
            _autosave.write(one)
    except OSError as error:
        return f"Unfinished edits cannot be kept ({error.strerror}); save often."
    return None
