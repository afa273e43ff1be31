"""The Review and Models widgets in a real viewer."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from small_inputs import save_tiny_model

from meduniseg_core.evaluation import dice


def test_two_layers_are_compared_shown_and_exported(gui: Any, qtbot: Any, tmp_path: Path) -> None:
    _, widget = gui.window.add_plugin_dock_widget("napari-meduniseg", "Review")
    widget.compare()
    assert "two different" in widget.said.text()
    one = np.zeros((6, 20, 20), np.uint8)
    one[1:5, 5:15, 5:15] = 1
    two = np.roll(one, 2, axis=2)
    two[0, 0, 0] = 2
    features = {"index": [0, 1, 2], "name": ["background", "liver", "kidney"]}
    first = gui.add_labels(one, scale=(3, 1, 1), units="mm", name="first", features=features)
    second = gui.add_labels(two, scale=(3, 1, 1), units="mm", name="second")
    widget.first.set_layer(first)
    widget.second.set_layer(second)
    widget.compare_button.click()
    qtbot.waitUntil(lambda: not widget.busy, timeout=20_000)
    liver, kidney = widget.rows
    assert (liver.name, kidney.name) == ("liver", "kidney")
    assert liver.dice == dice(one, two, 1) == 0.8 and liver.hd95 == 2.0 and kidney.dice == 0
    assert liver.first_size == liver.second_size == 4 * 10 * 10 * 3 / 1000
    assert widget.table.rowCount() == 2 and widget.table.item(0, 1).text() == "0.800"
    assert widget.table.horizontalHeaderItem(2).text() == "HD95 mm" and widget.tolerance.suffix() == " mm"
    layer = widget.show_difference()
    assert int((layer.data == 1).sum()) == 80 and int((layer.data == 2).sum()) == 81
    np.testing.assert_allclose(layer.scale, (3, 1, 1))
    widget.export(tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text("utf-8").splitlines()))
    assert [row["class"] for row in rows] == ["liver", "kidney"] and float(rows[0]["dice"]) == 0.8


def test_photographs_are_measured_in_pixels_and_names_come_from_either_layer(gui: Any, qtbot: Any) -> None:
    _, widget = gui.window.add_plugin_dock_widget("napari-meduniseg", "Review")
    data = np.ones((6, 7), np.uint8)
    bare = gui.add_labels(data, name="bare")
    named = gui.add_labels(data, name="named", features={"index": [1], "name": ["cup"]})
    for first, second in ((bare, named), (named, bare)):
        widget.first.set_layer(first)
        widget.second.set_layer(second)
        widget.compare()
        qtbot.waitUntil(lambda: not widget.busy, timeout=20_000)
        assert [row.name for row in widget.rows] == ["cup"]
        assert widget.table.horizontalHeaderItem(2).text() == "HD95 px"
        assert widget.table.horizontalHeaderItem(4).text() == "first px" and widget.rows[0].first_size == 42
        assert widget.table.item(0, 4).text() == "42" and widget.tolerance.suffix() == " px"


def test_labels_of_another_grid_are_refused(gui: Any) -> None:
    _, widget = gui.window.add_plugin_dock_widget("napari-meduniseg", "Review")
    first, second = gui.add_labels(np.zeros((4, 5, 6), int)), gui.add_labels(np.zeros((4, 5, 7), int))
    widget.first.set_layer(first)
    widget.second.set_layer(second)
    widget.compare()
    assert "different grids" in widget.said.text()
    assert widget.show_difference() is None


def test_models_are_listed_installed_verified_and_removed(gui: Any, qtbot: Any, tmp_path: Path) -> None:
    _, widget = gui.window.add_plugin_dock_widget("napari-meduniseg", "Models")
    names = [widget.list.item(row).text() for row in range(widget.list.count())]
    assert "starter" in names and "tiny" in names
    widget.install(save_tiny_model(tmp_path / "other.safetensors", "other"))
    qtbot.waitUntil(lambda: not widget.busy, timeout=20_000)
    assert widget.chosen() == "other" and "artery, vein" in widget.details.toPlainText()
    widget.verify_button.click()
    qtbot.waitUntil(lambda: not widget.busy, timeout=20_000)
    assert "whole" in widget.said.text()
    widget.remove()
    assert "Removed other" in widget.said.text() and widget.chosen() != "other"


def test_a_shipped_model_stays_and_a_broken_file_is_named(gui: Any, qtbot: Any, tmp_path: Path) -> None:
    _, widget = gui.window.add_plugin_dock_widget("napari-meduniseg", "Models")
    widget.refresh("starter")
    assert not widget.remove_button.isEnabled()
    widget.remove()
    assert "part of the program" in widget.said.text()
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    widget.install(broken)
    qtbot.waitUntil(lambda: not widget.busy, timeout=20_000)
    assert "broken.safetensors" in widget.said.text()


def test_the_two_boxes_never_start_on_one_layer(gui: Any) -> None:
    first = gui.add_labels(np.zeros((4, 5), np.uint8), name="first")
    _, review = gui.window.add_plugin_dock_widget("napari-meduniseg", "Review")
    assert review.table.horizontalHeaderItem(0).text() == "class"
    second = gui.add_labels(np.zeros((4, 5), np.uint8), name="second")
    assert {review.first.layer(), review.second.layer()} == {first, second}
