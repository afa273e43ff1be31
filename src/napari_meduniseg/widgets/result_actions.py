"""What users do with labels: correct them, or save them beside their image."""

from __future__ import annotations

from typing import Any

import napari
from napari.layers import Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QPushButton, QWidget

from napari_meduniseg._current import current_of
from napari_meduniseg.widgets.opening import open_panel
from napari_meduniseg.widgets.save_button import SaveButton
from napari_meduniseg.widgets.target_name import TargetName

_MISSING = "There are no labels; press Run first. Labels that were removed can be computed again."


class ResultActions(QWidget):
    """Two buttons for the current labels, and the labels' name.

    ``said`` brings what happened in one sentence, and whether it is trouble.
    """

    said = Signal(str, bool)

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer, self._current = viewer, current_of(viewer)
        self.name = TargetName(self._current)
        self.correct_button, self.save_button = QPushButton("Correct ..."), SaveButton(self.layer, _MISSING)
        self.correct_button.setToolTip("Open the Edit panel for these labels.")
        self.correct_button.clicked.connect(self.correct)
        self.save_button.said.connect(self.said)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.name, 0, 0, 1, 2)
        grid.addWidget(self.correct_button, 1, 0)
        grid.addWidget(self.save_button, 1, 1)
        self._current.events.changed.connect(self._enable)
        self._enable()

    def layer(self) -> Labels | None:
        """The labels that the buttons act on."""
        return self._current.labels

    def correct(self) -> None:
        """Open the Edit panel, or bring it to the front."""
        layer = self.layer()
        if layer is None:
            self.said.emit(_MISSING, True)
            return
        open_panel(self._viewer, "Edit")
        self._current.choose_labels(layer)

    def _enable(self, _event: Any = None) -> None:
        for button in (self.correct_button, self.save_button):
            button.setEnabled(self.layer() is not None)
