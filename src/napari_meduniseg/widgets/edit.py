"""The Edit widget: the palette of a labels layer, and operations in mm on the chosen class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import napari
import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QInputDialog,
    QPushButton,
)

from meduniseg_core.editing import Edit
from meduniseg_core.events import CancelToken, EventSink
from napari_meduniseg._clicks import click_on, correction, surroundings
from napari_meduniseg._current import current_of
from napari_meduniseg._editing import (
    AT_ONCE,
    PaintOver,
    Rule,
    add_class,
    apply,
    apply_in_steps,
    class_names_of,
    locks_fault,
    next_doubtful,
    operation,
    relabel_at,
    sphere_at,
    toggle_contour,
    uncertainty_for,
)
from napari_meduniseg._features import features_of
from napari_meduniseg._layers import spacing_of, unit_of
from napari_meduniseg._links import known_image
from napari_meduniseg._steps import expect
from napari_meduniseg._views import slice_axis
from napari_meduniseg.widgets.accepting import AcceptBox
from napari_meduniseg.widgets.canvas_overlay import overlay_of
from napari_meduniseg.widgets.class_palette import ClassPalette
from napari_meduniseg.widgets.click_tool import ClickTool
from napari_meduniseg.widgets.intensity_range import IntensityRange
from napari_meduniseg.widgets.label_list import OPEN_KEY, SAVE_KEY, LabelListButton
from napari_meduniseg.widgets.layer_combo import CurrentCombo, labels_combo
from napari_meduniseg.widgets.operation_buttons import KEYS, OperationButtons, spin
from napari_meduniseg.widgets.panel import Panel
from napari_meduniseg.widgets.save_button import SaveButton
from napari_meduniseg.widgets.shortcut_sheet import list_keys
from napari_meduniseg.widgets.step_list import StepList
from napari_meduniseg.widgets.stepping import Steps
from napari_meduniseg.widgets.target_name import TargetName

DOUBTFUL_KEY = "Shift-N"
CONTOUR_KEY = "Shift-C"
CLICK_KEY = "Shift-X"
_PAINT_OVER: tuple[tuple[str, PaintOver], ...] = (
    ("Background only", "background"),
    ("Visible classes", "visible"),
    ("Everything", "everything"),
)


Find = Callable[[EventSink, CancelToken], Edit]
"""Computes an edit in a worker's thread."""


