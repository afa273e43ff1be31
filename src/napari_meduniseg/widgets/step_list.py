"""*Steps*: what was done to the labels as a list; a choice goes back, or forth, to that step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from napari.layers import Labels
from qtpy.QtWidgets import QMenu, QPushButton

from napari_meduniseg._steps import go_to_step, steps_of

_SHOWN = 25  # steps; a menu of a hundred is higher than a screen


class StepList(QPushButton):
    """A button with a menu of the layer's steps, the newest on top; the one that stands now is ticked."""

    def __init__(self, layer: Callable[[], Labels | None]) -> None:
        super().__init__("Steps")
        self._layer = layer
        self.setToolTip("All steps by name: choose one to go back, or forth, to the state after it.")
        self.list = QMenu(self)
        self.list.aboutToShow.connect(self.fill)
        self.setMenu(self.list)

    def fill(self) -> None:
        """List the steps as they are now."""
        self.list.clear()
        layer = self._layer()
        if layer is None:
            return
        steps = steps_of(layer)
        names = ["As it was", *steps.done, *reversed(steps.undone)]
        now = len(steps.done)
        first = max(0, min(now - _SHOWN // 2, len(names) - _SHOWN))
        for number in reversed(range(first, min(len(names), first + _SHOWN))):
            text = names[number].replace("&", "&&")
            action = self.list.addAction(f"{number}  {text}" if number else text)
            action.setCheckable(True)
            action.setChecked(number == now)
            action.triggered.connect(partial(self._go, layer, number))

    def _go(self, layer: Labels, number: int, _on: bool = True) -> None:
        go_to_step(layer, number)
