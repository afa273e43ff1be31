"""The Teach widget: strokes on the target and beside it, and labels that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QInputDialog,
    QProgressBar,
    QPushButton,
)

from meduniseg_core.errors import UsageError
from meduniseg_core.events import Message, Progress
from meduniseg_core.interactive import QuickTask, Teacher
from napari_meduniseg._current import current_of
from napari_meduniseg._editing import add_class, class_names_of
from napari_meduniseg._features import MadeBy, features_of, made_by
from napari_meduniseg._layer_input import snapshot_layers
from napari_meduniseg._layers import shown_colour
from napari_meduniseg._teaching import (
    NOT_TARGET,
    Lesson,
    Taught,
    TooFew,
    add_labels,
    add_strokes,
    apply_task,
    classes_of,
    put,
    put_in_steps,
    teach,
    visible_plane,
)
from napari_meduniseg.widgets.layer_combo import image_combo
from napari_meduniseg.widgets.panel import Panel
from napari_meduniseg.widgets.stepping import Steps

_BETWEEN_LAYERS = 20  # ms
_PAUSE = 50  # ms after a stroke before it is learned: napari reports one stroke in several events


class TeachWidget(Panel):
    """Strokes have a layer of their own; the labels that they teach are a layer like any other."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self._current = current_of(napari_viewer)
        self._features = features_of(self._current)
        self._made_by = MadeBy()
        self._image: ImageLayer | None = None
        self.strokes: Labels | None = None
        self.taught: Labels | None = None
        self._base: np.ndarray | None = None
        self._teacher: Teacher | None = None
        self._starting, self._putting = Steps(self, _BETWEEN_LAYERS), Steps(self)
        self.image_box = image_combo(self._current)
        self.image_box.setToolTip("The image to teach on.")
        self.correct = QCheckBox("Correct the present labels")
        self.correct.setToolTip(
            "Strokes correct a copy of the image's labels: only near a stroke, and connected with it. "
            "Without it, strokes start from empty labels."
        )
        self.network = QCheckBox("Use the network's features")
        self.network.setChecked(True)
        self.network.setToolTip(
            "Use what the network knows about each place, not its intensities alone; computed once per image."
        )
        self.start_button = QPushButton("Start")
        self.start_button.setToolTip("Add a layer for strokes, and one for the labels that follow from them.")
        self.class_box = QComboBox()
        self.class_box.setToolTip("The class of the next strokes.")
        self.class_button = QPushButton("Add a class ...")
        self.class_button.setToolTip("Add another target, with strokes of its own.")
        self.undo_button = QPushButton("Undo stroke")
        self.undo_button.setToolTip("Undo the last stroke; the labels follow. (Ctrl+Z on the strokes' layer.)")
        self.stop_button = QPushButton("Stop")
        self.stop_button.setToolTip("Stop the computation; the strokes stay.")
        self.save_button = QPushButton("Save quick task ...")
        self.save_button.setToolTip("Save what was taught, for the next image of this kind.")
        self.apply_button = QPushButton("Apply quick task ...")
        self.apply_button.setToolTip("Label this image with what another one taught.")
        self.progress = QProgressBar()
        self.progress.setToolTip("The progress of the computation.")
        self.progress.hide()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE)
        self._timer.timeout.connect(self.learn)
        self.start_button.clicked.connect(self.start)
        self.class_box.currentIndexChanged.connect(self._choose_class)
        self.class_button.clicked.connect(self._ask_for_class)
        self.undo_button.clicked.connect(self.undo)
        self.stop_button.clicked.connect(lambda: [self.cancel_job(kind) for kind in ("teach", "features")])
        self.save_button.clicked.connect(self._ask_and_save)
        self.apply_button.clicked.connect(self._ask_and_apply)
        napari_viewer.layers.events.removed.connect(self._removed)
        self._current.events.changed.connect(self._enable)
        self._lay_out()
        self._enable()

    def start(self) -> None:
        """Add the layers for the strokes and for the labels that they teach."""
        with self.saying_failures():
            image = self._current.image
            if image is None:
                raise UsageError("There is no image; open one (File > Open).")
            snapshot_layers([image])  # says why, where it cannot be taught on
            base = self._current.labels if self.correct.isChecked() else None
            if self.correct.isChecked() and base is None:
                raise UsageError("There are no labels to correct; segment the image first, or untick 'Correct'.")
            if base is not None and base.data.shape != image.data.shape[: image.ndim]:
                raise UsageError(f"{base.name} has another grid than {image.name}; choose labels of this image.")
            self._drop()
            self._features.forget()
            self._made_by = made_by(self._current.labels)
            self._forget_lesson()
            self._starting.run(self._add_layers(image, base), lambda _count: self._started())
            self.say("Starting ...")
        self._enable()

    def _add_layers(self, image: ImageLayer, base: Labels | None) -> Iterator[int]:
        """Add the layers in steps, between which the window works: napari needs a while for each."""
        kept = None if base is None else np.array(base.data)
        for other in self._current.labels_of(image):
            other.visible = False  # it may have the same colours
        yield 0
        if image not in self._viewer.layers:
            return
        taught = add_labels(self._viewer, image, classes_of(base), base)
        yield 0
        if image not in self._viewer.layers or taught not in self._viewer.layers:
            return
        strokes = add_strokes(self._viewer, image, taught)
        self.strokes, self.taught, self._image, self._base = strokes, taught, image, kept
        yield 0

    def _started(self) -> None:
        """Begin the lesson, now that its layers are there."""
        with self.saying_failures():
            if self.strokes is None or self._image is None:
                raise UsageError("The image or a layer of it was removed meanwhile; press Start again.")
            for event in (self.strokes.events.paint, self.strokes.events.labels_update):
                event.connect(self._painted)
            self._fill_classes()
            self._viewer.layers.selection.active = self.strokes
            self._choose_class()
            self.say("Paint a stroke on the target, then choose 'not target' and paint one beside it.")
            self._look_at(self._image)
        self._enable()

    def _look_at(self, image: ImageLayer) -> None:
        """Compute the image's features while the user paints the first strokes."""
        snapshots, whose = snapshot_layers([image]), self._whose()
        self.start_job(
            lambda events, cancel: self._features.of_layers(snapshots, whose, events, cancel),
            lambda _found: self._done(),
            self._failed,
            event=self._heard,
            kind="features",
            anew=True,
        )

    def _whose(self) -> MadeBy | None:
        """What made the image's labels, which chooses the network; None if no network is wanted."""
        return self._made_by if self.network.isChecked() else None

    def undo(self) -> None:
        """Take back the last stroke."""
        if self.strokes is not None:
            self.strokes.undo()
            self._painted()

    @property
    def learning(self) -> bool:
        """Whether the labels are about to change: strokes wait or are being learned, or labels are being shown."""
        return self._timer.isActive() or self.does("teach") or self._putting.running

    @property
    def starting(self) -> bool:
        """Whether the layers of a lesson are being added."""
        return self._starting.running

    def learn(self) -> None:
        """Learn from all strokes; drop an earlier computation."""
        strokes, image = self.strokes, self._image
        if strokes is None or image is None or self.taught is None:
            return
        self._drop()
        with self.saying_failures():
            plane = visible_plane(image, self._viewer)
            lesson = Lesson(snapshot_layers([image]), np.array(strokes.data), self._base, plane, self._whose())
            self.start_job(
                lambda events, cancel: teach(lesson, self._features, events, events, cancel),
                self._learned,
                self._failed,
                event=self._heard,
                kind="teach",
            )
            self.say("Learning ...")
        self._enable()

    def save(self, path: Path, name: str) -> None:
        """Save what was taught as a quick task."""
        with self.saying_failures():
            if self._teacher is None or self.taught is None:
                raise UsageError("Nothing has been taught yet; paint strokes first.")
            QuickTask.taught(name, self._teacher, class_names_of(self.taught)).save(path)
            self.say(f"Saved {path.name}.")

    def apply_quick_task(self, path: Path) -> None:
        """Label the current image with a quick task."""
        with self.saying_failures():
            image = self._current.image
            if image is None:
                raise UsageError("There is no image; open one (File > Open).")
            self._drop()
            task, snapshots = QuickTask.load(path), snapshot_layers([image])

            def add(taught: Taught) -> None:
                self._done()
                if image not in self._viewer.layers or image.data is not snapshots[0].data:
                    self.say_failure("The image was removed or replaced meanwhile; nothing was added.")
                    return
                layer = add_labels(self._viewer, image, dict(task.classes), None)
                self._current.choose_labels(layer)
                self._put(layer, taught, lambda _count: self.say(f"{task.name} was applied to {image.name}."))

            self.start_job(
                lambda events, cancel: apply_task(task, snapshots, self._features, events, cancel),
                add,
                self._failed,
                event=self._heard,
                kind="teach",
            )
            self.say("Applying ...")
        self._enable()

    def _painted(self, _event: Any = None) -> None:
        self._timer.start()

    def _heard(self, event: Any) -> None:
        if isinstance(event, Taught):
            if self.taught is not None and self.taught in self._viewer.layers:
                put(self.taught, event.labels.reshape(_shape(event.box)), event.box)
        elif isinstance(event, Progress):
            self.progress.show()
            self.progress.setRange(0, event.total)
            self.progress.setValue(event.done)
        elif isinstance(event, Message):
            self.say_failure(event.text)

    def _learned(self, answer: Taught | TooFew) -> None:
        self._done()
        if self.taught is None or self.taught not in self._viewer.layers:
            return
        if isinstance(answer, TooFew):
            self._put_start(self.taught)
            missing = "one on the target" if answer.beside else "a stroke beside the target ('not target')"
            some = answer.target or answer.beside
            self.say(f"Now paint {missing}." if some else "Paint a stroke on the target.")
            self._enable()
            return
        self._teacher = answer.teacher
        unit = "pixels" if answer.labels.ndim == 2 else "voxels"

        def say(count: int) -> None:
            done = f"{count:,} {unit} changed. Paint where the labels are wrong." if count else "Nothing changed."
            self.say(f"{done} {answer.text}")

        self._put(self.taught, answer, say)
        self._enable()

    def _put(self, layer: Labels, taught: Taught, then: Callable[[int], None]) -> None:
        self._putting.run(put_in_steps(layer, taught.labels, taught.box), then)

    def _put_start(self, layer: Labels) -> None:
        """Restore the labels of the start: there are too few strokes."""
        self._teacher = None
        shape = layer.data.shape
        start = np.zeros(shape, layer.data.dtype) if self._base is None else self._base
        whole = tuple(slice(0, size) for size in shape)
        self._putting.run(put_in_steps(layer, start, whole), lambda _count: None)

    def _drop(self) -> None:
        """Drop what is being computed or shown: it belongs to other strokes."""
        self.drop_job("teach")
        self._putting.stop()

    def _failed(self, sentence: str) -> None:
        self._done()
        self.say_failure(sentence)
        self._enable()

    def _done(self) -> None:
        self.progress.hide()
        self._enable()

    def _removed(self, _event: Any) -> None:
        kept = [layer for layer in (self.strokes, self.taught, self._image) if layer is not None]
        if any(layer not in self._viewer.layers for layer in kept):
            self._drop()
            self.drop_job("features")
            self._timer.stop()
            self._forget_lesson()
            self._enable()

    def _forget_lesson(self) -> None:
        self.strokes = self.taught = self._image = self._base = self._teacher = None
        self.class_box.clear()

    def _fill_classes(self) -> None:
        assert self.strokes is not None
        self.class_box.clear()
        names = class_names_of(self.strokes)
        for label in sorted(names, key=lambda value: (value == NOT_TARGET, value)):
            self.class_box.addItem(names[label], label)

    def _choose_class(self, _index: int = 0) -> None:
        label = self.class_box.currentData()
        if self.strokes is not None and label is not None:
            self.strokes.selected_label = int(label)
            self.strokes.mode = "paint"

    def _ask_for_class(self) -> None:
        name, agreed = QInputDialog.getText(self, "New class", "Its name:")
        if agreed and name.strip():
            self.add_class(name.strip())

    def add_class(self, name: str) -> None:
        """Add a target with strokes of its own."""
        if self.strokes is None or self.taught is None:
            self.say_failure("Press Start first.")
            return
        with self.saying_failures():
            colour = shown_colour(self.taught, add_class(self.taught, name))
            label = add_class(self.strokes, name, colour)
            self._fill_classes()
            self.class_box.setCurrentIndex(self.class_box.findData(label))

    def _ask_and_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the quick task", "quick_task.json", "Quick task (*.json)")
        if path:
            self.save(Path(path), Path(path).stem)

    def _ask_and_apply(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Apply a quick task", "", "Quick task (*.json)")
        if path:
            self.apply_quick_task(Path(path))

    def _enable(self, _event: Any = None) -> None:
        started = self.strokes is not None and self._current.image is self._image  # else one would act on hidden ones
        self.start_button.setEnabled(not self._starting.running)
        for widget in (self.class_box, self.class_button, self.undo_button):
            widget.setEnabled(started)
        self.save_button.setEnabled(self._teacher is not None)
        self.stop_button.setEnabled(self.busy)

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.addRow("Image", self.image_box)
        form.addRow(self.correct)
        form.addRow(self.network)
        form.addRow(self.start_button)
        form.addRow("Strokes on", self.class_box)
        form.addRow(self.class_button)
        self.content.addLayout(form)
        tasks = QHBoxLayout()
        tasks.addWidget(self.save_button)
        tasks.addWidget(self.apply_button)
        self.content.addLayout(tasks)
        self.content.addStretch(1)
        self.content.setAlignment(Qt.AlignmentFlag.AlignTop)
        last = QHBoxLayout()
        for widget in (self.undo_button, self.stop_button):
            last.addWidget(widget)
        self.footer.addWidget(self.progress)
        self.footer.addWidget(self.said)
        self.footer.addLayout(last)


def _shape(box: tuple[slice, ...]) -> tuple[int, ...]:
    return tuple(part.stop - part.start for part in box)
