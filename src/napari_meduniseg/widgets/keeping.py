"""Keeping the edits of a viewer's labels layers while it runs, and what remains when it ends."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from weakref import WeakSet, ref

import napari
from napari.layers import Labels
from napari.utils.notifications import show_warning
from qtpy.QtCore import QCoreApplication, QObject, QTimer, Signal
from qtpy.QtWidgets import QWidget

from napari_meduniseg import _autosave, _unsaved
from napari_meduniseg._editing import Locks
from napari_meduniseg._jobs import is_under
from napari_meduniseg.widgets.closing import Kept, ask_about, guard_windows
from napari_meduniseg.widgets.working import Working

SAVE_EVERY_MS = 30_000
_END_SECONDS = 60.0


class Keeper(Working, QObject):
    """Keeps the edits of one viewer; all panels share it. ``changed``: there is something else to offer back."""

    changed = Signal()

    def __init__(self, layers: Any) -> None:
        super().__init__(QCoreApplication.instance())
        self._layers = ref(layers)
        self.locks = Locks(changed=self._locks_changed)
        self.panels: WeakSet[QWidget] = WeakSet()
        self._dirty: set[Labels] = set()
        self._timer = QTimer(self)
        self._timer.setInterval(SAVE_EVERY_MS)
        self._timer.timeout.connect(self.save_now)
        self._timer.start()
        layers.events.inserted.connect(self._inserted)
        layers.events.removed.connect(self._removed)
        for layer in layers:
            self._watch(layer)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.end)

    @property
    def alive(self) -> bool:
        """Whether the viewer still exists."""
        return self._layers() is not None

    def is_under(self, window: QObject) -> bool:
        """Whether the viewer is in this window, judged by its panels."""
        return all(is_under(panel, window) for panel in self.panels)

    def keeps(self, layers: Any) -> bool:
        """Whether these are the viewer's layers."""
        return self._layers() is layers

    def unsaved(self) -> list[Labels]:
        """The labels layers with edits that were neither saved nor accepted, in the viewer's order."""
        return [layer for layer in self._there() if _unsaved.is_unsaved(layer)]

    def save_now(self) -> None:
        """Write what has changed since the last time, in a thread, and drop what was saved or removed."""
        guard_windows()
        if self.busy:
            return  # the next round takes what is changed meanwhile
        for layer in {*self._there(), *self._dirty}:
            if not _unsaved.is_unsaved(layer):
                _autosave.forget(layer)
                self._dirty.discard(layer)
        if not self._dirty:
            return
        taken = [_autosave.snapshot(layer, self.locks.of(layer)) for layer in self._dirty]
        layers = set(self._dirty)
        self._dirty.clear()
        self.start_job(
            lambda _events, _cancel: _write_all(taken),
            lambda trouble: self._saved(trouble, layers),
            lambda sentence: self._saved(sentence, layers),
        )

    def restored(self, layer: Labels, locked: Collection[int]) -> None:
        """Note that edits came back as this layer, which is in no viewer yet."""
        for label in locked:
            self.locks.set(layer, label, True)
        _unsaved.watch(layer)
        _unsaved.changed(layer)  # they are kept nowhere else yet

    def end(self) -> None:
        """The viewer ends normally: edits that were not saved go to the bin, where they stay for a week."""
        self.finish_job(_END_SECONDS)  # else it would leave a file that looks like a crash's
        there = self._there()
        layers = [layer for layer in self._dirty if _unsaved.is_unsaved(layer)]
        self._dirty.clear()
        trouble = _write_all([_autosave.snapshot(layer, self.locks.of(layer)) for layer in layers])
        for layer in there:
            if not _unsaved.is_unsaved(layer):
                _autosave.forget(layer)
        _autosave.put_all_aside()
        if trouble is not None:
            show_warning(trouble)

    def _there(self) -> list[Labels]:
        layers = self._layers()
        return [] if layers is None else [layer for layer in layers if isinstance(layer, Labels)]

    def _inserted(self, event: Any) -> None:
        self._watch(event.value)

    def _removed(self, event: Any) -> None:
        if isinstance(event.value, Labels) and _autosave.is_kept(event.value):
            self._dirty.add(event.value)  # the next round puts it aside

    def _watch(self, layer: Any) -> None:
        if not isinstance(layer, Labels):
            return
        _unsaved.watch(layer)

        def note(_event: Any = None) -> None:
            self._dirty.add(layer)

        for event in (layer.events.paint, layer.events.labels_update, layer.events.data):
            event.connect(note)

    def _saved(self, trouble: str | None, layers: set[Labels]) -> None:
        there = self._there()
        for layer in [layer for layer in layers if layer not in there]:
            _autosave.put_aside(layer)  # removed by hand: the bin has it for a week
        if trouble is not None:
            self._dirty |= layers  # tried again the next time
            show_warning(trouble)

    def _locks_changed(self, layer: Labels) -> None:
        if _autosave.is_kept(layer):  # nobody would miss a lock alone
            self._dirty.add(layer)


_KEEPERS: list[Keeper] = []


def keeper_of(viewer: napari.Viewer) -> Keeper:
    """The keeper of this viewer; created where there is none."""
    guard_windows()
    layers = getattr(viewer.layers, "__wrapped__", viewer.layers)  # panels get a proxy each
    _KEEPERS[:] = [keeper for keeper in _KEEPERS if keeper.alive]
    for keeper in _KEEPERS:
        if keeper.keeps(layers):
            return keeper
    _KEEPERS.append(Keeper(layers))
    return _KEEPERS[-1]


def keepers() -> list[Kept]:
    """The keepers of all existing viewers."""
    return [keeper for keeper in _KEEPERS if keeper.alive]


ask_about(keepers)


def _write_all(taken: list[_autosave.Snapshot]) -> str | None:
    """Write snapshots; returns what went wrong, in one sentence."""
    try:
        for one in taken:
            _autosave.write(one)
    except OSError as error:
        return f"Unfinished edits cannot be kept in {_autosave.folder()} ({error.strerror}); make room, and save often."
    return None
