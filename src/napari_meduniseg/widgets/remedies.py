"""What the user can do about a finding: give the orientation or the scale, or open the file again with our reader."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from napari.layers import Image as ImageLayer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QPushButton, QWidget
from superqt.utils import signals_blocked

from meduniseg_core.errors import UsageError
from meduniseg_core.images import Finding
from napari_meduniseg._segmentation_job import Said
from napari_meduniseg.widgets.said_fields import OrientationBox, ScaleBox


class Remedies(QWidget):
    """Fields and a button, each shown only where a finding asks for it. Answers are kept with their image layer.

    ``changed``: an answer changed. ``reopen``: the current image's file is to be opened with our own reader.
    ``refused``: why a typed answer is not possible.
    """

    changed = Signal()
    reopen = Signal()
    refused = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._said: WeakKeyDictionary[ImageLayer, Said] = WeakKeyDictionary()
        self._image: ImageLayer | None = None
        self.orientation = OrientationBox("not known")
        self.scale = ScaleBox()
        self.fitting = QPushButton()
        self.fitting.setToolTip("Take the scale that fits the training images' size in pixels.")
        self.reopen_button = QPushButton("Open with MedUniSeg")
        self.reopen_button.setToolTip("Open the image's file again, and show it as the file asks for.")
        self._scale_row = QWidget()
        row = QHBoxLayout(self._scale_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.scale, 1)
        row.addWidget(self.fitting)
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.addRow("Its orientation", self.orientation)
        self._form.addRow("Its scale", self._scale_row)
        self._form.addRow(self.reopen_button)
        self.orientation.activated.connect(self._say)
        line = self.orientation.lineEdit()
        assert line is not None
        line.editingFinished.connect(self._say)
        self.scale.valueChanged.connect(self._say)
        self.fitting.clicked.connect(self._take_fitting)
        self.reopen_button.clicked.connect(self.reopen)
        self.show_for(None, ())

    def said(self, image: object) -> Said:
        """The user's answers for this image layer."""
        return self._said.get(image, Said()) if isinstance(image, ImageLayer) else Said()

    def show_for(self, image: ImageLayer | None, findings: Sequence[Finding]) -> None:
        """Show the remedies for these findings of an image, with the answers given before."""
        self._image = image
        said, codes = self.said(image), {finding.code for finding in findings}
        self.orientation.show_code(said.orientation)
        with signals_blocked(self.scale):
            self.scale.setValue(said.scale)
        fitting = next((finding.scale for finding in findings if finding.scale is not None), None)
        self.fitting.setVisible(fitting is not None)
        if fitting is not None:
            self.fitting.setText(f"Use {fitting:.2g}")
            self.fitting.setProperty("scale", float(f"{fitting:.2g}"))
        rows = (
            (self.orientation, "orientation_unknown" in codes or said.orientation is not None),
            (self._scale_row, "field_of_view" in codes or said.scale != 1),
            (self.reopen_button, "opened_elsewhere" in codes),
        )
        for field, shown in rows:
            self._form.setRowVisible(field, shown)
        self.setVisible(any(shown for _, shown in rows))

    def _take_fitting(self) -> None:
        self.scale.setValue(float(self.fitting.property("scale")))

    def _say(self, *_: object) -> None:
        if self._image is None:
            return
        try:
            said = Said(self.scale.value(), self.orientation.code())
        except UsageError as error:
            self.refused.emit(str(error))
            return
        if said != self.said(self._image):
            self._said[self._image] = said
            self.changed.emit()
