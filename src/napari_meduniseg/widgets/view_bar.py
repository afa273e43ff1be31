"""One row of buttons: axial, coronal, sagittal, and the windows of a CT."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import napari
from napari.layers import Image as ImageLayer
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QPushButton, QWidget

from meduniseg_core.images.appearance import CT_WINDOWS
from napari_meduniseg._views import View, set_view, set_window

_VIEWS: tuple[tuple[str, View], ...] = (("Axial", "axial"), ("Coronal", "coronal"), ("Sagittal", "sagittal"))


class ViewBar(QWidget):
    """Acts on the viewer; ``layer`` tells which image layer a window is for."""

    def __init__(self, viewer: napari.Viewer, layer: Callable[[], ImageLayer | None]) -> None:
        super().__init__()
        self._layer = layer
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self.buttons = {}
        for title, view in _VIEWS:
            button = QPushButton(title)
            button.setToolTip(f"Show {view} slices of a volume.")
            button.clicked.connect(partial(set_view, viewer, view))
            row.addWidget(button)
            self.buttons[view] = button
        self.window_box = QComboBox()
        self.window_box.setToolTip("Grey values of a CT that are shown from black to white (HU).")
        self.window_box.addItem("CT window", None)
        for window in CT_WINDOWS:
            self.window_box.addItem(f"{window.name} ({window.low:.0f} to {window.high:.0f})", window)
        self.window_box.activated.connect(self._apply)
        row.addWidget(self.window_box)

    def _apply(self, _index: int) -> None:
        window, layer = self.window_box.currentData(), self._layer()
        if window is not None and layer is not None and not layer.rgb:
            set_window(layer, window)
