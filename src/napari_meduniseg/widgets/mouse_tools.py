"""The Edit panel's tools for the mouse: balls, the component under a click, and corrections by clicks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import napari
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QFormLayout, QWidget

from meduniseg_core.editing import Edit
from meduniseg_core.events import CancelToken, EventSink
from napari_meduniseg._clicks import click_on, correction, surroundings
from napari_meduniseg._current import current_of
from napari_meduniseg._editing import Locks, Rule, apply, class_names_of, places_between, relabel_at, sphere_at
from napari_meduniseg._features import features_of
from napari_meduniseg._links import known_image
from napari_meduniseg._steps import expect
from napari_meduniseg.widgets.canvas_overlay import overlay_of
from napari_meduniseg.widgets.click_tool import ClickTool
from napari_meduniseg.widgets.intensity_range import IntensityRange
from napari_meduniseg.widgets.operation_buttons import spin
from napari_meduniseg.widgets.panel import Panel

FindEdit = Callable[[EventSink, CancelToken], Edit]
"""Computes an edit in a worker's thread."""


class MouseTools(QWidget):
    """At most one of the tools is on. They work on a layer in pan/zoom mode, whose clicks are not its own.

    A ball is painted at once. The other tools emit ``asked`` with the layer, a function that prepares the edit (and
    returns a `FindEdit`) and its title.
    """

    asked = Signal(object, object, str)

    def __init__(
        self, panel: Panel, viewer: napari.Viewer, locks: Locks, image: Callable[[], ImageLayer | None]
    ) -> None:
        super().__init__()
        self._panel, self._locks, self._image = panel, locks, image
        self._overlay = partial(overlay_of, panel, viewer)
        self._features = features_of(current_of(viewer))
        self._layer: Labels | None = None
        self._ball_name = "ball"
        self.ball = QCheckBox()
        self.radius = spin(5.0, 0.1, 200.0, "")
        self.range = IntensityRange()
        self.relabel = QCheckBox("Relabel on click")
        self.relabel.setToolTip(
            "A click gives the component under it, whatever its class, the chosen class; with Shift it erases it."
        )
        self.clicks = ClickTool(viewer, self._overlay)
        self._tools = (self.ball, self.relabel, self.clicks)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow(self.ball)
        form.addRow("Radius", self.radius)
        for row in (self.range, self.relabel, self.clicks):
            form.addRow(row)
        for tool in self._tools:
            tool.toggled.connect(lambda on, tool=tool: self._toggled(tool, on))
        self.clicks.toggled.connect(self._prepare_clicks)
        self.clicks.clicked_at.connect(self._correct_at)
        self.clicks.said.connect(panel.say)
        self._name_ball(flat=False)
        self.ball.toggled.connect(self._outline_ball)
        self.radius.valueChanged.connect(self._outline_ball)

    @property
    def on(self) -> bool:
        """Whether one of the tools is on."""
        return any(tool.isChecked() for tool in self._tools)

    def work_on(self, layer: Labels | None, unit: str) -> None:
        """Work on these labels from now on; ``unit`` is that of their grid."""
        if self._layer is not None and self.mouse in self._layer.mouse_drag_callbacks:
            self._layer.mouse_drag_callbacks.remove(self.mouse)
            self._layer.events.mode.disconnect(self._mode_changed)
        self._layer = layer
        self.clicks.drop()
        self.radius.setSuffix(f" {unit}")
        self._name_ball(flat=layer is not None and layer.ndim == 2)
        if layer is not None:
            layer.mouse_drag_callbacks.append(self.mouse)
            layer.events.mode.connect(self._mode_changed)

    def _name_ball(self, *, flat: bool) -> None:
        """What is a ball in a volume is a disc in a picture."""
        self._ball_name, slices = ("disc", "") if flat else ("ball", ", in all slices at once")
        self.ball.setText(f"Paint {self._ball_name}s{'' if flat else ' in 3D'} (click or drag)")
        self.ball.setToolTip(f"A left click paints the class as a {self._ball_name}{slices}; with Shift it erases.")
        self.radius.setToolTip(f"Radius of the {self._ball_name} that is painted.")

    def mouse(self, layer: Labels, event: Any) -> Iterator[None]:
        """napari's drag callback: a generator that runs from press to release."""
        if event.button != 1 or not self.on or layer.mode != "pan_zoom":
            return
        event.handled = True
        erase = "Shift" in {getattr(modifier, "name", str(modifier)) for modifier in event.modifiers}
        if self.clicks.isChecked():
            yield from self.clicks.mouse(layer, event, erase)
            return
        if self.relabel.isChecked():
            label = 0 if erase else int(layer.selected_label)
            position = tuple(event.position)
            locked = Rule(frozenset(self._locks.of(layer)))
            self.asked.emit(layer, lambda: without_events(relabel_at(layer, position, label, locked)), "Relabel")
            return
        with layer.block_history():
            last = tuple(event.position)
            self._paint_ball(layer, last, erase)
            yield
            while event.type == "mouse_move":
                for place in places_between(layer, last, tuple(event.position), self.radius.value()):
                    self._paint_ball(layer, place, erase)
                last = tuple(event.position)
                event.handled = True
                yield

    def _paint_ball(self, layer: Labels, position: tuple[float, ...], erase: bool) -> None:
        image, limits = (self._image(), self.range.limits()) if self.range.on else (None, None)
        label = 0 if erase else int(layer.selected_label)
        with self._panel.saying_failures():
            if limits is not None:
                image = known_image(layer, image)
            edit = sphere_at(layer, position, self.radius.value(), label, self._locks.rule(layer, label), image, limits)
            if edit.count:
                what = self._ball_name.capitalize()
                expect(layer, f"{what}: {class_names_of(layer).get(label, label)}" if label else f"{what}, erased")
            apply(layer, edit)

    def _correct_at(self, position: tuple[float, ...], over: bool) -> None:
        """Remove the part under a click, or grow the chosen class there; inside the lasso, where there is one."""
        layer = self._layer
        if layer is None:
            return

        def prepare() -> FindEdit:
            click = click_on(layer, position, self.clicks.lasso, over)
            return correction(layer, click, self._locks, self._image(), self._features)

        self.asked.emit(layer, prepare, "Correct by a click")

    def _prepare_clicks(self, on: bool) -> None:
        """Compute the image's features before the first click needs them."""
        layer, image = self._layer, self._image()
        if not on or layer is None or image is None:
            return
        self._features.forget()
        panel = self._panel
        with panel.saying_failures():
            panel.start_job(
                surroundings(layer, image, self._features).look,
                lambda found: panel.say(f"Click on a false region, or on a missed spot. {found.text}"),
                panel.say_failure,
                kind="features",
                anew=True,
            )
            panel.say("Looking at the image ...")

    def _outline_ball(self, _value: Any = None) -> None:
        """Show at the cursor how large the ball is."""
        overlay = self._overlay()
        if overlay is not None:
            overlay.show_ball(self.radius.value() if self.ball.isChecked() else None)

    def _toggled(self, tool: QCheckBox, on: bool) -> None:
        """Take clicks from napari's brush and from the other tools."""
        if not on:
            return
        if self._layer is not None:
            self._layer.mode = "pan_zoom"
        for other in self._tools:
            if other is not tool:
                other.setChecked(False)

    def _mode_changed(self, _event: Any = None) -> None:
        """Whoever takes one of napari's tools does not want these."""
        if self._layer is not None and self._layer.mode not in ("pan_zoom", "transform"):
            for tool in self._tools:
                tool.setChecked(False)


def without_events(find: Callable[[], Edit]) -> FindEdit:
    """The function for a worker's thread of an edit that needs neither events nor a token."""
    return lambda _events, _cancel: find()
