"""Offering edits that a crash left, in any panel; in the Edit panel also those put aside within the last week."""

from __future__ import annotations

from functools import partial

import napari
from napari.layers import Labels
from napari.utils.notifications import show_warning
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QMenu, QMessageBox, QPushButton, QVBoxLayout, QWidget

from napari_meduniseg import _autosave
from napari_meduniseg.widgets.keeping import keeper_of
from napari_meduniseg.widgets.working import Working


class Recovery(Working, QWidget):
    """Hidden until there is something to offer. ``with_bin``: offer edits in the bin, too."""

    def __init__(self, viewer: napari.Viewer, with_bin: bool = False) -> None:
        super().__init__()
        self._viewer, self._with_bin = viewer, with_bin
        self.keeper = keeper_of(viewer)
        self.keeper.panels.add(self)
        self.box = QComboBox()
        self.box.setToolTip("Edits that were not saved when the program ended unexpectedly.")
        self.box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.box.setMinimumContentsLength(12)
        self.restore_button, self.discard_button = QPushButton("Restore"), QPushButton("Discard ...")
        self.restore_button.setToolTip("Add these labels to the viewer.")
        self.discard_button.setToolTip("Put these edits aside; the Edit panel keeps them for a week.")
        self.bin_button = QPushButton("Discarded edits")
        self.bin_button.setToolTip("Edits that were discarded, or not saved when napari was closed; kept for a week.")
        self._menu = QMenu(self)
        self.bin_button.setMenu(self._menu)
        self._offer = QWidget()
        row = QHBoxLayout()
        row.addWidget(self.box, 1)
        row.addWidget(self.restore_button)
        row.addWidget(self.discard_button)
        offer = QVBoxLayout(self._offer)
        offer.setContentsMargins(0, 0, 0, 0)
        offer.addWidget(QLabel("Unfinished edits were found:"))
        offer.addLayout(row)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._offer)
        layout.addWidget(self.bin_button)
        self.restore_button.clicked.connect(self.restore)
        self.discard_button.clicked.connect(self._ask_and_discard)
        self._menu.aboutToShow.connect(self._fill_menu)
        self.keeper.changed.connect(self.refresh)
        self.refresh()

    @property
    def busy(self) -> bool:
        """Whether edits are being written or read."""
        return self.keeper.busy or super().busy

    def save_now(self) -> None:
        """Keep what has changed, now."""
        self.keeper.save_now()

    def refresh(self) -> None:
        """Show what there is to offer."""
        self.box.clear()
        for leftover in _autosave.leftovers():
            self.box.addItem(leftover.text, leftover)
        aside = self._with_bin and bool(_autosave.binned())
        self._offer.setVisible(self.box.count() > 0)
        self.bin_button.setVisible(aside)
        self.setVisible(self.box.count() > 0 or aside)

    def restore(self) -> None:
        """Add the chosen edits as a labels layer. They are read in a thread, and kept until the user saves them."""
        self.bring_back(self.box.currentData())

    def bring_back(self, leftover: _autosave.Leftover | None) -> None:
        """Add these edits, left by a crash or from the bin, as a labels layer."""
        if leftover is not None:
            self.start_job(
                lambda _events, _cancel: _autosave.restore(leftover),
                lambda found: self._restored(leftover, found),
                self._unreadable,
            )

    def _restored(self, leftover: _autosave.Leftover, found: _autosave.Restored) -> None:
        layer = Labels(found.labels, **found.options)
        self.keeper.restored(layer, found.locked)
        self._viewer.add_layer(layer)
        _autosave.take_over(leftover, layer)
        self.keeper.changed.emit()

    def _unreadable(self, sentence: str) -> None:
        show_warning(sentence)
        self.keeper.changed.emit()  # another window may have taken them

    def _ask_and_discard(self) -> None:
        leftover = self.box.currentData()
        if leftover is None:
            return
        text = f"Discard the edits of {leftover.text}?\n\nThe Edit panel keeps them a week, under 'Discarded edits'."
        answer = QMessageBox.question(self, "Discard", text, defaultButton=QMessageBox.StandardButton.No)
        if answer == QMessageBox.StandardButton.Yes:
            self.discard(leftover)

    def discard(self, leftover: _autosave.Leftover) -> None:
        """Put these edits into the bin."""
        _autosave.discard_leftover(leftover)
        self.keeper.changed.emit()

    def _fill_menu(self) -> None:
        self._menu.clear()
        for leftover in _autosave.binned():
            self._menu.addAction(f"Bring back {leftover.text}", partial(self.bring_back, leftover))
