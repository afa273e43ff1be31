"""The Edit widget in a real viewer: operations, undo, locks, the ball, relabelling."""

from __future__ import annotations

import sys
import threading
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import qt_waiting
from qtpy.QtWidgets import QApplication

from napari_meduniseg._steps import steps_of

wait_for = partial(qt_waiting.wait_for, seconds=30.0)

SCALE = (3.0, 1.0, 1.0)


@pytest.fixture
def labels(gui: Any) -> Any:
    data = np.zeros((9, 30, 30), np.uint8)
    data[2:7, 8:20, 8:20] = 1
    data[4, 12, 12] = 0
    data[4, 25, 25] = 1
    data[2:7, 20:24, 8:20] = 2
    features = {"index": [0, 1, 2], "name": ["background", "liver", "kidney"]}
    return gui.add_labels(data, scale=SCALE, units="mm", features=features, name="result")


@pytest.fixture
def widget(gui: Any, labels: Any) -> Any:
    _, found = gui.window.add_plugin_dock_widget("napari-meduniseg", "Edit")
    labels.selected_label = 1
    wait_for(lambda: not found.palette_table.busy)
    return found


def press_button(widget: Any, name: str) -> None:
    """Press an operation's button and wait until it has done its work."""
    widget.buttons[name].click()
    wait_for(lambda: not widget.busy)


def press(widget: Any, layer: Any, position: tuple[float, ...], *moves: tuple[float, ...], shift: bool = False) -> None:
    """A press at a place of the world, moves, and the release, as napari tells its layers."""
    event = SimpleNamespace(
        button=1, type="mouse_press", position=position, modifiers=("Shift",) if shift else (), handled=False
    )
    generator = widget.tools.mouse(layer, event)
    next(generator, None)
    for place in moves:
        event.type, event.position = "mouse_move", place
        next(generator, None)
    event.type = "mouse_release"
    next(generator, None)


def test_every_operation_is_one_undo_step(widget: Any, labels: Any) -> None:
    for name in widget.buttons:
        before = labels.data.copy()
        if name == "fill_between":
            labels.data_setitem((np.full(1, 4), np.full(1, 25), np.full(1, 25)), np.zeros(1, np.uint8))
            empty = np.nonzero(labels.data[4] == 1)
            labels.data_setitem((np.full(empty[0].size, 4), *empty), np.zeros(empty[0].size, np.uint8))
            before = labels.data.copy()
        if name == "remove_islands":
            labels.data_setitem((np.full(1, 0), np.full(1, 29), np.full(1, 29)), np.ones(1, np.uint8))  # 3 mm3
            widget.amount.setValue(3.5)
            before = labels.data.copy()
        press_button(widget, name)
        assert "voxels changed" in widget.said.text(), (name, widget.said.text())
        assert (labels.data != before).any(), name
        widget.undo_button.click()
        np.testing.assert_array_equal(labels.data, before, err_msg=name)


def test_what_was_said_of_other_labels_is_not_said_of_these(gui: Any, widget: Any, labels: Any) -> None:
    press_button(widget, "grow")
    assert "changed" in widget.said.text()
    gui.add_labels(np.zeros(labels.data.shape, np.uint8), name="another", scale=labels.scale)
    assert widget.layer_box.layer() is not labels and widget.said.text() == ""


def test_growing_is_in_millimetres_and_stops_at_a_locked_class(widget: Any, labels: Any) -> None:
    widget.palette_table.set_locked(2, True)
    kidney = labels.data == 2
    widget.amount.setValue(2.0)
    press_button(widget, "grow")
    np.testing.assert_array_equal(labels.data == 2, kidney)
    assert labels.data[4, 6, 12] == 1 and labels.data[1, 12, 12] == 0  # 2 mm in plane, not the slice 3 mm away
    labels.selected_label = 2
    press_button(widget, "shrink")
    assert "locked" in widget.said.text()


