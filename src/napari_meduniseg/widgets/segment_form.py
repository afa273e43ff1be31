"""The form of the Segment widget: image, modality, tasks, model, region, and how to compute."""

from __future__ import annotations

from typing import Any

import napari
from napari.layers import Image as ImageLayer
from napari.layers import Layer, Shapes
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible
from superqt.utils import signals_blocked

from meduniseg_core.catalog import MODALITIES
from meduniseg_core.errors import MedUniSegError
from meduniseg_core.images.modality_guess import ModalityGuess
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.weights import ActiveModels
from meduniseg_core.weights.offer import Offer
from napari_meduniseg._compute_options import compute_form
from napari_meduniseg._current import current_of
from napari_meduniseg._likely_modality import ByHand, LikelyModality
from napari_meduniseg._links import lies_on
from napari_meduniseg._segmentation_job import SegmentChoice, is_flat, modalities_for, tasks_for
from napari_meduniseg._signals import signals
from napari_meduniseg.widgets.in_use_line import IN_USE, InUseLine, ModelCombo
from napari_meduniseg.widgets.layer_combo import LayerCombo, image_combo
from napari_meduniseg.widgets.tick_boxes import outline_boxes
from napari_meduniseg.widgets.typed_form import add_rows

_TITLES = {name: modality.title for name, modality in MODALITIES.items()}
_MODEL_TIP = (
    "The network: what is in use for each task ('starter', which comes with the program for demonstration, or what you "
    "have adopted instead), or one of the installed models for all tasks."
)
_MOST_ROWS = 7  # of the list of tasks; further ones are scrolled to
_REGIONS = (("Whole image", "volume"), ("Visible slice", "slice"), ("Box (Shapes layer)", "box"))


