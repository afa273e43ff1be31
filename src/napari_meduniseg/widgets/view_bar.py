"""Views of the current image: axial, coronal, sagittal, the windows of a CT, and showing the other images again."""

from __future__ import annotations

from functools import partial
from typing import Any

import napari
from qtpy.QtWidgets import QComboBox, QGridLayout, QPushButton, QWidget

from meduniseg_core.images.modality_check import CT_WINDOWS
from napari_meduniseg._current import current_of
from napari_meduniseg._views import View, set_view, set_window

_VIEWS: tuple[tuple[str, View], ...] = (("Axial", "axial"), ("Coronal", "coronal"), ("Sagittal", "sagittal"))


class ViewBar(QWidget):
    """Acts on the viewer and its current image."""

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._current = current_of(viewer)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        self.buttons = {}
        for column, (title, view) in enumerate(_VIEWS):
            button = QPushButton(title)
            button.setToolTip(f"Show {view} slices of a volume.")
            button.clicked.connect(partial(set_view, viewer, view))
            grid.addWidget(button, 0, column)
            self.buttons[view] = button
        self.window_box = QComboBox()
        self.window_box.setToolTip("Grey values of a CT that are shown from black to white (HU).")
        self.window_box.addItem("CT window", None)
        for window in CT_WINDOWS:
            self.window_box.addItem(f"{window.name} ({window.low:.0f} to {window.high:.0f})", window)
        self.window_box.activated.connect(self._apply)
        grid.addWidget(self.window_box, 1, 0, 1, 2)
        self.all_button = QPushButton("Show all")
        self.all_button.setToolTip("Show again the images and labels that were hidden when one image was chosen.")
        self.all_button.clicked.connect(self._current.show_all)
        grid.addWidget(self.all_button, 1, 2)
        self._current.events.changed.connect(self._enable)
        self._enable()

    def _apply(self, _index: int) -> None:
        window, layer = self.window_box.currentData(), self._current.image
        if window is not None and layer is not None and not layer.rgb:
            set_window(layer, window)

    def _enable(self, _event: Any = None) -> None:
        self.all_button.setEnabled(bool(self._current.put_aside))
