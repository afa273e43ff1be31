"""The Planes panel: the planes that the viewer does not show, through a crosshair."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from meduniseg_core.images import Geometry, Image
from napari_meduniseg._layers import image_layers
from napari_meduniseg._planes import draw_plane, index_of
from napari_meduniseg._views import PatientSides, set_view
from napari_meduniseg.widgets.canvas_overlay import overlay_of
from napari_meduniseg.widgets.opening import open_panel

SHAPE, SPACING = (6, 40, 30), (5.0, 0.5, 2.0)


def add_scan(viewer: Any) -> Any:
    array = np.arange(6 * 40 * 30, dtype=np.float32).reshape(SHAPE)
    geometry = Geometry(SHAPE, SPACING, (10.0, -20.0, 30.0))
    ((data, options, _),) = image_layers(Image(array[None], geometry, True))
    return viewer.add_image(data, **options)


def test_a_plane_is_drawn_in_the_viewer_s_colours_with_its_labels() -> None:
    viewer = ViewerModel()
    image = add_scan(viewer)
    image.contrast_limits = (0, 6 * 40 * 30 - 1)
    drawn = draw_plane(image, [], 1, 7)
    assert (drawn.name, drawn.axes, drawn.upwards, drawn.spacing) == ("coronal", (0, 2), True, (5.0, 2.0))
    assert drawn.sides == PatientSides("R", "L", "S", "I")
    expected = np.rint(255 * image.data[:, 7] / (6 * 40 * 30 - 1))
    assert np.abs(drawn.picture[..., 1].astype(float) - expected).max() <= 1
    labels = viewer.add_labels(np.ones(SHAPE, np.uint8), scale=image.scale, translate=image.translate, units="mm")
    labels.opacity = 1.0
    colour = np.rint(255 * labels.get_color(1)[:3])
    assert np.abs(draw_plane(image, [labels], 2, 3).picture - colour).max() <= 1
    labels.visible = False
    assert np.array_equal(draw_plane(image, [labels], 1, 7).picture, drawn.picture)


def test_the_voxel_at_a_place_is_the_nearest_one() -> None:
    viewer = ViewerModel()
    image = add_scan(viewer)
    assert index_of(image, image.data_to_world((2.3, 5.6, 7.0))) == (2, 6, 7)
    assert index_of(image, (-999.0, 999.0, 0.0)) == (0, 39, 0)


@pytest.fixture
def panel(gui: Any, qtbot: Any) -> Any:
    gui.window.resize(1280, 800)
    gui.window.show()
    add_scan(gui)
    found: Any = open_panel(gui, "Planes")
    qtbot.waitUntil(lambda: found.views[0].plane is not None, timeout=10_000)
    return found


def indices(panel: Any) -> list[tuple[str, int]]:
    return [(view.plane.name, view.plane.index) for view in panel.views]


def test_the_crosshair_follows_the_mouse(gui: Any, panel: Any, qtbot: Any) -> None:
    image = gui.layers[0]
    gui.cursor.position = tuple(image.data_to_world((3, 11, 22)))
    qtbot.waitUntil(lambda: indices(panel) == [("coronal", 11), ("sagittal", 22)], timeout=10_000)
    overlay = overlay_of(panel, gui)
    assert overlay is not None and overlay.cross_pixels() is not None
    panel.toggle_follow()
    gui.cursor.position = tuple(image.data_to_world((3, 1, 2)))
    qtbot.wait(100)
    assert indices(panel) == [("coronal", 11), ("sagittal", 22)]
    set_view(panel._current.viewer, "coronal", image)
    qtbot.waitUntil(lambda: [name for name, _ in indices(panel)] == ["axial", "sagittal"], timeout=10_000)
    panel.toggle_cross()
    qtbot.waitUntil(lambda: overlay.cross_pixels() is None and panel.views[0].cross_at() is None, timeout=10_000)


def test_a_press_in_a_plane_moves_the_viewer_there(gui: Any, panel: Any, qtbot: Any) -> None:
    coronal, sagittal = panel.views
    box = coronal.box()
    assert box.width() / box.height() == pytest.approx(30 * 2.0 / (6 * 5.0))
    at = QPoint(round(box.left() + 20.5 / 30 * box.width()), round(box.bottom() - 1.5 / 6 * box.height()))
    QTest.mouseClick(coronal, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, at)
    image = gui.layers[0]
    qtbot.waitUntil(lambda: sagittal.plane.index == 20, timeout=10_000)
    assert index_of(image, gui.dims.point)[0] == 1 and index_of(image, panel.place)[2] == 20  # rows run upwards
    x, y = coronal.cross_at()
    assert abs(x - at.x()) < box.width() / 30 and abs(y - at.y()) < box.height() / 6
    sagittal.stepped.emit(-3)
    qtbot.waitUntil(lambda: sagittal.plane.index == 17, timeout=10_000)
    gui.dims.set_point(0, image.data_to_world((4, 0, 0))[0])
    assert index_of(image, panel.place)[0] == 4


def test_behind_another_panel_there_is_no_crosshair(gui: Any, panel: Any, qtbot: Any) -> None:
    overlay = overlay_of(panel, gui)
    assert overlay is not None
    qtbot.waitUntil(lambda: overlay.cross_pixels() is not None, timeout=10_000)
    open_panel(gui, "Measure")
    qtbot.waitUntil(lambda: overlay.cross_pixels() is None, timeout=10_000)
    gui.cursor.position = tuple(gui.layers[0].data_to_world((3, 11, 22)))
    qtbot.wait(100)
    assert overlay.cross_pixels() is None
    open_panel(gui, "Planes")
    qtbot.waitUntil(lambda: overlay.cross_pixels() is not None, timeout=10_000)


def test_a_picture_has_no_other_planes(gui: Any, qtbot: Any) -> None:
    gui.window.show()
    gui.add_image(np.zeros((40, 30, 3), np.uint8), rgb=True)
    panel: Any = open_panel(gui, "Planes")
    qtbot.waitUntil(lambda: "single plane" in panel.said.text(), timeout=10_000)
    assert not panel.views[0].isVisible()
