"""*Only intensities*: a range for painting that starts from the image's values, by numbers or on a histogram."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from napari.layers import Image as ImageLayer
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_meduniseg._intensities import Range, usual_range
from napari_meduniseg.widgets.operation_buttons import spin
from napari_meduniseg.widgets.range_histogram import RangeHistogram
from napari_meduniseg.widgets.working import Working


class IntensityRange(Working, QWidget):
    """A box, two numbers, and while it is ticked a histogram. Every image keeps the range that was set for it."""

    def __init__(self) -> None:
        super().__init__()
        self._image: ImageLayer | None = None
        self._chosen: WeakKeyDictionary[ImageLayer, tuple[float, float]] = WeakKeyDictionary()
        self._offered: WeakKeyDictionary[ImageLayer, Range] = WeakKeyDictionary()
        self.box = QCheckBox("Only intensities")
        self.box.setToolTip("The ball changes only what has an intensity (in photographs: brightness) in this range.")
        self.low = spin(0.0, -1e9, 1e9, "")
        self.high = spin(1.0, -1e9, 1e9, "")
        self.histogram = RangeHistogram()
        self.histogram.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        layout.addLayout(row)
        layout.addWidget(self.histogram)
        row.setSpacing(4)  # the Edit panel's widest row
        for widget in (self.box, self.low, QLabel("to"), self.high):
            row.addWidget(widget)
        for number in (self.low, self.high):
            number.setMinimumWidth(60)  # the largest number it may hold must not widen the panel
            number.valueChanged.connect(self._keep)
        self.box.toggled.connect(self._show_histogram)
        self.histogram.dragged.connect(self._drag)
        self._explain(None)

    @property
    def on(self) -> bool:
        """Whether painting is limited to the range."""
        return bool(self.box.isChecked())

    def limits(self) -> tuple[float, float]:
        """The lowest and the highest intensity."""
        return self.low.value(), self.high.value()

    def show_image(self, image: ImageLayer | None) -> None:
        """Use this image from now on."""
        if image is self._image:
            return
        self._image = image
        self.drop_job()
        self._show_histogram()
        self._explain(None)
        if image is None:
            return
        if image in self._offered:
            self._show(image, self._offered[image])
            return
        find = usual_range(image)
        self.start_job(lambda _events, _cancel: find(), lambda found: self._found(image, found))

    def _found(self, image: ImageLayer, found: Range | None) -> None:
        if found is not None:
            self._offered[image] = found
            self._show(image, found)

    def _show(self, image: ImageLayer, found: Range) -> None:
        low, high = self._chosen.get(image, (found.low, found.high))
        for number, value in ((self.low, low), (self.high, high)):
            with signals_blocked(number):
                number.setDecimals(found.decimals)
                number.setSingleStep(found.step)
                number.setValue(value)
        self.histogram.show_range(found)
        self.histogram.set_limits(low, high)
        self._show_histogram()
        self._explain(found)

    def _explain(self, found: Range | None) -> None:
        runs = "" if found is None else f" The image's run from {found.lowest:g} to {found.highest:g}."
        for number, which in ((self.low, "Lowest"), (self.high, "Highest")):
            number.setToolTip(f"{which} intensity that is painted.{runs}")

    def _keep(self, _value: float) -> None:
        self.histogram.set_limits(*self.limits())
        if self._image is not None:
            self._chosen[self._image] = self.limits()

    def _drag(self, low: float, high: float) -> None:
        for number, value in ((self.low, low), (self.high, high)):
            with signals_blocked(number):
                number.setValue(value)
        if self._image is not None:
            self._chosen[self._image] = self.limits()

    def _show_histogram(self, _on: bool = True) -> None:
        """Without an image, or before its voxels were looked at, there is nothing to drag on."""
        self.histogram.setVisible(self.on and self._image is not None and self._image in self._offered)
