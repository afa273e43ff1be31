"""Views of the current image: axial, coronal, sagittal, the windows of a CT, and showing the other images again."""

from __future__ import annotations

from functools import partial
from typing import Any

import napari
from napari.layers import Image as ImageLayer
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QGridLayout, QPushButton, QWidget

from meduniseg_core.images.modality_check import CT_WINDOWS
from napari_meduniseg._current import current_of
from napari_meduniseg._views import View, active_view, active_window, set_view, set_window

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
            button.setCheckable(True)
            button.clicked.connect(partial(self._set_view, view))
            grid.addWidget(button, 0, column)
            self.buttons[view] = button
        self.window_box = QComboBox()
        self.window_box.setToolTip("Grey values that are shown from black to white: the usual windows of CT, in HU.")
        self.window_box.addItem("", None)
        for window in CT_WINDOWS:
            self.window_box.addItem(f"{window.name} ({window.low:.0f} to {window.high:.0f})", window)
        self.window_box.activated.connect(self._apply)
        grid.addWidget(self.window_box, 1, 0, 1, 2)
        self.all_button = QPushButton("Show all")
        self.all_button.setToolTip("Show again the images and labels that were hidden when one image was chosen.")
        self.all_button.clicked.connect(self._current.show_all)
        grid.addWidget(self.all_button, 1, 2)
        self._contrast_of: ImageLayer | None = None
        dims = self._current.viewer.dims
        for event in (dims.events.order, dims.events.ndisplay, dims.events.ndim):
            event.connect(self._show_view)
        self._current.events.changed.connect(self._enable)
        self._enable()

    def _set_view(self, view: View, _on: bool = True) -> None:
        set_view(self._current.viewer, view, self._current.image)
        self._show_view()

    def _show_view(self, _event: Any = None) -> None:
        """Press the button of the view that is shown."""
        now = active_view(self._current.viewer)
        image = self._current.image
        for view, button in self.buttons.items():
            button.setEnabled(image is None or image.ndim >= 3)
            button.setChecked(view == now and button.isEnabled() and image is not None)

    def _show_window(self, _event: Any = None) -> None:
        """Name the window that the image is shown in."""
        image = self._current.image
        self.window_box.setItemText(0, "Colours as they are" if image is not None and image.rgb else "Other contrast")
        window = active_window(image, CT_WINDOWS)
        row = 0 if window is None else self.window_box.findText(window.name, Qt.MatchFlag.MatchStartsWith)
        self.window_box.setCurrentIndex(row)

    def _apply(self, _index: int) -> None:
        window, layer = self.window_box.currentData(), self._current.image
        if window is not None and layer is not None and not layer.rgb:
            set_window(layer, window)

    def _enable(self, _event: Any = None) -> None:
        self.all_button.setEnabled(bool(self._current.put_aside))
        image = self._current.image
        self.window_box.setEnabled(image is None or not image.rgb)
        if image is not self._contrast_of:
            if self._contrast_of is not None:
                self._contrast_of.events.contrast_limits.disconnect(self._show_window)
            self._contrast_of = image
            if image is not None:
                image.events.contrast_limits.connect(self._show_window)
        self._show_view()
        self._show_window()
