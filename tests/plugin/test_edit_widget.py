"""The Edit widget in a real viewer: operations, undo, locks, the ball, relabelling."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

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
    return found


def press(widget: Any, layer: Any, position: tuple[float, ...], *moves: tuple[float, ...], shift: bool = False) -> None:
    """A press at a place of the world, moves, and the release, as napari tells its layers."""
    event = SimpleNamespace(
        button=1, type="mouse_press", position=position, modifiers=("Shift",) if shift else (), handled=False
    )
    generator = widget._mouse(layer, event)
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
        widget.buttons[name].click()
        assert "voxels changed" in widget.said.text(), (name, widget.said.text())
        assert (labels.data != before).any(), name
        widget.undo_button.click()
        np.testing.assert_array_equal(labels.data, before, err_msg=name)


def test_growing_is_in_millimetres_and_stops_at_a_locked_class(widget: Any, labels: Any) -> None:
    widget.palette_table.set_locked(2, True)
    kidney = labels.data == 2
    widget.amount.setValue(2.0)
    widget.buttons["grow"].click()
    np.testing.assert_array_equal(labels.data == 2, kidney)
    assert labels.data[4, 6, 12] == 1 and labels.data[1, 12, 12] == 0  # 2 mm in plane, not the slice 3 mm away
    labels.selected_label = 2
    widget.buttons["shrink"].click()
    assert "locked" in widget.said.text()


def test_the_palette_names_shows_and_picks_classes(widget: Any, labels: Any) -> None:
    table = widget.palette_table
    assert [table.item(row, 0).text() for row in range(table.rowCount())] == ["liver", "kidney"]
    table.selectRow(table.row_of(2))
    assert labels.selected_label == 2
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
    assert labels.data[4, 25, 25] == 2 and labels.data[4, 10, 10] == 1
    press(widget, labels, (0.0, 0.0, 0.0))
    assert "background" in widget.said.text()


def test_the_next_doubtful_slice_is_shown(gui: Any, widget: Any) -> None:
    widget.go_to_doubtful()
    assert "uncertainty" in widget.said.text()
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
