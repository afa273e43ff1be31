"""Combo boxes that list the viewer's layers of one type and follow insertions, removals and new names."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import napari
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import QComboBox, QSizePolicy
from superqt.utils import signals_blocked

from napari_meduniseg import _unsaved
from napari_meduniseg._current import Current
from napari_meduniseg._layers import is_derived
from napari_meduniseg.widgets.message import AMBER

_DOT = 12  # px


class LayerCombo(QComboBox):
    """Emits ``chosen`` when another layer (or none) is chosen, by the user or because layers came and went.

    Layers that show probabilities, uncertainty or differences are not listed: they are neither images nor labels.
    """

    chosen = Signal()

    def __init__(
        self, viewer: napari.Viewer, kind: type[Layer], prefer: Callable[[Layer], bool] = lambda _layer: True
    ) -> None:
        super().__init__()
        self._viewer, self._kind, self._prefer = viewer, kind, prefer
        self._layers: list[Layer] = []
        # a long name must not widen the panel at the image's cost
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        layers = viewer.layers
        layers.events.inserted.connect(self._refresh)
        layers.events.removed.connect(self._refresh)
        layers.events.reordered.connect(self._refresh)
        _unsaved.events.changed.connect(self._mark_if_there)
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

    def _wanted(self, before: Layer | None) -> Layer | None:
        """The layer to choose among those listed now: the one chosen before, if it is still there."""
        if before in self._layers:
            return before
        preferred = (layer for layer in self._layers if self._prefer(layer))
        return next(preferred, self._layers[0] if self._layers else None)

    def _refresh(self, _event: Any = None) -> None:
        before = self.layer()
        for layer in self._layers:
            layer.events.name.disconnect(self._rename)
        # the newest first: it is usually the one that was just opened
        self._layers = [
            layer for layer in reversed(self._viewer.layers) if type(layer) is self._kind and not is_derived(layer)
        ]
        for layer in self._layers:
            layer.events.name.connect(self._rename)
        with signals_blocked(self):
            self.clear()
            self.addItems([layer.name for layer in self._layers])
            wanted = self._wanted(before)
            self.setCurrentIndex(self._layers.index(wanted) if wanted in self._layers else -1)
        self._mark()
        if self.layer() is not before:
            self.chosen.emit()

    def _mark_if_there(self, _event: Any = None) -> None:
        with suppress(RuntimeError):  # a closed panel whose Python part still lives: painting must not fail for it
            self._mark()

    def _mark(self) -> None:
        """Put a dot beside labels that are not saved."""
        for index, layer in enumerate(self._layers):
            unsaved = isinstance(layer, Labels) and _unsaved.is_unsaved(layer)
            self.setItemIcon(index, _dot() if unsaved else QIcon())
            self.setItemData(index, "Neither saved nor accepted yet." if unsaved else "", Qt.ItemDataRole.ToolTipRole)

    def _rename(self, _event: Any = None) -> None:
        for index, layer in enumerate(self._layers):
            self.setItemText(index, layer.name)


class CurrentCombo(LayerCombo):
    """Shows what ``now`` gives whenever the viewer's current image or labels change; a choice calls ``choose``."""

    def __init__(
        self,
        current: Current,
        kind: type[Layer],
        now: Callable[[], Layer | None],
        choose: Callable[[Any], object],
    ) -> None:
        self._now, self._choose = now, choose
        super().__init__(current.viewer, kind)
        current.events.changed.connect(self._follow)
        self.currentIndexChanged.connect(self._picked)
        self.activated.connect(self._picked_again)

    def set_layer(self, layer: Layer) -> None:
        """Make a layer of the viewer the current one."""
        self._choose(layer)

    def _picked(self, _index: int) -> None:
        layer = self.layer()
        if layer is not None and layer is not self._now():
            self._choose(layer)

    def _picked_again(self, _index: int) -> None:
        layer = self.layer()
        if layer is not None:  # the one that was chosen already may have been hidden since
            self._choose(layer)

    def _wanted(self, before: Layer | None) -> Layer | None:
        return self._now()

    def _follow(self, _event: Any = None) -> None:
        if self._now() is not self.layer():
            self._refresh()


def _dot() -> QIcon:
    picture = QPixmap(_DOT, _DOT)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(AMBER))
    painter.drawEllipse(2, 2, _DOT - 4, _DOT - 4)
    painter.end()
    return QIcon(picture)


def image_combo(current: Current) -> CurrentCombo:
    """Make a combo box of the current image."""
    return CurrentCombo(current, ImageLayer, lambda: current.image, current.choose_image)


def labels_combo(current: Current) -> CurrentCombo:
    """Make a combo box of the current labels."""
    return CurrentCombo(current, Labels, lambda: current.labels, current.choose_labels)
