"""Corrections by a click: in a viewer model what a click means on turned layers, in a real window the tool itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import qt_waiting
from napari.components import ViewerModel
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QKeyEvent

from meduniseg_core.errors import UsageError
from meduniseg_core.events import CancelToken, ignore
from meduniseg_core.images import Geometry, Image, Reorientation
from napari_meduniseg._clicks import click_on, correction, draw_lasso
from napari_meduniseg._editing import Locks, apply
from napari_meduniseg._features import FeatureSource
from napari_meduniseg._layers import METADATA_KEY, Origin
from napari_meduniseg._napari_versions import camera_of
from napari_meduniseg.widgets.canvas_overlay import overlay_of

wait_for = partial(qt_waiting.wait_for, seconds=300.0)

PLACE, OTHER = (4, 20, 14), (4, 20, 40)


class OwnFeatures(FeatureSource):
    """The image's own features: a network is not what is tested here."""

    def get(self, image: Any, made_by: Any, events: Any, cancel: Any) -> Any:
        return super().get(image, None, events, cancel)


def scan() -> np.ndarray:
    """Two bright columns in noise."""
    array = np.random.default_rng(0).normal(0, 0.2, (9, 48, 128)).astype(np.float32)
    array[2:7, 14:26, 8:20] += 2
    array[2:7, 14:26, 34:46] += 2
    return array


def labels_of(array: np.ndarray) -> np.ndarray:
    """The first column alone, and a false part without anything bright."""
    labels = np.zeros(array.shape, np.uint8)
    labels[2:7, 14:26, 8:20] = 1
    labels[2:4, 40:46, 30:40] = 1
    return labels


def correct(layer: Any, image: Any, at: tuple[int, ...], lasso: Any = None, over: bool = False) -> int:
    locks = Locks()
    click = click_on(layer, layer.data_to_world(at), lasso, over)
    find = correction(layer, click, locks, image, OwnFeatures())
    return apply(layer, find(ignore, CancelToken()))


@pytest.mark.parametrize(
    "change",
    [Reorientation(), Reorientation((2, 0, 1), (True, False, True)), Reorientation((1, 2, 0), (False, True, True))],
)
def test_a_click_grows_what_is_missed_and_removes_what_is_false_however_the_layer_is_turned(change: Any) -> None:
    array = scan()
    spacing = (3.0, 1.0, 1.0)
    grid = Geometry(shape=array.shape, spacing=spacing, origin=(0, 0, 0), direction=((0, 0, 1), (0, 1, 0), (1, 0, 0)))
    image = Image(array[None], grid)
    shown, labels = change.forward(array), change.forward(labels_of(array))
    scale = [spacing[axis] for axis in change.axes]
    viewer = ViewerModel()
    layer = viewer.add_image(shown, scale=scale, units="mm", name="scan")
    affine = np.diag([*scale, 1.0])
    layer.metadata[METADATA_KEY] = Origin(image, change, shown, affine)
    edited = viewer.add_labels(labels, scale=scale, units="mm")
    edited.selected_label = 1
    at = _forward(OTHER, array.shape, change)
    assert correct(edited, layer, at) > 0
    after = change.inverse(np.asarray(edited.data)[None])[0]
    missed = after[2:7, 14:26, 34:46]
    assert (missed == 1).mean() > 0.9
    grown = (after == 1) & (labels_of(array) == 0)
    assert grown.sum() < 1.2 * missed.size
    assert correct(edited, layer, _forward((3, 42, 35), array.shape, change)) == 2 * 6 * 10
    after = change.inverse(np.asarray(edited.data)[None])[0]
    assert not after[2:4, 40:46, 30:40].any() and after[PLACE] == 1
    edited.undo()
    edited.undo()
    np.testing.assert_array_equal(edited.data, labels)


def _forward(place: tuple[int, ...], shape: tuple[int, ...], change: Any) -> tuple[int, ...]:
    marked = np.zeros(shape, bool)
    marked[place] = True
    return tuple(int(index[0]) for index in np.nonzero(change.forward(marked)))


def test_a_lasso_restricts_either_to_its_slice_and_one_around_nothing_is_refused() -> None:
    array = scan()
    viewer = ViewerModel()
    layer = viewer.add_image(array, scale=(3, 1, 1), units="mm")
    edited = viewer.add_labels(labels_of(array), scale=(3, 1, 1), units="mm")
    edited.selected_label = 1
    ring = [(12.0, 13.0, 33.0), (12.0, 13.0, 47.0), (12.0, 20.5, 47.0), (12.0, 20.5, 33.0)]
    lasso = draw_lasso(edited, ring, 0)
    assert lasso.mask[4, 16, 40] and not lasso.mask[5].any() and not lasso.mask[4, 24, 40]
    correct(edited, layer, (4, 16, 40), lasso)
    grown = np.nonzero((np.asarray(edited.data) == 1) & (labels_of(array) == 0))
    assert set(grown[0]) == {4} and grown[1].max() <= 20 and grown[0].size > 40
    cut = draw_lasso(edited, [(12.0, 10.0, 4.0), (12.0, 10.0, 13.5), (12.0, 30.0, 13.5), (12.0, 30.0, 4.0)], 0)
    correct(edited, layer, (4, 20, 10), cut)
    left = np.asarray(edited.data)
    assert not left[4, 14:26, 8:14].any() and (left[4, 14:26, 14:20] == 1).all() and (left[5, 14:26, 8:20] == 1).all()
    with pytest.raises(UsageError, match="encloses nothing"):
        draw_lasso(edited, [(12.0, -9.0, -9.0), (12.0, -9.0, -3.0), (12.0, -3.0, -3.0)], 0)


