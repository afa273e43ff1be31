"""The tool that corrects by clicks: its switch, and the lasso that a drag draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox

from meduniseg_core.errors import UsageError
from napari_meduniseg._clicks import Lasso, draw_lasso, is_drag
from napari_meduniseg._napari_versions import camera_of
from napari_meduniseg._views import slice_axis
from napari_meduniseg.widgets.canvas_overlay import CanvasOverlay


class ClickTool(QCheckBox):
    """Emits ``clicked_at`` with the place (world) and whether Shift was held, and ``said`` with a message.

    A drag draws a lasso on the visible slice. It restricts the next click. A click outside it, Escape, another slice or
    leaving the tool removes it.
    """

    clicked_at = Signal(object, bool)
    said = Signal(str, bool)

    def __init__(self, viewer: ViewerModel, overlay: Callable[[], CanvasOverlay | None]) -> None:
        super().__init__("Correct by clicks")
        self.setToolTip(
            "Click a false region to remove its connected part; click a missed spot (background) to grow the chosen "
            "class there, or Shift-click to grow it over another class. Drag to draw a lasso: the next click inside it "
            "changes nothing outside it (Escape, or a click outside, removes it). Key: Shift-X."
        )
        self._viewer, self._overlay = viewer, overlay
        self.lasso: Lasso | None = None
        self.toggled.connect(lambda on: None if on else self.drop())
        viewer.dims.events.current_step.connect(self.drop)

    def mouse(self, layer: Labels, event: Any, shift: bool) -> Iterator[None]:
        """Follow a press of the left button to its release: a click, or a line around a region."""
        places = [tuple(event.position)]
        yield
        while event.type == "mouse_move":
            places.append(tuple(event.position))
            self._show(places)
            event.handled = True
            yield
        if is_drag(places, float(camera_of(self._viewer).zoom)) and self._viewer.dims.ndisplay == 2:
            self._close(layer, places)
        elif self.lasso is not None and not self._encloses(layer, places[0]):
            self.drop()
            self.said.emit("The lasso was removed.", False)
        else:
            self.clicked_at.emit(places[0], shift)

    def drop(self, _event: Any = None) -> None:
        """Remove the lasso."""
        self.lasso = None
        self._show([])

    def _close(self, layer: Labels, places: Sequence[tuple[float, ...]]) -> None:
        self.drop()
        try:
            self.lasso = draw_lasso(layer, places, slice_axis(layer, self._viewer))
        except UsageError as error:
            self.said.emit(str(error), True)
            return
        self._show([*places, places[0]])
        self.said.emit("Click inside the lasso: nothing outside it changes.", False)

    def _encloses(self, layer: Labels, place: Sequence[float]) -> bool:
        assert self.lasso is not None
        at = np.rint(np.asarray(layer.world_to_data(tuple(place)))[-layer.ndim :]).astype(int)
        inside = all(0 <= value < size for value, size in zip(at, self.lasso.mask.shape, strict=True))
        return inside and bool(self.lasso.mask[tuple(at)])

    def _show(self, places: Sequence[tuple[float, ...]]) -> None:
        overlay = self._overlay()
        if overlay is not None:
            overlay.show_line(np.asarray(places, float) if places else None, self.drop)