def test_the_palette_names_shows_and_picks_classes(widget: Any, labels: Any) -> None:
    table = widget.palette_table
    assert [table.item(row, 0).text() for row in range(table.rowCount())] == ["liver", "kidney"]
    table.selectRow(table.row_of(2))
    assert labels.selected_label == 2 and labels.mode == "paint"
    widget.ball.setChecked(True)
    assert labels.mode == "pan_zoom"
    table.selectRow(table.row_of(1))
    assert labels.selected_label == 1 and labels.mode == "pan_zoom"
    table.set_shown(2, False)
    assert labels.get_color(2)[3] == 0 and labels.get_color(1)[3] == 1
    table.set_shown(2, True)
    assert labels.get_color(2)[3] == 1


def test_a_ball_is_painted_in_all_slices_as_one_undo_step_and_shift_erases(widget: Any, labels: Any) -> None:
    widget.ball.setChecked(True)
    widget.radius.setValue(4.0)
    before = labels.data.copy()
    press(widget, labels, (3.0 * 4, 25.0, 10.0), (3.0 * 4, 25.0, 14.0))
    assert labels.data[4, 25, 10] == 1 and labels.data[4, 25, 14] == 1
    assert labels.data[5, 25, 10] == 1 and labels.data[6, 25, 10] == 0  # 3 mm away, 6 mm away
    widget.undo_button.click()
    np.testing.assert_array_equal(labels.data, before)
    press(widget, labels, (3.0 * 4, 10.0, 10.0), shift=True)
    assert labels.data[4, 10, 10] == 0 and labels.selected_label == 1


def test_balls_of_a_fast_mouse_join_to_a_stroke(widget: Any, labels: Any) -> None:
    labels.data[:] = 0
    widget.ball.setChecked(True)
    widget.radius.setValue(2.0)
    press(widget, labels, (3.0 * 4, 3.0, 3.0), (3.0 * 4, 3.0, 26.0))
    assert (labels.data[4, 3, 3:27] == 1).all() and (labels.data[4, 4, 3:27] == 1).all()
    assert steps_of(labels).done[-1] == "Ball: liver"
    widget.undo_button.click()
    assert not labels.data.any()


def test_the_ball_keeps_to_intensities(gui: Any, widget: Any, labels: Any) -> None:
    image = np.zeros(labels.data.shape)
    image[:, :, 10:] = 100
    gui.add_image(image, scale=SCALE, units="mm", name="ct")
    widget.ball.setChecked(True)
    widget.range_on.setChecked(True)
    widget.low.setValue(50)
    widget.high.setValue(150)
    press(widget, labels, (3.0 * 4, 26.0, 10.0))
    assert labels.data[4, 26, 11] == 1 and labels.data[4, 26, 9] == 0


def test_a_click_relabels_the_component_under_it(widget: Any, labels: Any) -> None:
    widget.relabel.setChecked(True)
    labels.selected_label = 2
    press(widget, labels, (3.0 * 4, 25.0, 25.0))
    wait_for(lambda: not widget.busy)
    assert labels.data[4, 25, 25] == 2 and labels.data[4, 10, 10] == 1
    press(widget, labels, (0.0, 0.0, 0.0))
    wait_for(lambda: not widget.busy)
    assert "background" in widget.said.text()


def test_the_next_doubtful_slice_is_shown(gui: Any, widget: Any) -> None:
    widget.go_to_doubtful()
    assert "no uncertainty layer" in widget.said.text()
    uncertainty = np.zeros((9, 30, 30))
    uncertainty[3, :5] = 0.4
    uncertainty[7, :9] = 0.4
    gui.add_image(uncertainty, scale=SCALE, units="mm", name="result: uncertainty")
    gui.dims.point = (0, 0, 0)
    seen = []
    for _ in range(3):
        widget.go_to_doubtful()
        seen.append(round(gui.dims.point[0] / 3))
    assert seen == [3, 7, 3]


def test_without_labels_it_says_so(gui: Any) -> None:
    _, widget = gui.window.add_plugin_dock_widget("napari-meduniseg", "Edit")
    widget.do("grow")
    assert "no labels layer" in widget.said.text()


