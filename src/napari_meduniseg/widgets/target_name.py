"""The name of what will be saved, corrected or accepted, shown beside the buttons that do it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from napari.layers import Layer

from napari_meduniseg import _unsaved
from napari_meduniseg._current import Current
from napari_meduniseg.widgets.message import Name


class TargetName(Name):
    """Follows the current labels: their name, their image, whether they are hidden and whether they are saved."""

    def __init__(self, current: Current) -> None:
        super().__init__()
        self._current = current
        self._named: list[Layer] = []
        current.events.changed.connect(self._show)
        _unsaved.events.changed.connect(self._show_if_there)
        self._show()

    def _show_if_there(self, _event: Any = None) -> None:
        with suppress(RuntimeError):  # a closed panel whose Python part still lives: painting must not fail for it
            self._show()

    def _show(self, _event: Any = None) -> None:
        labels, image = self._current.labels, self._current.image
        for layer in self._named:
            layer.events.name.disconnect(self._show)
        belongs = None if labels is None else self._current.image_of(labels)
        self._named = [layer for layer in (labels, belongs) if layer is not None]
        for layer in self._named:
            layer.events.name.connect(self._show)
        if labels is None:
            self.setText("No labels" if image is None else f"No labels of {image.name}")
            return
        hidden = "" if labels.visible else " (hidden)"
        hidden += ", not saved" if _unsaved.is_unsaved(labels) else ""
        self.setText(f"Labels: {labels.name}{hidden}")
        of = "of no known image" if belongs is None else f"of the image {belongs.name}"
        self.setToolTip(f"{labels.name}, {of}{hidden}")
