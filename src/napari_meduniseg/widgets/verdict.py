"""What a result says of its own quality: a traffic light and a sentence for each task, and the user's threshold."""

from __future__ import annotations

from dataclasses import replace

from magicgui.widgets import FloatSpinBox
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLabel, QWidget

from meduniseg_core.inference.quality.assessment import REVIEW_BELOW, Light
from napari_meduniseg._batch_options import REVIEW_FIELD
from napari_meduniseg._segmentation_job import Outcome
from napari_meduniseg.widgets.message import AMBER, Sentence, readable

LIGHTS: dict[Light, str] = {"green": "#2e9e4f", "amber": AMBER, "red": "#d03b3b"}
_DOT = "●"


class Verdict(QWidget):
    """The worst task first; hidden where there is no result."""

    def __init__(self) -> None:
        super().__init__()
        field = FloatSpinBox(value=REVIEW_BELOW, **REVIEW_FIELD)
        self.threshold = field.native
        self.threshold.valueChanged.connect(lambda _value: self._show())
        self._outcome: Outcome | None = None
        self._rows: list[tuple[QLabel, Sentence]] = []
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.addRow(field.label, self.threshold)
        self.hide()

    def show_results(self, outcome: Outcome) -> None:
        """Say what these results say of themselves."""
        self._outcome = outcome
        self._show()

    def clear(self) -> None:
        """Show nothing."""
        self._outcome = None
        self.hide()

    def lines(self) -> list[tuple[Light | None, str]]:
        """Light and sentence of each task, the worst first; no light where the model is not calibrated."""
        results = {} if self._outcome is None else self._outcome.results
        known = [(task, result.quality) for task, result in results.items() if result.quality is not None]
        judged = [(task, replace(quality, threshold=self.threshold.value())) for task, quality in known]
        judged.sort(key=lambda entry: entry[1].dice)
        several = len(results) > 1
        found: list[tuple[Light | None, str]] = [
            (quality.light, f"{results[task].shown_title}: {quality.sentence}" if several else quality.sentence)
            for task, quality in judged
        ]
        unknown = [result for result in results.values() if result.quality is None]
        for why in dict.fromkeys(result.quality_unknown for result in unknown):
            titles = ", ".join(result.shown_title for result in unknown if result.quality_unknown == why)
            found.append((None, f"{titles}: {why}" if several else why))
        return found

    def _show(self) -> None:
        for _ in self._rows:  # the form's first rows
            self._form.removeRow(0)
        self._rows = []
        lines = self.lines()
        for number, (light, text) in enumerate(lines):
            dot, sentence = QLabel(_DOT if light is not None else ""), Sentence(1)
            dot.setStyleSheet("" if light is None else f"color: {readable(LIGHTS[light], self)};")
            sentence.setText(text)
            sentence.setToolTip("A prediction, calibrated on other images: it says where to look first.")
            row = QWidget()
            beside = QHBoxLayout(row)
            beside.setContentsMargins(0, 0, 0, 0)
            beside.addWidget(dot, 0, Qt.AlignmentFlag.AlignTop)
            beside.addWidget(sentence, 1)
            self._form.insertRow(number, row)
            self._rows.append((dot, sentence))
        self._form.setRowVisible(self.threshold, any(light is not None for light, _ in lines))
        self.setVisible(bool(lines))
