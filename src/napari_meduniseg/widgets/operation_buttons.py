"""The buttons of the editing operations, the amount in mm that some of them take, and their keys."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import ceil

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QGridLayout, QLabel, QPushButton, QVBoxLayout, QWidget

# button, operation, tooltip
_PLAIN = (
    ("Fill holes", "fill_holes", "Fill cavities that the class encloses in space."),
    ("Fill holes in slices", "fill_holes_in_slices", "Fill holes in every slice of the view that is shown."),
    ("Keep largest", "keep_largest", "Keep the largest connected component, erase the others."),
    (
        "Fill between slices",
        "fill_between",
        "Fill the slices between those on which the class is drawn.",
    ),
)
_MEASURED = (
    ("Grow", "grow", "Add everything within this distance."),
    ("Shrink", "shrink", "Remove everything within this distance of the outside."),
    ("Smooth", "smooth", "Smooth the surface at this scale."),
    ("Remove islands", "remove_islands", "Erase components smaller than this (a volume; an area in 2D)."),
)
MEASURED = tuple(title for title, _, _ in _MEASURED)
"""What the buttons say that take the amount."""
_OF_VOLUMES = ("fill_holes_in_slices", "fill_between")  # of a picture there is one slice

# napari leaves Shift with a letter free; a manifest's key bindings do nothing in napari 0.9
KEYS = {
    "fill_holes": "Shift-H",
    "fill_holes_in_slices": "Shift-J",
    "keep_largest": "Shift-K",
    "fill_between": "Shift-B",
    "grow": "Shift-G",
    "shrink": "Shift-S",
    "smooth": "Shift-M",
    "remove_islands": "Shift-I",
}


class OperationButtons(QWidget):
    """Emits ``asked`` with the operation's name."""

    asked = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.amount = spin(2.0, 0.1, 1000.0, "How far, or how large, for the operations below it.")
        self._typed = self.amount.value()  # the user's own, which a coarser grid may have raised
        self.amount.editingFinished.connect(self._keep)
        self.buttons: dict[str, QPushButton] = {}
        plain, measured = QGridLayout(), QGridLayout()
        self.label = QLabel()
        measured.addWidget(self.label, 0, 0)
        measured.addWidget(self.amount, 0, 1)
        for grid, first, table in ((plain, 0, _PLAIN), (measured, 1, _MEASURED)):
            for number, (title, name, tip) in enumerate(table):
                button = self.buttons[name] = QPushButton(title)
                button.setToolTip(f"{tip} Key: {KEYS[name]}.")
                button.clicked.connect(partial(self.asked.emit, name))
                grid.addWidget(button, first + number // 2, number % 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(plain)
        layout.addLayout(measured)
        self.fit_to((), "mm")

    def fit_to(self, spacing: Sequence[float], unit: str) -> None:
        """Name the amount's unit, and raise an amount that does nothing on this grid to the size of its voxels.

        Args:
            spacing: size of a voxel along each axis; none where there are no labels.
            unit: its unit.
        """
        power = "²" if len(spacing) == 2 else "³"
        self.amount.setSuffix(f" {unit}")
        self.label.setText(f"Amount (islands: {unit}{power})")
        for name in _OF_VOLUMES:
            self.buttons[name].setEnabled(len(spacing) != 2)
        least = sorted(spacing)[1] if spacing else 0.0  # by which a shape grows within at least one plane
        self.amount.setValue(max(self._typed, ceil(10 * least) / 10))

    def _keep(self) -> None:
        self._typed = self.amount.value()


def spin(value: float, low: float, high: float, tip: str) -> QDoubleSpinBox:
    """A spin box with one decimal."""
    spin = QDoubleSpinBox()
    spin.setRange(low, high)
    spin.setDecimals(1)
    spin.setValue(value)
    spin.setToolTip(tip)
    return spin
