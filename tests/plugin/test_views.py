"""An image that is chosen comes into view; slice and zoom stay where they fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from meduniseg_core.images import Finding, Geometry, Image
from napari_meduniseg._current import Current, current_of
from napari_meduniseg._layers import image_layers
from napari_meduniseg._napari_versions import camera_of, canvas_size
from napari_meduniseg._views import PatientSides, active_view, is_out_of_sight, set_view, show_whole_again, shown_sides


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


def add_scan(viewer: ViewerModel, name: str, place: tuple[float, float, float] = (0, 0, 0), side: int = 40) -> None:
    array = np.zeros((side, side, side), np.int16)
    viewer.add_image(array, name=name, translate=place, units="mm", contrast_limits=(0, 1))


def camera(viewer: ViewerModel) -> tuple[float, ...]:
    return (*np.round(camera_of(viewer).center[-2:], 6), round(camera_of(viewer).zoom, 6))


def test_a_scan_that_lies_elsewhere_is_shown_slice_and_camera(viewer: ViewerModel) -> None:
    add_scan(viewer, "here")
    add_scan(viewer, "far", (-500, 700, 300))
    current = current_of(viewer)
    for name, centre in (("here", (20, 20, 20)), ("far", (-480, 720, 320)), ("here", (20, 20, 20))):
        current.choose_image(viewer.layers[name])
        assert not is_out_of_sight(viewer, viewer.layers[name])
        assert abs(viewer.dims.point[0] - centre[0]) <= 1
        assert np.allclose(camera_of(viewer).center[-2:], centre[1:], atol=1)
        assert 10 < camera_of(viewer).zoom < 20  # 40 mm fill most of 600 pixels


def test_scans_of_one_patient_keep_slice_and_zoom(viewer: ViewerModel) -> None:
    add_scan(viewer, "t1")
    add_scan(viewer, "t2", (-3, 4, 2))
    current = current_of(viewer)
    current.choose_image(viewer.layers["t1"])
    viewer.dims.set_point(0, 11)
    camera_of(viewer).zoom *= 2
    before = camera(viewer)
    current.choose_image(viewer.layers["t2"])
    assert camera(viewer) == before and viewer.dims.point[0] == 11


def test_a_scan_of_which_a_corner_reaches_into_the_view_is_fitted(viewer: ViewerModel) -> None:
    add_scan(viewer, "one")
    add_scan(viewer, "another patient", (-300, 16, 18))
    current = current_of(viewer)
    current.choose_image(viewer.layers["one"])
    camera_of(viewer).center = (0, 14, 16)
    current.choose_image(viewer.layers["another patient"])
    assert np.allclose(camera_of(viewer).center[-2:], (36, 38), atol=1)


def test_photographs_of_one_size_keep_the_zoom_and_others_are_fitted(viewer: ViewerModel) -> None:
    for name, shape in (("a", (300, 400)), ("b", (300, 400)), ("large", (3000, 4000))):
        viewer.add_image(np.zeros(shape, np.uint8), name=name)
    current = current_of(viewer)
    current.choose_image(viewer.layers["a"])
    camera_of(viewer).zoom *= 2
    before = camera(viewer)
    current.choose_image(viewer.layers["b"])
    assert camera(viewer) == before
    current.choose_image(viewer.layers["large"])
    assert camera_of(viewer).zoom < 0.3 and np.allclose(camera_of(viewer).center[-2:], (1500, 2000), atol=2)
    current.choose_image(viewer.layers["a"])
    assert camera_of(viewer).zoom > 1
    camera_of(viewer).center = (0, 5000, 5000)  # panned away
    current.choose_image(viewer.layers["b"])
    assert not is_out_of_sight(viewer, viewer.layers["b"])


def test_a_photograph_after_a_coronal_view_is_seen_from_its_front(viewer: ViewerModel) -> None:
    add_scan(viewer, "scan")
    viewer.add_image(np.zeros((300, 400), np.uint8), name="photo")
    current = current_of(viewer)
    current.choose_image(viewer.layers["scan"])
    set_view(viewer, "coronal")
    current.choose_image(viewer.layers["photo"])
    assert viewer.dims.order == (0, 1, 2) and not is_out_of_sight(viewer, viewer.layers["photo"])
    assert tuple(str(way) for way in camera_of(viewer).orientation2d) == ("down", "right")


def test_standard_views_fit_what_is_seen_and_not_what_is_hidden_far_away(viewer: ViewerModel) -> None:
    add_scan(viewer, "here")
    add_scan(viewer, "far", (-5000, 7000, 3000))
    current_of(viewer).choose_image(viewer.layers["here"])
    set_view(viewer, "sagittal")
    assert camera_of(viewer).zoom > 10


def test_an_image_that_is_selected_out_of_sight_is_brought(viewer: ViewerModel) -> None:
    add_scan(viewer, "far", (-500, 700, 300))
    current = current_of(viewer)  # kept: it lives as long as a panel has it
    add_scan(viewer, "here")  # napari leaves the camera where it is
    assert isinstance(current, Current) and not is_out_of_sight(viewer, viewer.layers["here"])


def test_units_are_counted(viewer: ViewerModel) -> None:
    add_scan(viewer, "mm")
    array = np.zeros((40, 40, 40), np.int16)
    viewer.add_image(array, name="um", scale=(10, 10, 10), translate=(9000,) * 3, units="um", contrast_limits=(0, 1))
    current = current_of(viewer)
    for name in ("um", "mm", "um"):
        current.choose_image(viewer.layers[name])
        assert not is_out_of_sight(viewer, viewer.layers[name])


def test_an_image_that_is_opened_comes_into_view_and_one_of_the_same_patient_leaves_it(viewer: ViewerModel) -> None:
    current = current_of(viewer)
    viewer.add_image(np.zeros((3000, 4000), np.uint8), name="slide")
    add_scan(viewer, "scan")  # a spot in the slide's corner, were the camera not moved
    assert current.image is viewer.layers["scan"] and camera_of(viewer).zoom > 10
    camera_of(viewer).zoom *= 2
    before = camera(viewer)
    add_scan(viewer, "t2", (1, 1, 1))
    assert camera(viewer) == before
    viewer.layers.selection.active = viewer.layers["scan"]  # choosing is not opening
    assert camera(viewer) == before


def add_read(viewer: ViewerModel, findings: tuple[Finding, ...] = ()) -> Any:
    volume = Image(np.zeros((1, 20, 30, 40), np.int16), Geometry((20, 30, 40), (3.0, 1.0, 1.0)), findings=findings)
    data, options, _ = image_layers(volume)[0]
    return viewer.add_image(data, **options)


@pytest.mark.parametrize(
    ("view", "sides"),
    [
        ("axial", PatientSides("R", "L", "A", "P")),
        ("coronal", PatientSides("R", "L", "S", "I")),
        ("sagittal", PatientSides("A", "P", "S", "I")),
    ],
)
def test_the_sides_of_the_patient_follow_the_view(viewer: ViewerModel, view: Any, sides: PatientSides) -> None:
    image = add_read(viewer)
    set_view(viewer, view)
    assert active_view(viewer) == view and shown_sides(viewer, image) == sides


def test_no_side_is_named_where_the_orientation_is_not_known(viewer: ViewerModel) -> None:
    assert shown_sides(viewer, add_read(viewer, (Finding("orientation_unknown", "It is not known."),))) is None
    assert shown_sides(viewer, viewer.add_image(np.zeros((4, 4, 4)))) is None  # another reader's
    known = add_read(viewer)
    assert shown_sides(viewer, known) is not None
    viewer.dims.ndisplay = 3
    assert shown_sides(viewer, known) is None and active_view(viewer) is None


def test_a_scan_after_a_photograph_is_opened_whole_at_its_middle(viewer: ViewerModel) -> None:
    viewer.add_image(np.zeros((500, 640), np.uint8), name="photo")
    current = current_of(viewer)
    scan = add_read(viewer)
    assert abs(viewer.dims.point[0] - 28.5) <= 1.5
    assert camera_of(viewer).zoom > 10 and np.allclose(camera_of(viewer).center[-2:], (14.5, 19.5), atol=1)
    set_view(viewer, "coronal", scan)  # the photograph's 500 pixels do not matter to the slice
    assert 0 <= viewer.dims.point[1] <= 30 and current.image is scan


def test_what_was_seen_whole_stays_so_on_a_smaller_canvas_and_a_zoom_stays(viewer: ViewerModel) -> None:
    scan = add_read(viewer)
    set_view(viewer, "axial", scan)
    size = canvas_size(viewer)
    camera_of(viewer).zoom *= 1.4  # as on a canvas that was larger
    larger = (round(size[0] * 1.4), round(size[1] * 1.4))
    show_whole_again(viewer, scan, larger)
    assert np.isclose(camera_of(viewer).zoom, 0.95 * min(size[0] / 30, size[1] / 40), rtol=0.05)
    camera_of(viewer).zoom *= 3
    before = camera(viewer)
    show_whole_again(viewer, scan, larger)
    assert camera(viewer) == before
