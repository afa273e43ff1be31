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
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QInputDialog,
    QPushButton,
)

from meduniseg_core.editing import Edit
from napari_meduniseg._current import current_of
from napari_meduniseg._editing import (
    AT_ONCE,
    PaintOver,
    add_class,
    apply,
    apply_in_steps,
    class_names_of,
    locks_fault,
    next_doubtful,
    operation,
    toggle_contour,
    uncertainty_for,
)
from napari_meduniseg._layers import spacing_of, unit_of
from napari_meduniseg._steps import expect
from napari_meduniseg._views import slice_axis
from napari_meduniseg.widgets.accepting import AcceptBox
from napari_meduniseg.widgets.class_palette import ClassPalette
from napari_meduniseg.widgets.label_list import OPEN_KEY, SAVE_KEY, LabelListButton
from napari_meduniseg.widgets.layer_combo import CurrentCombo, labels_combo
from napari_meduniseg.widgets.mouse_tools import FindEdit, MouseTools, without_events
from napari_meduniseg.widgets.operation_buttons import KEYS, MEASURED, OperationButtons
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


class EditWidget(Panel):
    """Edits a labels layer; napari's own brush, fill, polygon and eraser remain available in the layer's controls."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, with_bin=True)
        self._current = current_of(napari_viewer)
        self._locks = self.recovery.keeper.locks
        self._locks.blocked = self._say_kept
        self._watched: Labels | None = None
        self._said_of_step = False  # what is said is about labels that the next change makes others
        self._strokes = 0  # of napari's tools and ours
        self._kept_from: int | None = None  # the stroke that what is said is about
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
        self.tools = MouseTools(self, napari_viewer, self._locks, self._image)
        self.ball, self.radius, self.relabel = self.tools.ball, self.tools.radius, self.tools.relabel
        self.range, self.clicks = self.tools.range, self.tools.clicks
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
        self.tools.asked.connect(self._asked)
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

        def prepare() -> FindEdit:
            rule = self._locks.rule(layer, int(layer.selected_label))
            return without_events(operation(name, layer, rule, self._viewer, self.amount.value()))

        self._work(layer, prepare, self.buttons[name].text())

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

    def _asked(self, layer: Labels, prepare: Callable[[], FindEdit], title: str) -> None:
        """A click asks for an edit; one at a time."""
        if self.does("") or self._steps.running:
            self.say("The last step is not done yet; click again after it.")
        else:
            self._work(layer, prepare, title)

    def _work(self, layer: Labels, prepare: Callable[[], FindEdit], title: str) -> None:
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
            self._steps.run(apply_in_steps(layer, edit), lambda count: self._changed(layer, count, step))
        else:
            if edit.count:
                expect(layer, step)
            self._changed(layer, apply(layer, edit), step)

    def _changed(self, layer: Labels, count: int, step: str) -> None:
        self._enable(True)
        if count:
            self.clicks.drop()
        what = "pixels" if layer.ndim == 2 else "voxels"
        size = " x ".join(f"{length:.3g}" for length in spacing_of(layer))
        small = f"the amount may be smaller than the grid ({size} {unit_of(layer)})"
        reason = small if step.startswith(MEASURED) else "there may be nothing to do"
        nothing = f"Nothing changed: {reason}, or what is there may be protected (locks, Paint over)."
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

    # -- keeping up ---------------------------------------------------------------------------------------------

    def _current_changed(self, _event: Any = None) -> None:
        self.range.show_image(self._image())
        if self._current.labels is not self._watched:
            self._layer_changed()

    def _layer_changed(self) -> None:
        layer = self._current.labels
        if self._watched is not None:
            self._watched.events.paint.disconnect(self._painted)
            self._watched.events.labels_update.disconnect(self._count)
        if self._watched is not None and self._watched is not layer and not self.busy:
            self.say("")  # what was said of other labels is not of these
        self._watched = layer
        self._changes += 1
        if self._watched is not None:
            self._locks.guard(self._watched)
            self._watched.events.paint.connect(self._painted)
            self._watched.events.labels_update.connect(self._count)
            self._bind_keys(self._watched)
        unit = "mm" if self._watched is None else unit_of(self._watched)
        self.tools.work_on(self._watched, unit)
        self.operations.fit_to(() if self._watched is None else spacing_of(self._watched), unit)
        self.doubtful.setEnabled(self._watched is None or self._watched.ndim > 2)
        self.palette_table.show_layer(self._watched)
        self.accepting.show_layer(self._watched)

    def _take_brush(self, _label: int) -> None:
        """Switch to the brush: choosing a class means painting with it."""
        if self._watched is not None:
            self._current.choose_labels(self._watched)
            if not self.tools.on:
                self._watched.mode = "paint"

    def say(self, text: str, trouble: bool = False) -> None:
        """Show a sentence; trouble is highlighted."""
        self._said_of_step, self._kept_from = False, None
        super().say(text, trouble)

    def _say_kept(self, sentence: str) -> None:
        """Say why a stroke of napari's tools left something as it is; the next stroke takes it away."""
        self.say(sentence)
        self._kept_from = self._strokes

    def _set_paint_over(self, _index: int) -> None:
        self._locks.paint_over = self.over_box.currentData()
        if self._kept_from is not None:
            self.say("")

    def _painted(self, _event: Any = None) -> None:
        self._count()
        self._strokes += 1
        if self._kept_from is not None and self._strokes > self._kept_from + 1:
            self.say("")  # it was said of a stroke before this one

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
        layout.addWidget(self.tools)
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
