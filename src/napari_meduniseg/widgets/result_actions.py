"""What one does with a result: correct it, save it beside its image."""

from __future__ import annotations

import napari
from napari.layers import Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_meduniseg.widgets.save_button import SaveButton

_REMOVED = "The result was removed; run again."


class ResultActions(QWidget):
    """Two buttons for the newest result; ``said`` brings what happened in one sentence, and whether it is trouble."""

    said = Signal(str, bool)

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._layers: list[Labels] = []
        self.correct_button, self.save_button = QPushButton("Correct ..."), SaveButton(self.layer, _REMOVED)
        self.correct_button.setToolTip("Open the Edit panel for this result.")
        self.correct_button.clicked.connect(self.correct)
        self.save_button.said.connect(self.said)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.correct_button)
        row.addWidget(self.save_button)
        self.hide()

    def offer(self, layers: list[Labels]) -> None:
        """Show the buttons for these results."""
        self._layers = layers
        self.setVisible(bool(layers))

    def layer(self) -> Labels | None:
        """The result that is meant: the selected one if it is among them, else the first that is still there."""
        there = [layer for layer in self._layers if layer in self._viewer.layers]
        active = self._viewer.layers.selection.active
        return active if active in there else next(iter(there), None)

    def correct(self) -> None:
        """Open the Edit panel beside this one and give it the result."""
        layer = self.layer()
        if layer is None:
            self.said.emit(_REMOVED, True)
            return
        _, panel = self._viewer.window.add_plugin_dock_widget("napari-meduniseg", "Edit", tabify=True)
        panel.layer_box.set_layer(layer)
