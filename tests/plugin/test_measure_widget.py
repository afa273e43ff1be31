"""The Measure panel: distances and areas of what is drawn, by hand and from code."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_meduniseg._current import current_of
from napari_meduniseg._measuring import add_measurements, measure_shapes, measurements_of
from napari_meduniseg._napari_versions import camera_of
from napari_meduniseg.widgets.canvas_overlay import _canvas_in
from napari_meduniseg.widgets.opening import open_panel

SCALE = (5.0, 0.5, 2.0)


@pytest.fixture
def viewer() -> ViewerModel:
    found = ViewerModel()
    found.add_image(np.zeros((6, 40, 30), np.float32), name="scan", scale=SCALE, units="mm")
    return found


def test_shapes_of_all_kinds_are_measured_in_mm(viewer: ViewerModel) -> None:
    layer = add_measurements(viewer.layers[0], viewer)
    layer.add_lines(np.array([(2, 0, 0), (2, 6, 2)], float))
    layer.add_paths(np.array([(0, 0, 0), (1, 0, 0), (1, 8, 3)], float))
    layer.add_rectangles(np.array([(3, 0, 0), (3, 4, 0), (3, 4, 5), (3, 0, 5)], float))
    layer.add_ellipses(np.array([(3, 0, 0), (3, 8, 0), (3, 8, 2), (3, 0, 2)], float))
    layer.add_polygons(np.array([(3, 0, 0), (3, 4, 4), (3, 4, 0), (3, 0, 4)], float))
    line, path, box, ellipse, crossed = measure_shapes(layer)
    assert (line.text, line.where, path.text, path.where) == ("5.0 mm", "axial 2", "12.2 mm", "several slices")
    assert (box.text, ellipse.text) == ("20.0 mm²", "12.6 mm²")
    assert crossed.text == "?" and "crosses itself" in crossed.fault


def test_photographs_are_measured_in_pixels() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((40, 30, 3), np.uint8), rgb=True)
    layer = add_measurements(image, viewer)
    layer.add_lines(np.array([(0, 0), (3, 4)], float))
    (row,) = measure_shapes(layer)
    assert (row.text, row.where) == ("5.0 px", "")


def test_measurements_go_with_their_image(viewer: ViewerModel) -> None:
    viewer.add_image(np.zeros((6, 40, 30), np.float32), name="other", scale=SCALE, units="mm")
    viewer.add_shapes(ndim=2, name="the user's own")
    one, other = viewer.layers["scan"], viewer.layers["other"]
    layer = add_measurements(one, viewer)
    current = current_of(viewer)
    assert measurements_of(one, viewer) is layer and measurements_of(other, viewer) is None
    current.choose_image(other)
    assert not layer.visible and viewer.layers["the user's own"].visible
    current.choose_image(one)
    assert layer.visible


def test_drawn_by_hand_listed_copied_and_saved(gui: Any, qtbot: Any, tmp_path: Path) -> None:
    gui.window.resize(1280, 800)
    gui.add_image(np.zeros((6, 40, 30), np.float32), name="scan.nii.gz", scale=SCALE, units="mm")
    panel: Any = open_panel(gui, "Measure")
    canvas: Any = _canvas_in(gui.window._qt_window.centralWidget())
    middle = canvas.width() // 2, canvas.height() // 2
    zoom = camera_of(gui).zoom

    def at(x: float, y: float) -> QPoint:
        return QPoint(round(middle[0] + x * zoom), round(middle[1] + y * zoom))

    panel.measure_distance()
    assert panel.distance_button.isChecked() and "Drag a line" in panel.said.text()
    QTest.mousePress(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, at(-5, 0))
    for x in (-3, 0, 4, 5, 5):  # napari leaves out moves that follow each other too fast
        QTest.mouseMove(canvas, at(x, 0))
        qtbot.wait(60)
    QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, at(5, 0))
    qtbot.waitUntil(lambda: panel.table.rowCount() == 1, timeout=10_000)
    length = panel._rows[0].found.length
    assert length == pytest.approx(10, abs=0.7) and panel.table.item(0, 1).text() == f"{length:.1f} mm"
    layer = measurements_of(gui.layers[0], panel._current.viewer)
    assert layer is not None and list(layer.text.values) == [f"{length:.1f} mm"]
    panel.measure_area()
    assert panel.area_button.isChecked() and not panel.distance_button.isChecked() and layer.mode == "add_polygon"
    layer.add_polygons(np.array([(1, 0, 0), (1, 4, 0), (1, 4, 5), (1, 0, 5)], float))
    assert panel.table.item(1, 2).text() == "20.0 mm²" and panel.table.item(1, 3).text() == "axial 1"
    panel.table.itemDoubleClicked.emit(panel.table.item(1, 0))
    assert gui.dims.point[0] == 5.0
    panel.measure_area()  # the same key ends it
    assert not panel.area_button.isChecked() and layer.mode == "pan_zoom"
    panel.copy()
    assert QApplication.clipboard().text().splitlines()[2].split("\t") == ["2", "24.0 mm", "20.0 mm²", "axial 1"]
    panel.export(tmp_path / "measured.csv")
    lines = list(csv.DictReader((tmp_path / "measured.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(line["length"]) for line in lines] == pytest.approx([length, 24], rel=1e-4)
    panel.table.selectRow(0)
    panel.remove()
    assert panel.table.rowCount() == 1 and list(layer.text.values) == ["20.0 mm²"]
    panel.clear()
    assert panel.table.rowCount() == 0 and not panel.copy_button.isEnabled()


def test_without_an_image_and_in_3d_it_says_what_to_do(gui: Any) -> None:
    panel: Any = open_panel(gui, "Measure")
    panel.measure_area()
    assert "no image" in panel.said.text() and not panel.area_button.isChecked()
    gui.add_image(np.zeros((6, 40, 30), np.float32))
    gui.dims.ndisplay = 3
    panel.measure_area()
    assert "on slices" in panel.said.text() and len(gui.layers) == 1