def test_shift_grows_over_another_class_and_locks_and_paint_over_hold() -> None:
    array = scan()
    viewer = ViewerModel()
    layer = viewer.add_image(array, scale=(3, 1, 1), units="mm")
    labels = labels_of(array)
    labels[2:7, 14:26, 34:46] = 2
    edited = viewer.add_labels(labels, scale=(3, 1, 1), units="mm")
    edited.selected_label = 1
    click = click_on(edited, edited.data_to_world(OTHER), None, over=True)
    assert click.label == 1
    for paint_over, locked, grows in (
        ("background", False, False),
        ("everything", True, False),
        ("everything", False, True),
    ):
        locks = Locks(paint_over=paint_over)
        locks.set(edited, 2, locked)
        edit = correction(edited, click, locks, layer, OwnFeatures())(ignore, CancelToken())
        assert (edit.count > 300) == grows, (paint_over, locked, edit.count)
    assert click_on(edited, edited.data_to_world(OTHER), None, over=False).label is None
    locks = Locks()
    locks.set(edited, 2, True)
    plain = click_on(edited, edited.data_to_world(OTHER), None, over=False)
    with pytest.raises(UsageError, match="locked"):
        correction(edited, plain, locks, layer, OwnFeatures())(ignore, CancelToken())
    with pytest.raises(UsageError, match="outside"):
        click_on(edited, (500.0, 0.0, 0.0), None, over=False)


@pytest.fixture
def edit(gui: Any) -> Any:
    array = scan()
    gui.add_image(array, scale=(3, 1, 1), units="mm", name="scan")
    features = {"index": [0, 1], "name": ["background", "organ"]}
    layer = gui.add_labels(labels_of(array), scale=(3, 1, 1), units="mm", features=features, name="result")
    _, found = gui.window.add_plugin_dock_widget("napari-meduniseg", "Edit")
    found.tools._features = OwnFeatures()
    layer.selected_label = 1
    gui.dims.set_point(0, 12.0)
    return found


def drag(edit: Any, layer: Any, *places: tuple[float, ...], shift: bool = False) -> None:
    """A press, moves and the release, as napari tells its layers; then what they start comes to its end."""
    modifiers = ("Shift",) if shift else ()
    event = SimpleNamespace(button=1, type="mouse_press", position=places[0], modifiers=modifiers, handled=False)
    running = edit.tools.mouse(layer, event)
    next(running, None)
    for place in places[1:]:
        event.type, event.position = "mouse_move", place
        next(running, None)
    event.type = "mouse_release"
    next(running, None)
    wait_for(lambda: not edit.busy)


def test_clicks_and_a_lasso_in_a_window_are_one_undo_step_each(gui: Any, edit: Any) -> None:
    layer = gui.layers["result"]
    before = np.array(layer.data)
    edit.clicks.setChecked(True)
    wait_for(lambda: not edit.busy)
    assert layer.mode == "pan_zoom" and "Click on a false region" in edit.said.text()
    drag(edit, layer, (12.0, 20.0, 40.0))
    assert (np.asarray(layer.data)[2:7, 14:26, 34:46] == 1).mean() > 0.9
    edit.undo_button.click()
    np.testing.assert_array_equal(layer.data, before)
    drag(edit, layer, (12.0, 10.0, 4.0), (12.0, 10.0, 13.5), (12.0, 30.0, 13.5), (12.0, 30.0, 4.0))
    assert edit.clicks.lasso is not None and "inside the lasso" in edit.said.text()
    overlay = overlay_of(edit, gui)
    line = overlay.line_pixels()
    zoom = camera_of(gui).zoom
    assert line is not None and line[1, 0] - line[0, 0] == pytest.approx(9.5 * zoom)
    drag(edit, layer, (12.0, 20.0, 10.0))
    changed = np.nonzero(before != np.asarray(layer.data))
    assert set(changed[0]) == {4} and changed[2].max() == 13
    assert edit.clicks.lasso is None and overlay.line_pixels() is None
    edit.undo_button.click()
    np.testing.assert_array_equal(layer.data, before)


def test_a_lasso_goes_with_escape_a_click_outside_another_slice_and_the_tool(gui: Any, edit: Any) -> None:
    layer = gui.layers["result"]
    ring = ((12.0, 10.0, 4.0), (12.0, 10.0, 13.0), (12.0, 30.0, 13.0), (12.0, 30.0, 4.0))
    edit.clicks.setChecked(True)
    wait_for(lambda: not edit.busy)
    before = np.array(layer.data)
    overlay = overlay_of(edit, gui)
    key = QKeyEvent(QEvent.Type.KeyPress, Qt.Key.Key_Escape, Qt.KeyboardModifier.NoModifier)
    ways: list[Callable[[], Any]] = [
        lambda: overlay.eventFilter(overlay, key),
        lambda: drag(edit, layer, (12.0, 40.0, 50.0)),
        lambda: gui.dims.set_point(0, 15.0),
        lambda: edit.ball.setChecked(True),
    ]
    for way in ways:
        drag(edit, layer, *ring)
        assert edit.clicks.lasso is not None
        way()
        assert edit.clicks.lasso is None and overlay.line_pixels() is None
        gui.dims.set_point(0, 12.0)
    assert not edit.clicks.isChecked()
    np.testing.assert_array_equal(layer.data, before)
    bound = {str(key): action for key, action in layer.keymap.items()}
    bound["Shift+X"](layer)
    assert edit.clicks.isChecked() and not edit.ball.isChecked()
    layer.mode = "paint"
    assert not edit.clicks.isChecked()
