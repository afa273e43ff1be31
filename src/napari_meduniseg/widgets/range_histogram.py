"""The intensities of an image as a histogram, on which a range is dragged."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import Signal
from superqt.utils import signals_blocked

from napari_meduniseg._intensities import Range

_HEIGHT = 64  # px
_BARS, _CHOSEN = (140, 150, 165), (255, 210, 74, 90)


class RangeHistogram(pg.PlotWidget):  # type: ignore[misc]  # pyqtgraph has no types
    """``dragged`` brings the lowest and the highest intensity while either edge, or the range as a whole, is moved."""

    dragged = Signal(float, float)

    def __init__(self) -> None:
        super().__init__()
        self.setToolTip("The image's intensities (high: many). Drag the edges of the range, or the range as a whole.")
        self.setFixedHeight(_HEIGHT)
        self.setMinimumWidth(0)
        self.setBackground(None)  # the panel's own, dark or light
        self.setMouseEnabled(x=False, y=False)
        self.hideButtons()
        self.setMenuEnabled(False)
        self.hideAxis("left")
        self._bars = pg.BarGraphItem(x=[0.5], height=[0.0], width=1.0, brush=_BARS, pen=_BARS)
        self.region = pg.LinearRegionItem(brush=_CHOSEN, swapMode="block")
        self.addItem(self._bars)
        self.addItem(self.region)
        self.region.sigRegionChanged.connect(self._tell)

    def show_range(self, found: Range) -> None:
        """Show the histogram of an image; heights are logarithms, because of the background."""
        counts = np.log1p(np.asarray(found.counts, float))
        width = max(found.highest - found.lowest, 10.0**-found.decimals) / max(1, len(counts))
        self._bars.setOpts(x=found.lowest + width * (np.arange(len(counts)) + 0.5), height=counts, width=width)
        with signals_blocked(self.region):
            self.region.setBounds((found.lowest, found.lowest + width * max(1, len(counts))))
        self.setXRange(found.lowest, found.lowest + width * max(1, len(counts)), padding=0.01)
        self.setYRange(0, max(1.0, float(counts.max(initial=0.0))), padding=0)

    def set_limits(self, low: float, high: float) -> None:
        """Mark a range that was set elsewhere; what lies beyond the image's intensities is marked at their ends."""
        with signals_blocked(self.region):
            self.region.setRegion((min(low, high), max(low, high)))

    def _tell(self) -> None:
        low, high = self.region.getRegion()
        self.dragged.emit(float(low), float(high))
