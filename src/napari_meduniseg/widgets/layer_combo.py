"""A combo box of the viewer's layers of one type that follows insertions, removals and new names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import napari
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy


class LayerCombo(QComboBox):
    """Emits ``chosen`` when another layer (or none) is chosen, by the user or because layers came and went."""

    chosen = Signal()

    def __init__(
        self, viewer: napari.Viewer, kind: type[Layer], prefer: Callable[[Layer], bool] = lambda _layer: True
    ) -> None:
        super().__init__()
        self._viewer, self._kind, self._prefer = viewer, kind, prefer
        self._layers: list[Layer] = []
        # a long name must not widen the panel at the image's cost
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        layers = viewer.layers
        layers.events.inserted.connect(self._refresh)
        layers.events.removed.connect(self._refresh)
        layers.events.reordered.connect(self._refresh)
        self.destroyed.connect(lambda *_: None)
        self.currentIndexChanged.connect(lambda *_: self.chosen.emit())
        self._refresh()

    def layer(self) -> Layer | None:
        """The chosen layer."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def set_layer(self, layer: Layer) -> None:
        """Choose a layer of the viewer."""
        self.setCurrentIndex(self._layers.index(layer))

    def _refresh(self, _event: Any = None) -> None:
        before = self.layer()
        for layer in self._layers:
            layer.events.name.disconnect(self._rename)
        # the newest first: it is usually the one that was just opened
        self._layers = [layer for layer in reversed(self._viewer.layers) if type(layer) is self._kind]
        for layer in self._layers:
            layer.events.name.connect(self._rename)
        self.blockSignals(True)
        self.clear()
        self.addItems([layer.name for layer in self._layers])
        if before in self._layers:
            self.setCurrentIndex(self._layers.index(before))
        else:
            preferred = [number for number, layer in enumerate(self._layers) if self._prefer(layer)]
            self.setCurrentIndex(preferred[0] if preferred else min(0, len(self._layers) - 1))
        self.blockSignals(False)
        if self.layer() is not before:
            self.chosen.emit()

    def _rename(self, _event: Any = None) -> None:
        for index, layer in enumerate(self._layers):
            self.setItemText(index, layer.name)
