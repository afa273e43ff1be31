"""The Teach widget in a real viewer: strokes, labels that follow, undo, quick tasks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qt_waiting
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

wait_for = partial(qt_waiting.wait_for, seconds=300.0)


@pytest.fixture
def widget(gui: Any) -> Any:
    mask = np.zeros((6, 40, 40), bool)
    mask[1:5, 12:28, 12:28] = True
    image = np.random.default_rng(0).normal(0, 0.3, mask.shape) + 2 * mask
    layer = gui.add_image(image.astype(np.float32), name="scan", scale=(3, 1, 1), units="mm")
    layer.metadata["mask"] = mask
    _, found = gui.window.add_plugin_dock_widget("napari-meduniseg", "Teach")
    found.network.setChecked(False)
    return found


def paint(widget: Any, value: int, row: int, first: int, last: int, depth: int = 3) -> None:
    widget.class_box.setCurrentIndex(widget.class_box.findData(value))
    assert widget.strokes.selected_label == value
    where = np.full(last - first, depth), np.full(last - first, row), np.arange(first, last)
    widget.strokes.data_setitem(where, value)
    wait_for(lambda: not widget.learning)


def start(widget: Any) -> None:
    widget.start_button.click()
    wait_for(lambda: not widget.starting)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_two_strokes_label_the_volume_undo_takes_one_back_and_a_quick_task_goes_on(
    gui: Any, widget: Any, tmp_path: Path
) -> None:
    mask = gui.layers["scan"].metadata["mask"]
    start(widget)
    assert "Paint a stroke" in widget.said.text()
    paint(widget, 2, 20, 16, 24)
    assert "not target" in widget.said.text()
    paint(widget, 1, 4, 4, 36)
    assert dice(np.asarray(widget.taught.data) == 1, mask) > 0.85
    widget.save(tmp_path / "square.json", "square")
    assert "Saved" in widget.said.text()
    widget.undo_button.click()
    wait_for(lambda: not widget.learning)
    assert not np.asarray(widget.taught.data).any()
    assert widget.undo_button.isEnabled() and widget.class_box.isEnabled()
    following = gui.add_image(gui.layers["scan"].data[:, ::-1] * 5, name="next", scale=(3, 1, 1), units="mm")
    gui.layers.selection.active = following
    assert not widget.undo_button.isEnabled() and not widget.class_box.isEnabled()  # the strokes are another image's
    widget.apply_quick_task(tmp_path / "square.json")
    wait_for(lambda: not widget.learning)
    assert dice(np.asarray(gui.layers["next: taught"].data) == 1, mask[:, ::-1]) > 0.8


def test_strokes_correct_a_copy_of_the_labels_and_the_labels_stay(gui: Any, widget: Any) -> None:
    mask = gui.layers["scan"].metadata["mask"]
    partly = mask.astype(np.uint8)
    partly[:, :, 20:] = 0
    features = {"index": [0, 1], "name": ["background", "organ"]}
    labels = gui.add_labels(partly.copy(), name="result", scale=(3, 1, 1), units="mm", features=features)
    widget.correct.setChecked(True)
    start(widget)
    assert widget.class_box.itemText(0) == "organ"
    assert not labels.visible and widget.taught.visible
    np.testing.assert_allclose(widget.taught.get_color(1), labels.get_color(1), atol=0.01)
    np.testing.assert_allclose(widget.strokes.get_color(2), labels.get_color(1), atol=0.01)  # its strokes
    widget.add_class("vessel")
    np.testing.assert_allclose(widget.strokes.get_color(3), widget.taught.get_color(2), atol=0.01)
    paint(widget, 2, 20, 22, 26)
    assert np.array_equal(labels.data, partly)
    assert dice(np.asarray(widget.taught.data) == 1, mask) > dice(partly == 1, mask)


def test_removing_the_strokes_ends_the_lesson_and_without_an_image_it_says_so(gui: Any, widget: Any) -> None:
    start(widget)
    gui.layers.remove(widget.strokes)
    assert widget.strokes is None and not widget.undo_button.isEnabled()
    start(widget)
    gui.layers.clear()
    widget.start_button.click()
    assert "There is no image" in widget.said.text()


def test_a_network_s_features_are_computed_at_the_start_and_the_panel_says_whose_they_are(
    gui: Any, widget: Any
) -> None:
    mask = np.zeros((96, 96), bool)
    mask[30:60, 30:60] = True
    picture = (80 * mask + np.random.default_rng(0).integers(60, 110, mask.shape)).astype(np.uint8)
    layer = gui.add_image(picture, name="picture")
    gui.layers.selection.active = layer
    widget.network.setChecked(True)
    start(widget)
    assert widget.does("features")
    wait_for(lambda: not widget.busy)
    for value, row, first, last in ((2, 45, 34, 56), (1, 80, 10, 90)):
        widget.class_box.setCurrentIndex(widget.class_box.findData(value))
        widget.strokes.data_setitem((np.full(last - first, row), np.arange(first, last)), value)
        wait_for(lambda: not widget.learning)
    assert "Features of starter: " in widget.said.text()
    assert dice(np.asarray(widget.taught.data) == 1, mask) > 0.8
    before = np.array(widget.taught.data)
    widget.taught.undo()
    assert not np.asarray(widget.taught.data).any(), "what one stroke taught is one step"
    widget.taught.redo()
    np.testing.assert_array_equal(widget.taught.data, before)


def test_a_large_change_is_made_in_steps_as_one_undo_step(
    gui: Any, widget: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_meduniseg._teaching.AT_ONCE", 1600)  # a slice
    mask = gui.layers["scan"].metadata["mask"]
    start(widget)
    paint(widget, 2, 20, 16, 24)
    widget.class_box.setCurrentIndex(widget.class_box.findData(1))
    widget.strokes.data_setitem((np.full(32, 3), np.full(32, 4), np.arange(4, 36)), 1)
    turns = 0
    wait_for(lambda: widget._putting.running)
    while widget._putting.running:
        QApplication.processEvents()
        turns += 1
    assert turns >= 6 and dice(np.asarray(widget.taught.data) == 1, mask) > 0.8


def test_the_window_works_between_the_layers_of_a_lesson_and_an_image_may_go_meanwhile(gui: Any, widget: Any) -> None:
    before, seen = len(gui.layers), set()
    other = QTimer()
    other.timeout.connect(lambda: seen.add(len(gui.layers) - before))
    widget.start_button.click()
    assert not widget.start_button.isEnabled()
    other.start(0)
    wait_for(lambda: not widget.starting)
    assert {0, 1} <= seen and widget.start_button.isEnabled() and len(gui.layers) == before + 2
    gui.layers.remove(widget.strokes)
    widget.start_button.click()
    gui.layers.clear()
    wait_for(lambda: not widget.starting)
    assert "was removed meanwhile" in widget.said.text() and widget.strokes is None
    assert len(gui.layers) == 0 and widget.start_button.isEnabled()