class SegmentForm(QWidget):
    """Emits ``changed`` whenever the choice changes."""

    changed = Signal()

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._offer: Offer | None = None

        self.model = ModelCombo()
        self.model.setToolTip(_MODEL_TIP)
        self.image = image_combo(current_of(viewer))
        self.image.setToolTip(
            "The image to segment (for a task with several channels, the first one). The chosen image is shown alone."
        )
        self.more_channels: list[LayerCombo] = []
        self.modality_box = QComboBox()
        self.modality_box.setToolTip(
            "The kind of image: as the image itself tells, else as you chose for the last image of its kind."
        )
        self.modality_box.setPlaceholderText("choose")
        self._likely = LikelyModality()
        self.tasks = QListWidget()
        self.tasks.setToolTip("What to segment; tick one or several. Only tasks that fit model, modality and image.")
        outline_boxes(self.tasks)
        self.in_use = InUseLine()
        self.region = QComboBox()
        self.region.setToolTip("Segment all of the image, the slice that is shown, or a box drawn in a Shapes layer.")
        for title, value in _REGIONS:
            self.region.addItem(title, value)
        self.shapes = LayerCombo(viewer, Shapes)
        self.shapes.setToolTip("The Shapes layer that holds the box: the selected shapes, else all of them.")
        self.compute = compute_form()

        self._form = QFormLayout()
        self._form.addRow("Model", self.model)
        self._form.addRow("Image", self.image)
        self._form.addRow("Modality", self.modality_box)
        self._form.addRow("Tasks", self.tasks)
        self._form.addRow("Region", self.region)
        self._form.addRow("Box", self.shapes)
        advanced = QWidget()
        add_rows(QFormLayout(advanced), self.compute)
        self.advanced = QCollapsible("Advanced")
        self.advanced.setToolTip("How it is computed (device, precision, overlap, mirroring) and what is added to it.")
        self.advanced.addWidget(advanced)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._form)
        layout.addWidget(self.advanced)

        self.refresh_models()
        signals().models_changed.connect(self.refresh_models)
        self._form.setRowVisible(self.shapes, False)
        self.model.currentIndexChanged.connect(self._model_changed)
        self.image.chosen.connect(self._follow_image)
        self.modality_box.currentIndexChanged.connect(self._modality_chosen)
        self.tasks.itemChanged.connect(self._task_ticked)
        self.in_use.instead.connect(self._use_instead)
        self.in_use.packs_changed.connect(self._tasks_changed)
        self.region.currentIndexChanged.connect(self._region_changed)
        self.shapes.chosen.connect(lambda *_: self.changed.emit())
        self.compute.changed.connect(lambda *_: self.changed.emit())

    # -- what is chosen -----------------------------------------------------------------------------------------

    def choice(self) -> SegmentChoice:
        """The form's present state."""
        layers = [combo.layer() for combo in (self.image, *self.more_channels)]
        return SegmentChoice(
            layers=tuple(layer for layer in layers if isinstance(layer, ImageLayer)),
            tasks=tuple(plan.task for plan in self.chosen_plans()),
            model=self._offer.base if self._offer is not None else "",
            models=self._models(),
            packs=self.in_use.packs,
            compute=self.compute(),
            region=self.region.currentData(),
            shapes=self.shapes.layer(),
        )

    def _models(self) -> dict[str, str]:
        """The model of each ticked task."""
        offer = self._offer
        return {plan.task: offer.models[plan.task] for plan in self.chosen_plans()} if offer is not None else {}

    def modality(self) -> str | None:
        """The modality's name in the model."""
        data: str | None = self.modality_box.currentData()
        return data

    def chosen_plans(self) -> list[TaskPlan]:
        """The plans of the ticked tasks that the present model has."""
        known = self._offer.plans if self._offer is not None else {}
        items = (self.tasks.item(row) for row in range(self.tasks.count()))
        names = [item.data(Qt.ItemDataRole.UserRole) for item in items if item.checkState() == Qt.CheckState.Checked]
        return [known[name] for name in names if name in known]

    def possible_plans(self) -> list[TaskPlan]:
        """The plans of all tasks of the modality that suit the image, ticked or not."""
        layer = self.image.layer()
        flat = is_flat(layer) if isinstance(layer, ImageLayer) else None
        if self._offer is None or (self.modality() is None and self.modality_box.count()):
            return []
        return tasks_for(self._offer.plans.values(), self.modality(), flat)

    def classes_text(self) -> str:
        """All classes of the ticked tasks."""
        return ", ".join(name for plan in self.chosen_plans() for name in plan.classes)

    def choose(self, model: str | None = None, modality: str | None = None, tasks: tuple[str, ...] = ()) -> None:
        """Set the form from code (tests, scripts)."""
        if model is not None:
            self.model.setCurrentIndex(self.model.findData(model))
        if modality is not None:
            self.modality_box.setCurrentIndex(self.modality_box.findData(modality))
        for row in range(self.tasks.count()):
            item = self.tasks.item(row)
            wanted = item.data(Qt.ItemDataRole.UserRole) in tasks
            item.setCheckState(Qt.CheckState.Checked if wanted else Qt.CheckState.Unchecked)

    # -- keeping the form consistent ----------------------------------------------------------------------------

    def refresh_models(self, choose: str = "") -> None:
        """List the models there are now, keeping the chosen one if it is still there; ``choose`` takes another, or
        what is in use where that is for a task."""
        in_use = bool(choose) and choose in _in_use()
        with signals_blocked(self.model):
            self.model.refresh(IN_USE if in_use else choose or None)
        self._model_changed()

    def _model_changed(self, *_: Any) -> None:
        self._offer = self.model.offer()
        chosen = self._offer.infos[self._offer.base]
        about = f"{chosen.title}\n{chosen.intended_use}" if self.model.currentData() != IN_USE else _MODEL_TIP
        self.model.setToolTip(about)
        before = self.modality()
        with signals_blocked(self.modality_box):
            self.modality_box.clear()
            for modality in modalities_for(self._offer.plans.values(), self._offer.modalities):
                self.modality_box.addItem(_TITLES.get(modality, modality), modality)
            self.modality_box.setCurrentIndex(max(0, self.modality_box.findData(before)))
        self._follow_image()

    def _follow_image(self) -> None:
        """Show what was chosen by hand for the image, else the modality that it seems to be of.

        Where it does not tell, nothing is chosen. Until it was looked at, what was there stays.
        """
        image = self.image.layer()
        by_hand = None
        if isinstance(image, ImageLayer):
            by_hand = self._likely.by_hand(image)
            known, wanted = True, None if by_hand is None else by_hand.modality
            if by_hand is None:
                known, wanted = self._likely.best_of(image, self._possible_modalities(image))
            with signals_blocked(self.modality_box):
                self.modality_box.setCurrentIndex(-1 if known and wanted is None else self._index_of(wanted))
        self._fill_tasks(by_hand)

    def tell_modalities(self, image: Layer, guess: ModalityGuess) -> None:
        """Take over what an image may be of, now that its voxels were read."""
        if self._likely.told(image, guess) and image is self.image.layer():
            self._follow_image()

    def _index_of(self, modality: str | None) -> int:
        """The place of a modality in the box; that of the present one where the model has none of that name."""
        index = self.modality_box.findData(modality)
        return index if index >= 0 else self.modality_box.currentIndex()

    def _possible_modalities(self, image: ImageLayer) -> list[str]:
        plans = self._offer.plans.values() if self._offer is not None else ()
        names = [self.modality_box.itemData(row) for row in range(self.modality_box.count())]
        return [name for name in names if tasks_for(plans, name, is_flat(image))]

    def _modality_chosen(self, *_: Any) -> None:
        self._fill_tasks()
        self._note_by_hand()

    def _task_ticked(self, *_: Any) -> None:
        self._tasks_changed()
        self._note_by_hand()

    def _note_by_hand(self) -> None:
        chosen = ByHand(self.modality(), tuple(plan.task for plan in self.chosen_plans()))
        self._likely.note(self.image.layer(), chosen)

    def _fill_tasks(self, by_hand: ByHand | None = None) -> None:
        before = {*(by_hand.tasks if by_hand else ()), *(plan.task for plan in self.chosen_plans())}
        listed = [self.tasks.item(row).data(Qt.ItemDataRole.UserRole) for row in range(self.tasks.count())]
        plans = self.possible_plans()
        # the only possible task is ticked, but not again after it was unticked for this image
        alone = len(plans) == 1 and not (by_hand and listed == [plans[0].task])
        with signals_blocked(self.tasks):
            self.tasks.clear()
            for plan in plans:
                item = QListWidgetItem(plan.shown_title)
                item.setData(Qt.ItemDataRole.UserRole, plan.task)
                item.setToolTip(f"{plan.task}: {', '.join(plan.classes)}\nchannels: {', '.join(plan.channels)}")
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
                ticked = plan.task in before or alone
                item.setCheckState(Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked)
                self.tasks.addItem(item)
        row = max(self.tasks.sizeHintForRow(0), self.tasks.fontMetrics().height())
        self.tasks.setFixedHeight(row * min(max(2, len(plans)), _MOST_ROWS) + 2 * self.tasks.frameWidth() + 2)
        self._tasks_changed()

    def _tasks_changed(self, *_: Any) -> None:
        plans = self.chosen_plans()
        self.in_use.show_for(self._models(), self.model, self._offer)
        channels = plans[0].channels if plans else ()
        layer = self.image.layer()
        colour = isinstance(layer, ImageLayer) and layer.rgb
        wanted = 0 if colour or (plans and plans[0].dimension == 2) else max(0, len(channels) - 1)
        for combo in self.more_channels:
            self._form.removeRow(combo)
        self.more_channels = []
        for number in range(wanted):
            combo = LayerCombo(self._viewer, ImageLayer, prefer=self._is_another_channel)
            combo.setToolTip(f"The layer with channel {number + 2} of the task: {channels[number + 1]}.")
            combo.chosen.connect(lambda *_: self.changed.emit())
            self._form.insertRow(2 + number, channels[number + 1], combo)
            self.more_channels.append(combo)
        label = self._form.labelForField(self.image)
        if isinstance(label, QLabel):
            label.setText(channels[0] if wanted else "Image")
        self.changed.emit()

    def _is_another_channel(self, layer: Layer) -> bool:
        """Whether a layer may hold the next channel: on the image's grid, and not chosen yet."""
        image = self.image.layer()
        taken = [image, *(combo.layer() for combo in self.more_channels)]
        lies_there = isinstance(image, ImageLayer) and lies_on(layer, image)
        return lies_there and not any(layer is one for one in taken)

    def _use_instead(self, model: str) -> None:
        modality, tasks = self.modality(), tuple(plan.task for plan in self.chosen_plans())
        with signals_blocked(self.model):
            self.model.refresh(model)  # it may have been adopted elsewhere since
        self._model_changed()
        self.choose(modality=modality, tasks=tasks)

    def _region_changed(self, *_: Any) -> None:
        self._form.setRowVisible(self.shapes, self.region.currentData() == "box")
        self.changed.emit()


def _in_use() -> set[str]:
    """The names of the models that are in use for a task."""
    try:
        return set(ActiveModels().all().values())
    except MedUniSegError:
        return set()  # what is wrong is said below the form
