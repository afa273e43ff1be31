"""From an image on disk to a saved, corrected label, by nothing but clicks: at most ten of them besides painting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QWidget
from small_inputs import write_volume

from meduniseg_core.images import read_image, read_labels


class Clicks:
    """A mouse that counts."""

    def __init__(self, qtbot: Any) -> None:
        self._qtbot = qtbot
        self.count = 0

    def on(self, widget: QWidget, position: Any = None) -> None:
        """One left click."""
        self.count += 1
        self._qtbot.mouseClick(widget, Qt.MouseButton.LeftButton, pos=position) if position is not None else (
            self._qtbot.mouseClick(widget, Qt.MouseButton.LeftButton)
        )

    def choose(self, box: Any, text: str) -> None:
        """Two: open the combo box, pick an entry."""
        self.count += 2
        box.setCurrentIndex(box.findText(text))


def test_ten_clicks_from_the_image_to_the_saved_correction(
    gui: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_volume(tmp_path / "mr.nii.gz")
    gui.open(str(source), plugin="napari-meduniseg")  # what `meduniseg napari mr.nii.gz` does
    _, panel = gui.window.add_plugin_dock_widget("napari-meduniseg", "Segment")
    panel.form.choose(model="tiny")
    clicks = Clicks(qtbot)

    clicks.choose(panel.form.modality_box, "MRI")
    item = panel.form.tasks.item(0)
    clicks.count += 1
    item.setCheckState(Qt.CheckState.Checked)
    clicks.on(panel.run_button)
    qtbot.waitUntil(lambda: not panel.busy, timeout=60_000)
    clicks.on(panel.result_actions.correct_button)
    edit = next(
        widget for widget in gui.window._qt_window.findChildren(QWidget) if type(widget).__name__ == "EditWidget"
    )
    labels = gui.layers[-1]
    assert edit.layer_box.layer() is labels
    table = edit.palette_table
    clicks.on(table.viewport(), table.visualItemRect(table.item(0, 0)).center())
    assert labels.mode == "paint" and labels.selected_label == 1 and gui.layers.selection.active is labels

    before = labels.data.copy()
    labels.brush_size = 3
    labels.paint((10, 5, 5), labels.selected_label)  # the painting itself does not count
    assert (labels.data != before).any()

    proposed: list[str] = []

    def dialog(_parent: Any, _title: str, path: str, _kinds: str) -> tuple[str, str]:
        proposed.append(path)
        clicks.count += 1  # "Save"
        return path, ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", dialog)
    clicks.on(edit.save_button)
    qtbot.waitUntil(lambda: not edit.save_button.busy, timeout=30_000)
    assert clicks.count <= 9, clicks.count
    assert proposed == [str(tmp_path / "mr_organ.nii.gz")] and "Saved" in edit.said.text()
    saved = read_labels(Path(proposed[0]))
    assert saved.geometry.is_close(read_image(source).geometry)
    assert json.loads((tmp_path / "mr_organ.json").read_text())["edited"] is True
    assert int((saved.array > 0).sum()) == int((np.asarray(labels.data) > 0).sum())


def test_what_cannot_be_saved_is_said(gui: Any, qtbot: Any, tmp_path: Path) -> None:
    _, panel = gui.window.add_plugin_dock_widget("napari-meduniseg", "Segment")
    layer = gui.add_labels(np.ones((4, 5), np.uint8), name="mine")
    (tmp_path / "file").write_text("")
    panel.result_actions.save_button.save(tmp_path / "file" / "labels.png")
    qtbot.waitUntil(lambda: not panel.result_actions.save_button.busy, timeout=30_000)
    assert "choose another place" in panel.said.text() and str(tmp_path) in panel.said.text()
    panel._look_ahead()  # as its timer does, late, for the layer that was new before: that is not said over it
    assert "choose another place" in panel.said.text()
    gui.layers.remove(layer)
    panel.result_actions.correct()
    assert "removed" in panel.said.text()