class EditWidget(Panel):
    """Edits a labels layer; napari's own brush, fill, polygon and eraser remain available in the layer's controls."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, with_bin=True)
        self._current = current_of(napari_viewer)
        self._locks = self.recovery.keeper.locks
        self._locks.blocked = self._say_kept
        self._watched: Labels | None = None
        self._said_of_step = False  # what is said is about labels that the next change makes others
        self._steps = Steps(self)
        self._changes = 0  # of the watched layer, so that a result for labels that are no more is not applied
        self.layer_box = labels_combo(self._current)
        self.layer_box.setToolTip("The labels to correct; choosing some shows their image.")
        self.palette_table = ClassPalette(self._locks)
        self.class_button = QPushButton("Add a class ...")
        self.class_button.setToolTip("Add a class with a name and a colour, and paint with it.")
        self.label_list = LabelListButton(lambda: self._watched)
        self.operations = OperationButtons()
        self.amount, self.buttons = self.operations.amount, self.operations.buttons
        self.radius = spin(5.0, 0.1, 200.0, "Radius of the ball that is painted.")
        self.radius.setSuffix(" mm")
        self.ball = QCheckBox("Paint balls in 3D (click or drag)")
        self.ball.setToolTip("A left click paints the class as a ball, in all slices at once; with Shift it erases.")
        self.range = IntensityRange()
        self.range_on, self.low, self.high = self.range.box, self.range.low, self.range.high
        self.over_box = QComboBox()
        self.over_box.setToolTip(
            "What may be painted over, by every tool of this panel and by napari's brush, eraser, fill and polygon. "
            "Locked classes never are. With 'Background only', erasing removes the chosen class only."
        )
        for title, what in _PAINT_OVER:
            self.over_box.addItem(title, what)
        self.image_box = CurrentCombo(self._current, ImageLayer, self._image, self._choose_image)
        self.image_box.setToolTip("The image that the labels belong to; another one brings its own labels.")
        self.relabel = QCheckBox("Relabel on click")
        self.relabel.setToolTip(
            "A click gives the component under it, whatever its class, the chosen class; with Shift it erases it."
        )
        self.clicks = ClickTool(napari_viewer, lambda: overlay_of(self, napari_viewer))
        self._features = features_of(self._current)
        self.doubtful = QPushButton("Next doubtful slice")
        self.doubtful.setToolTip(f"Jump to the next doubtful slice, by the uncertainty layer. Key: {DOUBTFUL_KEY}.")
        self.undo_button, self.redo_button = QPushButton("Undo"), QPushButton("Redo")
        self.undo_button.setToolTip("Undo the last step (Ctrl+Z in the viewer).")
        self.redo_button.setToolTip("Redo the step that was undone.")
        self.step_list = StepList(lambda: self._watched)
        self.save_button = SaveButton(lambda: self._watched, "There is no labels layer to save.")
        self.name = TargetName(self._current)
        self.accepting = AcceptBox(self._image)
        self._lay_out()

        self._current.events.changed.connect(self._current_changed)
        self.operations.asked.connect(self.do)
        self.palette_table.picked.connect(self._take_brush)
        self.undo_button.clicked.connect(lambda: self._on_layer(lambda layer: layer.undo()))
        self.redo_button.clicked.connect(lambda: self._on_layer(lambda layer: layer.redo()))
        self.class_button.clicked.connect(self._ask_for_class)
        self.doubtful.clicked.connect(self.go_to_doubtful)
        self.save_button.said.connect(self.say)
        self.label_list.said.connect(self.say)
        self.label_list.renamed.connect(lambda: self.palette_table.show_layer(self._watched))
        self.over_box.currentIndexChanged.connect(self._set_paint_over)
        self._tools = (self.ball, self.relabel, self.clicks)
        for tool in self._tools:
            tool.toggled.connect(self._pan)
            others = [other for other in self._tools if other is not tool]
            tool.toggled.connect(
                lambda on, others=others: [other.setChecked(False) for other in others] if on else None
            )
        self.clicks.toggled.connect(self._prepare_clicks)
        self.clicks.clicked_at.connect(self._correct_at)
        self.clicks.said.connect(self.say)
        self.ball.toggled.connect(self._outline_ball)
        self.radius.valueChanged.connect(self._outline_ball)
        self._layer_changed()
        self._current_changed()
        own = (
            (CONTOUR_KEY, "Labels as outlines, or filled"),
            (DOUBTFUL_KEY, "Next doubtful slice"),
            (CLICK_KEY, "Correct by clicks, on or off"),
            (OPEN_KEY, "Names and colours from a label list"),
            (SAVE_KEY, "Names and colours to a label list"),
        )
        list_keys([*((key, self.buttons[name].text()) for name, key in KEYS.items()), *own])
        fault = locks_fault()
        if fault is not None:
            self.say_failure(fault)

    @property
    def busy(self) -> bool:
        """Whether something is computed, or a large change is being made."""
        return super().busy or self._steps.running

    # -- doing --------------------------------------------------------------------------------------------------

    def do(self, name: str) -> None:
        """Apply one operation to the chosen class, as one undo step."""
        layer = self._watched
        if layer is None:
            self.say_failure("There is no labels layer; segment an image or add one.")
            return
        self._work(
            layer,
            lambda: _plain(operation(name, layer, self._rule(layer), self._viewer, self.amount.value())),
            self.buttons[name].text(),
        )

    def go_to_doubtful(self) -> None:
        """Show the next slice in doubt."""
        layer = uncertainty_for(self._watched, self._viewer)
        if layer is None:
            self.say_failure("There is no uncertainty layer; Segment adds one with 'Probabilities and uncertainty'.")
            return
        axis = slice_axis(layer, self._viewer)
        place = np.asarray(layer.world_to_data(self._viewer.dims.point))[-3:]
        found = next_doubtful(np.asarray(layer.data), axis, round(float(place[axis])))
        if found is None:
            self.say("No slice is doubtful.")
            return
        place[axis] = found
        world = layer.data_to_world(tuple(place))
        point = list(self._viewer.dims.point)
        point[axis + len(point) - 3] = world[axis]
        self._viewer.dims.point = point
        self.say(f"Slice {found}.")

    def _work(self, layer: Labels, prepare: Callable[[], Find], title: str) -> None:
        """Compute an edit in a thread (large volumes take seconds), and apply it to the labels it was computed for."""
        if self.does("") or self._steps.running:
            return
        before, array = self._changes, layer.data
        with self.saying_failures():
            find = prepare()
            step = f"{title}: {class_names_of(layer).get(int(layer.selected_label), layer.selected_label)}"
            self.start_job(find, lambda edit: self._found(layer, edit, before, array, step), self._failed)
            self._enable(False)
            self.say("Working ...")

    def _found(self, layer: Labels, edit: Edit, before: int, array: Any, step: str) -> None:
        replaced = layer.data is not array
        if layer not in self._viewer.layers:
            self._failed("The labels layer was removed meanwhile; nothing was changed.")
        elif replaced or layer is not self._watched or self._changes != before:
            self._failed("The labels were changed meanwhile; do it again.")
        elif edit.count > AT_ONCE:
            expect(layer, step)
            self._steps.run(apply_in_steps(layer, edit), lambda count: self._changed(layer, count))
        else:
            if edit.count:
                expect(layer, step)
            self._changed(layer, apply(layer, edit))

    def _changed(self, layer: Labels, count: int) -> None:
        self._enable(True)
        if count:
            self.clicks.drop()
        what = "pixels" if layer.ndim == 2 else "voxels"
        size = " x ".join(f"{length:.3g}" for length in spacing_of(layer))
        nothing = (
            f"Nothing changed: the amount may be smaller than the grid ({size} {unit_of(layer)}), or what is there "
            "may be protected (locks, Paint over)."
        )
        self.say(f"{count:,} {what} changed." if count else nothing)
        self._said_of_step = True

    def _failed(self, sentence: str) -> None:
        self._enable(True)
        self.say_failure(sentence)

    def _enable(self, on: bool) -> None:
        for widget in (self.operations, self.undo_button, self.redo_button, self.step_list):
            widget.setEnabled(on)

    def _on_layer(self, act: Callable[[Labels], Any]) -> None:
        if self._watched is not None:
            act(self._watched)

    # -- the mouse ----------------------------------------------------------------------------------------------

    def _mouse(self, layer: Labels, event: Any) -> Any:
        """napari's drag callback: a generator that runs from press to release."""
        if event.button != 1 or not any(tool.isChecked() for tool in self._tools) or layer.mode != "pan_zoom":
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
            self._work(layer, lambda: _plain(relabel_at(layer, position, label, locked)), "Relabel")
            return
        with layer.block_history():
            self._paint_ball(layer, event.position, erase)
            yield
            while event.type == "mouse_move":
                self._paint_ball(layer, event.position, erase)
                event.handled = True
                yield

    def _correct_at(self, position: tuple[float, ...], over: bool) -> None:
        """Remove the part under a click, or grow the chosen class there; inside the lasso, where there is one."""
        layer = self._watched
        if layer is None:
            return
        if self.does("") or self._steps.running:
            self.say("The last step is not done yet; click again after it.")
            return

        def prepare() -> Find:
            click = click_on(layer, position, self.clicks.lasso, over)
            return correction(layer, click, self._locks, self._image(), self._features)

        self._work(layer, prepare, "Correct by a click")

    def _prepare_clicks(self, on: bool) -> None:
        """Compute the image's features before the first click needs them."""
        layer, image = self._watched, self._image()
        if not on or layer is None or image is None:
            return
        self._features.forget()
        with self.saying_failures():
            self.start_job(
                surroundings(layer, image, self._features).look,
                lambda found: self.say(f"Click on what is false, or on what is missed. {found.text}"),
                self.say_failure,
                kind="features",
                anew=True,
            )
            self.say("Looking at the image ...")

    def _paint_ball(self, layer: Labels, position: tuple[float, ...], erase: bool) -> None:
        image, limits = (self._image(), self.range.limits()) if self.range.on else (None, None)
        label = 0 if erase else int(layer.selected_label)
        with self.saying_failures():
            if limits is not None:
                image = known_image(layer, image)
            edit = sphere_at(layer, position, self.radius.value(), label, self._locks.rule(layer, label), image, limits)
            if edit.count:
                expect(layer, "Ball" if label else "Ball, erased")
            apply(layer, edit)

    def _rule(self, layer: Labels) -> Rule:
        return self._locks.rule(layer, int(layer.selected_label))

    # -- keeping up ---------------------------------------------------------------------------------------------

    def _current_changed(self, _event: Any = None) -> None:
        self.range.show_image(self._image())
        if self._current.labels is not self._watched:
            self._layer_changed()

    def _layer_changed(self) -> None:
        layer = self._current.labels
        if self._watched is not None and self._mouse in self._watched.mouse_drag_callbacks:
            self._watched.mouse_drag_callbacks.remove(self._mouse)
            self._watched.events.mode.disconnect(self._mode_changed)
            self._watched.events.paint.disconnect(self._count)
            self._watched.events.labels_update.disconnect(self._count)
        if self._watched is not None and self._watched is not layer and not self.busy:
            self.say("")  # what was said of other labels is not of these
        self._watched = layer
        self._changes += 1
        self.clicks.drop()
        if self._watched is not None:
            self._locks.guard(self._watched)
            self._watched.mouse_drag_callbacks.append(self._mouse)
            self._watched.events.mode.connect(self._mode_changed)
            self._watched.events.paint.connect(self._count)
            self._watched.events.labels_update.connect(self._count)
            self._bind_keys(self._watched)
        unit = "mm" if self._watched is None else unit_of(self._watched)
        self.radius.setSuffix(f" {unit}")
        self.operations.fit_to(() if self._watched is None else spacing_of(self._watched), unit)
        self.palette_table.show_layer(self._watched)
        self.accepting.show_layer(self._watched)

    def _take_brush(self, _label: int) -> None:
        """Switch to the brush: choosing a class means painting with it."""
        if self._watched is not None:
            self._current.choose_labels(self._watched)
            if not any(tool.isChecked() for tool in self._tools):
                self._watched.mode = "paint"

    def say(self, text: str, trouble: bool = False) -> None:
        """Show a sentence; trouble is highlighted."""
        self._said_of_step = False
        super().say(text, trouble)

    def _mode_changed(self, _event: Any = None) -> None:
        """Who takes one of napari's tools does not want this panel's."""
        if self._watched is not None and self._watched.mode not in ("pan_zoom", "transform"):
            for tool in self._tools:
                tool.setChecked(False)

    def _outline_ball(self, _value: Any = None) -> None:
        """Show at the cursor how large the ball is."""
        overlay = overlay_of(self, self._viewer)
        if overlay is not None:
            overlay.show_ball(self.radius.value() if self.ball.isChecked() else None)

    def _pan(self, on: bool) -> None:
        """Take clicks from napari's brush, because this panel's tools work on clicks."""
        if on and self._watched is not None:
            self._watched.mode = "pan_zoom"

    def _say_kept(self, sentence: str) -> None:
        self.say(sentence)

    def _set_paint_over(self, _index: int) -> None:
        self._locks.paint_over = self.over_box.currentData()

    def _count(self, _event: Any = None) -> None:
        self._changes += 1
        if self._said_of_step:
            self.say("")  # the labels are others by now: undone, or painted on
        self.accepting.tick()

    def _image(self) -> ImageLayer | None:
        """The labels' image; without labels, the current image."""
        labels = self._current.labels
        return self._current.image if labels is None else self._current.image_of(labels)

    def _choose_image(self, image: ImageLayer) -> None:
        if not self._current.say_image(image):
            self._current.choose_image(image)

    def _ask_for_class(self) -> None:
        name, agreed = QInputDialog.getText(self, "New class", "Its name:")
        if agreed and name.strip():
            self.add_class(name.strip())

    def add_class(self, name: str) -> None:
        """Add a class to the labels and switch to the brush."""
        if self._watched is None:
            self.say_failure("There is no labels layer; segment an image or add one.")
            return
        with self.saying_failures():
            label = add_class(self._watched, name)
            self.palette_table.show_layer(self._watched)
            self._watched.selected_label = label
            self._take_brush(label)
            self.say(f"{name} is label {label}.")

    def _bind_keys(self, layer: Labels) -> None:
        """Bind the operations' keys while this layer is the active one."""
        for name, key in KEYS.items():
            layer.bind_key(key, lambda _layer, name=name: self.do(name), overwrite=True)
        layer.bind_key(CONTOUR_KEY, toggle_contour, overwrite=True)
        layer.bind_key(CLICK_KEY, lambda _layer: self.clicks.toggle(), overwrite=True)
        layer.bind_key(OPEN_KEY, lambda _layer: self.label_list.ask_and_read(), overwrite=True)
        layer.bind_key(SAVE_KEY, lambda _layer: self.label_list.ask_and_write(), overwrite=True)
        layer.bind_key(DOUBTFUL_KEY, lambda _layer: self.go_to_doubtful(), overwrite=True)

    def _lay_out(self) -> None:
        layout = self.content
        form = QFormLayout()
        form.addRow("Labels", self.layer_box)
        form.addRow("Image", self.image_box)
        layout.addLayout(form)
        layout.addWidget(self.palette_table)
        classes = QHBoxLayout()
        classes.addWidget(self.class_button)
        classes.addWidget(self.label_list)
        layout.addLayout(classes)
        over = QFormLayout()
        over.addRow("Paint over", self.over_box)
        layout.addLayout(over)
        layout.addWidget(self.operations)
        ball = QFormLayout()
        ball.addRow(self.ball)
        ball.addRow("Radius", self.radius)
        ball.addRow(self.range)
        ball.addRow(self.relabel)
        ball.addRow(self.clicks)
        layout.addLayout(ball)
        layout.addWidget(self.doubtful)
        layout.addWidget(self.accepting)
        layout.addStretch(1)
        layout.setAlignment(Qt.AlignmentFlag.AlignTop)
        for line in (self.said, self.accepting.said, self.name):
            self.footer.addWidget(line)
        last = QHBoxLayout()
        for widget in (self.undo_button, self.redo_button, self.step_list, self.save_button, self.accepting.button):
            last.addWidget(widget)
        self.footer.addLayout(last)


def _plain(find: Callable[[], Edit]) -> Find:
    """What needs neither events nor a token."""
    return lambda _events, _cancel: find()