def test_napari_s_own_tools_know_the_locks(widget: Any, labels: Any) -> None:
    widget.over_box.setCurrentIndex(widget.over_box.findData("everything"))  # else a lock has nothing to keep
    widget.palette_table.set_locked(2, True)
    before = labels.data.copy()
    kidney = before == 2
    labels.selected_label, labels.brush_size = 1, 9
    labels.paint((4, 20, 12), 1)  # napari's brush, over the border of both
    assert (labels.data == 1).sum() > (before == 1).sum()
    np.testing.assert_array_equal(labels.data == 2, kidney)
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    labels.fill((4, 21, 12), 1)
    np.testing.assert_array_equal(labels.data, before)
    labels.selected_label = 2
    labels.paint((0, 2, 2), 2)  # nor does a locked class grow
    labels.paint_polygon([(4, 1, 1), (4, 1, 6), (4, 6, 6)], 2)
    np.testing.assert_array_equal(labels.data, before)
    widget.palette_table.set_locked(2, False)
    labels.paint((4, 20, 12), 1)
    assert (labels.data == 2).sum() < kidney.sum()


def test_an_operation_whose_labels_change_meanwhile_is_not_applied(
    widget: Any, labels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    module = sys.modules[type(widget).__module__]
    real = module.operation

    def slow(*arguments: Any) -> Any:
        find = real(*arguments)
        return lambda: (go_on.wait(20), find())[1]

    monkeypatch.setattr(module, "operation", slow)
    widget.do("grow")
    assert widget.busy and not widget.buttons["grow"].isEnabled()
    labels.paint((0, 2, 2), 1)
    painted = labels.data.copy()
    go_on.set()
    wait_for(lambda: not widget.busy)
    assert "changed meanwhile" in widget.said.text() and widget.buttons["grow"].isEnabled()
    np.testing.assert_array_equal(labels.data, painted)
    press_button(widget, "grow")
    assert "voxels changed" in widget.said.text()
    go_on.clear()
    widget.do("grow")
    labels.data = np.zeros((4, 5, 6), np.uint8)  # other voxels, of another shape
    go_on.set()
    wait_for(lambda: not widget.busy)
    assert "changed meanwhile" in widget.said.text() and not labels.data.any()


def test_keys_do_what_the_buttons_do(widget: Any, labels: Any) -> None:
    before = (labels.data == 1).sum()
    bound = {str(key): action for key, action in labels.keymap.items()}
    bound["Shift+G"](labels)
    wait_for(lambda: not widget.busy)
    assert (labels.data == 1).sum() > before


def test_labels_without_a_name_are_listed_too(gui: Any) -> None:
    layer = gui.add_labels(np.array([[0, 7, 7], [3, 0, 0]], np.int32), name="foreign")
    _, found = gui.window.add_plugin_dock_widget("napari-meduniseg", "Edit")
    wait_for(lambda: not found.palette_table.busy)
    table = found.palette_table
    assert [table.item(row, 0).text() for row in range(table.rowCount())] == ["class 3", "class 7"]
    assert layer.selected_label == 1


def test_the_image_is_no_uncertainty_by_default_and_a_lock_that_stops_the_brush_is_said(gui: Any, labels: Any) -> None:
    from napari_meduniseg._layers import DERIVED, METADATA_KEY

    gui.add_image(np.zeros(labels.data.shape), scale=SCALE, units="mm", name="ct")
    gui.add_image(
        np.zeros(labels.data.shape),
        scale=SCALE,
        units="mm",
        name="result: uncertainty",
        metadata={METADATA_KEY: DERIVED},
    )
    _, found = gui.window.add_plugin_dock_widget("napari-meduniseg", "Edit")
    assert found.image_box.layer().name == "ct"
    found.palette_table.set_locked(2, True)
    labels.selected_label = 1
    labels.paint((4, 22, 12), 1)
    assert "locked class" in found.said.text()
    labels.paint((4, 2, 2), 1)  # a stroke that nothing stops
    assert found.said.text() == ""
    labels.paint((4, 22, 12), 1)
    assert "locked class" in found.said.text()
    found.over_box.setCurrentIndex(found.over_box.findData("everything"))
    assert found.said.text() == ""


def test_all_panels_docked_at_once_leave_the_window_on_a_screen_of_800_pixels(gui: Any, labels: Any) -> None:
    gui.window.resize(1280, 800)
    for name in ("Segment", "Edit", "Review"):
        gui.window.add_plugin_dock_widget("napari-meduniseg", name)
    QApplication.processEvents()
    assert gui.window.geometry()[3] <= 800
