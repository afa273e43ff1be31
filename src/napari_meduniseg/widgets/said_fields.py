"""Fields for what images do not tell themselves: their orientation in the patient, and how much they show."""

from __future__ import annotations

from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox
from superqt.utils import signals_blocked

from meduniseg_core.images.oriented import towards

_SIDES = {"R": "right", "L": "left", "A": "front", "P": "back", "S": "head", "I": "feet"}
_USUAL = ("RAS", "LAS", "LPS", "RPS", "LPI", "RPI", "LAI", "RAI")


class OrientationBox(QComboBox):
    """The orientation of a volume's axes: one of the usual ones, or another one that the user types."""

    def __init__(self, unknown: str) -> None:
        super().__init__()
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.addItem(unknown, None)
        for code in _USUAL:
            self.addItem(f"{code} ({', '.join(_SIDES[letter] for letter in code)})", code)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.setToolTip(
            "Where the file's first, second and third axis point to: right or left, front (A) or back (P), head (S) or "
            "feet (I). NIfTI files are mostly RAS or LAS. For another order, type three letters such as PIR."
        )

    def code(self) -> str | None:
        """What was chosen or typed; None for nothing. Raises UsageError for text that is not an orientation."""
        text = self.currentText().strip()
        if not text or text == self.itemText(0):
            return None
        code = text.split(" ")[0].upper()
        towards(code)
        return code

    def show_code(self, code: str | None) -> None:
        """Show an orientation without emitting a signal."""
        with signals_blocked(self):
            index = self.findData(code)
            self.setCurrentIndex(max(0, index))
            if index < 0 and code is not None:
                self.setEditText(code)

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802 - Qt's name
        event.ignore()  # no value changes under a wheel that is meant for the panel


class ScaleBox(QDoubleSpinBox):
    """How many times more than the training images an image shows along a side."""

    def __init__(self) -> None:
        super().__init__()
        self.setRange(0.02, 100.0)
        self.setDecimals(2)
        self.setSingleStep(0.1)
        self.setValue(1.0)
        self.setSuffix(" x")
        self.setKeyboardTracking(False)
        self.setToolTip(
            "How many times more than the training images an image shows along a side: 4 for a field of a slide that "
            "is four times as wide at the same magnification, 0.5 for one that is half as wide. For images without a "
            "size in mm."
        )

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802 - Qt's name
        event.ignore()
