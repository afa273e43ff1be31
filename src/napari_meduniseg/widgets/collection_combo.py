"""The list of the collections of corrections. A folder that is added in one panel is listed in all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog
from superqt.utils import signals_blocked

from napari_meduniseg._collections import Collection, add_collection, collections
from napari_meduniseg._signals import signals
from napari_meduniseg.widgets.working import Working

_OTHER = "other"


class CollectionCombo(Working, QComboBox):
    """Lists the collections, entries of the panel's own (title and data), and *Other folder ...*, which asks for one.

    ``listed`` is emitted after the list was made anew, with whether the entry that was chosen is still chosen;
    ``picked`` after the user has chosen an entry or a folder; ``failed`` with the sentence of an error.

    Args:
        entries: the panel's own entries.
        title: what is chosen, for the dialog that asks for a folder.
        find: finds what lies in a folder, in a worker's thread.
    """

    listed = Signal(bool)
    picked = Signal()
    failed = Signal(str)

    def __init__(
        self,
        *entries: tuple[str, str],
        title: str = "A collection of corrections",
        find: Callable[[Path], Collection] = add_collection,
    ) -> None:
        super().__init__()
        self._entries, self._title, self._find = entries, title, find
        self._before = 0  # the entry to go back to if no folder is chosen
        self._telling = False
        self.activated.connect(self._activated)
        signals().accepted.connect(self._heard)
        signals().collections_changed.connect(self._heard)

    def current(self) -> Collection | None:
        """The collection that is chosen; None for an entry of the panel's own."""
        data = self.currentData()
        return data if isinstance(data, Collection) else None

    def known(self) -> list[Collection]:
        """The collections in the list."""
        data = (self.itemData(row) for row in range(self.count()))
        return [entry for entry in data if isinstance(entry, Collection)]

    def choose(self, wanted: Callable[[Collection], bool]) -> bool:
        """Choose the first collection of this kind; returns whether there is one."""
        for row in range(self.count()):
            data = self.itemData(row)
            if isinstance(data, Collection) and wanted(data):
                self._choose_row(row)
                return True
        return False

    def choose_entry(self, data: str) -> None:
        """Choose one of the panel's own entries."""
        self._choose_row(self.findData(data))

    def refresh(self) -> None:
        """Look for collections, in a thread."""
        self.start_job(lambda _events, _cancel: collections(), self._list, self._no_list, anew=True)

    def choose_folder(self, folder: Path) -> None:
        """Add the collection in a folder, and choose it."""
        self.start_job(lambda _events, _cancel: self._find(folder), self._found, self._not_found, anew=True)

    def show_collection(self, found: Collection) -> None:
        """Choose a collection, which is new or has other counts than the list says."""
        self._add(found)
        self.listed.emit(True)

    def _add(self, found: Collection) -> None:
        known = [found if entry.folder == found.folder else entry for entry in self.known()]
        self._fill(known if found in known else [*known, found], found)

    def _fill(self, found: list[Collection], chosen: Collection | None) -> bool:
        """List these collections; returns whether the one that was chosen is among them."""
        entry_before = self.currentData()
        if chosen is not None and chosen.counts is None and chosen not in found:
            found = [*found, chosen]  # a data set is in no list but this one
        folders = [entry.folder for entry in found]
        with signals_blocked(self):
            self.clear()
            for row, entry in enumerate(found):
                self.addItem(entry.text, entry)
                self.setItemData(row, str(entry.folder), Qt.ItemDataRole.ToolTipRole)
            for title, data in (*self._entries, ("Other folder ...", _OTHER)):
                self.addItem(title, data)
        if chosen is None or chosen.folder not in folders:
            self._choose_row(max(0, self.findData(entry_before)))
            return False
        self._choose_row(folders.index(chosen.folder))
        return True

    def _list(self, found: list[Collection]) -> None:
        self.listed.emit(self._fill(found, self.current()))

    def _no_list(self, sentence: str) -> None:
        self._list([])
        self.failed.emit(sentence)

    def _found(self, found: Collection) -> None:
        self._add(found)
        self.picked.emit()
        self._telling = True
        signals().collections_changed.emit()
        self._telling = False

    def _not_found(self, sentence: str) -> None:
        self._choose_row(self._before)
        self.failed.emit(sentence)

    def _activated(self, row: int) -> None:
        if self.itemData(row) != _OTHER:
            self._before = row
            self.picked.emit()
            return
        self._choose_row(self._before)
        folder = QFileDialog.getExistingDirectory(self, self._title)
        if folder:
            self.choose_folder(Path(folder))

    def _choose_row(self, row: int) -> None:
        self._before = row
        self.setCurrentIndex(row)

    def _heard(self, *_: object) -> None:
        if not self._telling:
            self.refresh()
