"""The Review widget: two labels layers compared in numbers, and where they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
)

from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation.comparison import (
    ONLY_FIRST,
    ONLY_SECOND,
    OTHER_CLASS,
    ClassComparison,
    compare,
    difference,
    write_comparison,
)
from napari_meduniseg._belonging import in_one_place
from napari_meduniseg._current import current_of
from napari_meduniseg._editing import class_names_of
from napari_meduniseg._layers import DERIVED, METADATA_KEY, copied_placement, spacing_of, unit_of
from napari_meduniseg._links import are_siblings
from napari_meduniseg.widgets.layer_combo import LayerCombo
from napari_meduniseg.widgets.panel import Panel

_COLOURS = {0: "transparent", ONLY_FIRST: "#e6194b", ONLY_SECOND: "#0082c8", OTHER_CLASS: "#ffe119", None: "white"}


class ReviewWidget(Panel):
    """Compares two labels layers of one image."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self._current = current_of(napari_viewer)
        self.rows: list[ClassComparison] = []
        self._unit, self._length = "ml", "mm"
        self.first, self.second = LayerCombo(napari_viewer, Labels), LayerCombo(napari_viewer, Labels)
        self.first.setToolTip("The labels to judge.")
        self.second.setToolTip("The labels to compare with, such as the corrected ones.")
        self.tolerance = QDoubleSpinBox()
        self.tolerance.setRange(0.1, 50.0)
        self.tolerance.setValue(2.0)
        self.tolerance.setSuffix(" mm")
        self.tolerance.setToolTip("Surfaces closer than this count as equal in surface Dice.")
        self.compare_button = QPushButton("Compare")
        self.compare_button.setToolTip("Dice, HD95, surface Dice and sizes of every class.")
        self.difference_button = QPushButton("Show differences")
        self.difference_button.setToolTip("Add a layer: red in the first only, blue in the second only.")
        self.export_button = QPushButton("Export CSV ...")
        self.export_button.setToolTip("Save the table.")
        self.export_button.setEnabled(False)
        self.table = QTableWidget(0, 6)
        self.table.setHorizontalHeaderLabels(("class", "Dice", "HD95", "surface Dice", "first", "second"))
        self.table.setToolTip(
            "Dice and surface Dice: 1 is equal, 0 nothing in common. HD95: how far the surfaces lie apart."
        )
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.verticalHeader().hide()
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        form = QFormLayout()
        form.addRow("First", self.first)
        form.addRow("Second", self.second)
        form.addRow("Tolerance", self.tolerance)
        buttons = QHBoxLayout()
        for button in (self.compare_button, self.difference_button, self.export_button):
            buttons.addWidget(button)
        self.content.addLayout(form)
        self.content.addLayout(buttons)
        self.content.addWidget(self.table)
        self.footer.addWidget(self.said)
        for box in (self.first, self.second):
            box.chosen.connect(self._keep_apart)
        # last: the boxes list a new layer first
        napari_viewer.layers.events.inserted.connect(self._keep_apart, position="last")
        self._keep_apart()
        self._current.events.changed.connect(self._follow)
        self._follow()
        self.compare_button.clicked.connect(self.compare)
        self.difference_button.clicked.connect(self.show_difference)
        self.export_button.clicked.connect(self._ask_and_export)

    def _keep_apart(self, _event: Any = None) -> None:
        """Move the second box on to another layer, if there is one: comparing a layer with itself makes no sense."""
        if self.second.count() > 1 and self.first.layer() is self.second.layer():
            self.second.setCurrentIndex((self.first.currentIndex() + 1) % self.second.count())
        first = self.first.layer()
        self.tolerance.setSuffix(f" {unit_of(first) if isinstance(first, Labels) else 'mm'}")

    def compare(self) -> None:
        """Compare in a worker's thread, because distances in large volumes take a while."""
        if self.busy:
            return
        with self.saying_failures():
            first, second = self._layers()
            one, two = np.array(first.data), np.array(second.data)  # as they are now: editing may go on
            spacing, tolerance = spacing_of(first), self.tolerance.value()
            names = {label: name for layer in (second, first) for label, name in class_names_of(layer).items()}
            self._length = unit_of(first)
            self._unit = "voxels / 1000" if self._length == "px" else "ml" if one.ndim == 3 else "mm2"
            if self._length == "px" and one.ndim == 2:
                self._unit = "px"
            self.do_beside(
                lambda _events, _cancel: compare(one, two, spacing, names, tolerance),
                self._show,
                text="Comparing ...",
                title="A comparison",
            )

    def show_difference(self) -> Labels | None:
        """Add a layer that shows where the two differ."""
        try:
            first, second = self._layers()
        except BadInputError as error:
            self.say_failure(str(error))
            return None
        changed = difference(np.asarray(first.data), np.asarray(second.data))
        features = {
            "index": [0, ONLY_FIRST, ONLY_SECOND, OTHER_CLASS],
            "name": ["equal", f"only in {first.name}", f"only in {second.name}", "another class"],
        }
        what = "pixels" if changed.ndim == 2 else "voxels"
        self.say(f"{int(np.count_nonzero(changed)):,} {what} differ.")
        layer: Labels = self._viewer.add_labels(
            changed,
            name=f"{first.name} against {second.name}",
            colormap=DirectLabelColormap(color_dict=_COLOURS),
            features=features,
            metadata={METADATA_KEY: DERIVED},
            **copied_placement(first),
        )
        return layer

    def export(self, path: Path) -> None:
        """Write the table as CSV."""
        write_comparison(self.rows, path, self._unit, self._length)
        self.say(f"Saved {path.name}.")

    def _layers(self) -> tuple[Labels, Labels]:
        first, second = self.first.layer(), self.second.layer()
        if not isinstance(first, Labels) or not isinstance(second, Labels) or first is second:
            raise BadInputError("Choose two different labels layers of one image.")
        one, two = self._current.image_of(first), self._current.image_of(second)
        if one is not None and two is not None and not are_siblings(one, two):
            raise BadInputError(
                f"{first.name} belongs to the image {one.name} and {second.name} to {two.name}; compare labels of one "
                "image."
            )
        if first.data.shape != second.data.shape or not in_one_place(first, second):
            raise BadInputError(f"{first.name} and {second.name} have different grids; compare labels of one image.")
        return first, second

    def _follow(self, _event: Any = None) -> None:
        """Replace labels of another image by labels of the current image, the current ones first."""
        image, now = self._current.image, self._current.labels
        if image is None or now is None:
            return
        own = self._current.labels_of(image)
        if self.first.layer() not in own and now in own:
            self.first.set_layer(now)
        others = [labels for labels in own if labels is not self.first.layer()]
        if self.second.layer() not in own and others:
            self.second.set_layer(others[-1])

    def _show(self, rows: list[ClassComparison]) -> None:
        self.rows = rows
        headers = [
            "class",
            "Dice",
            f"HD95 {self._length}",
            "surface Dice",
            f"first {self._unit}",
            f"second {self._unit}",
        ]
        self.table.setHorizontalHeaderLabels(headers)
        self.table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            values = (row.dice, row.hd95, row.surface_dice, row.first_size, row.second_size)
            digits = (3, 2, 3, *([0 if self._unit == "px" else 2] * 2))  # pixels are counted
            texts = (row.name, *(f"{value:.{some}f}" for some, value in zip(digits, values, strict=True)))
            for column, text in enumerate(texts):
                self.table.setItem(number, column, QTableWidgetItem(text))
        self.export_button.setEnabled(bool(rows))
        self.say("" if rows else "Both layers are empty.")

    def _ask_and_export(self) -> None:
        name, _ = QFileDialog.getSaveFileName(self, "Save the comparison", "comparison.csv", "CSV (*.csv)")
        if name:
            with self.saying_failures():
                self.export(Path(name))
