"""Small things of the Edit panel and the result table that annotators meet all day."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from qtpy.QtCore import QEvent, QPoint, Qt
from qtpy.QtGui import QColor, QPalette
from qtpy.QtWidgets import QApplication, QLabel, QTabBar

from napari_meduniseg import _unsaved
from napari_meduniseg._napari_versions import camera_of
from napari_meduniseg._steps import go_to_step, steps_of
from napari_meduniseg.widgets.layer_combo import labels_combo
from napari_meduniseg.widgets.message import Name
from napari_meduniseg.widgets.opening import open_panel
from napari_meduniseg.widgets.target_name import TargetName

Role = QPalette.ColorRole
THICK = np.zeros((6, 20, 20), np.uint8)
THICK[1:4, 5:12, 5:12] = 1


@pytest.fixture
def edit(gui: Any) -> Any:
    gui.add_labels(THICK.copy(), scale=(5.0, 3.0, 3.0), units="mm", features={"index": [0, 1], "name": ["bg", "organ"]})
    return open_panel(gui, "Edit")


def test_ball_relabelling_and_napari_s_tools_exclude_each_other(gui: Any, edit: Any) -> None:
    edit.ball.setChecked(True)
    edit.relabel.setChecked(True)
    assert not edit.ball.isChecked()
    edit.ball.setChecked(True)
    assert not edit.relabel.isChecked() and gui.layers[0].mode == "pan_zoom"
    gui.layers[0].mode = "paint"
    assert not edit.ball.isChecked()


def test_the_ball_s_outline_is_in_mm_on_the_screen(gui: Any, edit: Any) -> None:
    from napari_meduniseg.widgets.canvas_overlay import overlay_of

    overlay = overlay_of(edit, gui)
    assert overlay is not None and overlay.ball_pixels() is None
    edit.radius.setValue(7.0)
    edit.ball.setChecked(True)
    camera_of(gui).zoom = 4.0
    assert overlay.ball_pixels() == pytest.approx(28)
    edit.radius.setValue(3.0)
    assert overlay.ball_pixels() == pytest.approx(12)
    edit.ball.setChecked(False)
    assert overlay.ball_pixels() is None


def test_an_amount_that_does_nothing_on_this_grid_is_offered_larger(gui: Any, edit: Any) -> None:
    assert edit.amount.value() == 3.0 and "mm³" in edit.operations.label.text()  # the smallest voxel is 3 mm wide
    gui.add_labels(np.zeros((30, 30), np.uint8), name="flat")
    assert edit.amount.value() == 2.0 and "px²" in edit.operations.label.text()  # the user's own again


def test_an_amount_grows_a_shape_within_a_plane_where_slices_are_thinner_than_pixels(gui: Any, edit: Any) -> None:
    gui.add_labels(THICK.copy(), scale=(2.5, 3.9, 3.9), units="mm", name="coarse")
    assert edit.amount.value() == pytest.approx(3.9)


def test_a_picture_has_discs_and_no_tools_for_slices(gui: Any, edit: Any) -> None:
    assert "balls in 3D" in edit.ball.text() and edit.buttons["fill_between"].isEnabled()
    gui.add_labels(np.zeros((30, 30), np.uint8), name="flat")
    assert edit.ball.text() == "Paint discs (click or drag)" and "slices" not in edit.ball.toolTip()
    slices = (edit.buttons["fill_between"], edit.buttons["fill_holes_in_slices"], edit.doubtful)
    assert not any(button.isEnabled() for button in slices)


def test_what_did_nothing_speaks_of_the_amount_only_where_there_is_one(gui: Any, edit: Any, qtbot: Any) -> None:
    gui.layers[0].selected_label = 1
    for name, speaks in (("fill_holes", False), ("remove_islands", True)):
        edit.buttons[name].click()
        qtbot.waitUntil(lambda: not edit.busy, timeout=30_000)
        assert "Nothing changed" in edit.said.text() and ("amount" in edit.said.text()) == speaks


def test_a_name_that_is_too_long_keeps_its_end_in_sight(gui: Any, qtbot: Any) -> None:
    name = Name()
    qtbot.addWidget(name)
    name.setStyleSheet("padding: 4px;")  # as napari's own style has it
    name.setText("Labels: head_neck_organs_000_0000.nii.gz: head_neck_organs, not saved")
    name.resize(300, 20)
    name.show()
    assert QLabel.text(name).endswith("not saved") and "…" in QLabel.text(name)
    assert QLabel.sizeHint(name).width() <= name.width()


def test_trouble_can_be_read_on_dark_and_on_light_and_follows_the_theme(gui: Any, edit: Any, qtbot: Any) -> None:
    def contrast() -> float:
        """Of text and ground, as the WCAG define it: 1 to 21, from 4.5 on easily read."""
        palette = edit.said.palette()
        text, ground = (_luminance(palette.color(role)) for role in (Role.WindowText, Role.Window))
        return (max(text, ground) + 0.05) / (min(text, ground) + 0.05)

    edit.say("The image has no orientation.", trouble=True)
    for theme in ("dark", "light", "dark"):
        gui.theme = theme
        qtbot.waitUntil(lambda: contrast() > 4.5, timeout=10_000)
        assert edit.said.palette().color(Role.WindowText).saturation() > 150  # amber, not black or white


def _luminance(colour: QColor) -> float:
    parts = zip((0.2126, 0.7152, 0.0722), colour.getRgbF()[:3], strict=True)
    return sum(share * (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4) for share, part in parts)


def test_what_was_said_of_a_step_goes_when_it_is_undone(gui: Any, edit: Any, qtbot: Any) -> None:
    edit.do("grow")
    qtbot.waitUntil(lambda: not edit.busy, timeout=30_000)
    assert "voxels changed" in edit.said.text()
    edit.undo_button.click()
    assert edit.said.text() == ""


def test_undo_counts_as_a_change_of_the_layer() -> None:
    viewer, seen = ViewerModel(), []
    layer = viewer.add_labels(THICK.copy())
    _unsaved.watch(layer)
    layer.events.paint.connect(lambda event: seen.append(event))
    layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 1)
    _unsaved.saved(layer)
    before = len(seen)
    layer.undo()
    assert layer.data[0, 0, 0] == 0 and _unsaved.is_unsaved(layer) and len(seen) == before + 1
    layer.redo()
    assert layer.data[0, 0, 0] == 1 and len(seen) == before + 2


def test_a_key_shows_outlines(gui: Any, edit: Any) -> None:
    from napari_meduniseg._editing import toggle_contour

    layer = gui.layers[0]
    toggle_contour(layer)
    assert layer.contour > 0
    toggle_contour(layer)
    assert layer.contour == 0


def test_the_result_table_tells_the_cup_disc_ratio_and_goes_out_as_text_and_csv(
    gui: Any, qtbot: Any, tmp_path: Path
) -> None:
    segment = open_panel(gui, "Segment")
    photograph = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    gui.add_image(photograph, rgb=True, name="eye.png")
    segment.form.choose(model="tiny", modality="fundus", tasks=("disc_cup",))
    segment.form.compute.precision.value = "fp32"
    segment.run_button.click()
    qtbot.waitUntil(lambda: not segment.busy, timeout=120_000)
    layer = gui.layers[-1]
    assert isinstance(layer, Labels)
    eye = np.zeros((48, 64), layer.data.dtype)
    names = layer.metadata["meduniseg"]["provenance"]["classes"]
    cup = next(int(label) for label, name in names.items() if name == "cup")
    eye[10:30, 10:30] = 3 - cup
    eye[15:25, 15:20] = cup
    layer.data_setitem(np.nonzero(np.ones_like(eye)), eye.ravel())
    table = segment.table
    qtbot.waitUntil(lambda: "0.50" in table.derived.text() and not table.busy, timeout=30_000)
    assert "Vertical cup/disc ratio: 0.50" in table.derived.text() and "0.12" in table.derived.text()
    table.copy_button.click()
    copied = QApplication.clipboard().text()
    assert table.table.height() < 150  # two rows: what stands below them is in sight
    assert copied.startswith("class\tpixels\tmean\n") and "ertical cup/disc ratio\t0.50" in copied
    table.export(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert rows["cup"]["voxels"] == "50" and rows["vertical cup/disc ratio"]["size"] == "0.5"
    layer.undo()
    qtbot.waitUntil(lambda: "0.50" not in table.derived.text(), timeout=30_000)


def test_undo_is_a_list_of_named_steps(gui: Any, edit: Any, qtbot: Any) -> None:
    layer = gui.layers[0]
    layer.mode = "paint"
    layer.selected_label = 1
    layer.paint((2, 1, 1), 1)
    layer.mode = "pan_zoom"
    edit.do("grow")
    qtbot.waitUntil(lambda: not edit.busy, timeout=10_000)
    grown = layer.data.copy()
    layer.fill((0, 0, 0), 1)

    def texts() -> list[str]:
        edit.step_list.fill()
        return [action.text() for action in edit.step_list.list.actions()]

    assert texts() == ["3  Change: organ", "2  Grow: organ", "1  Brush: organ", "As it was"]
    edit.step_list.list.actions()[1].trigger()
    assert np.array_equal(layer.data, grown)
    edit.step_list.fill()
    edit.step_list.list.actions()[3].trigger()
    assert np.array_equal(layer.data, THICK)
    edit.step_list.fill()
    assert [action.isChecked() for action in edit.step_list.list.actions()] == [False, False, False, True]
    edit.step_list.list.actions()[1].trigger()  # forth again
    assert np.array_equal(layer.data, grown) and texts()[0] == "3  Change: organ"
    layer.mode = "paint"
    layer.paint((5, 17, 17), 1)  # what was undone is gone with a new step
    assert texts() == ["3  Brush: organ", "2  Grow: organ", "1  Brush: organ", "As it was"]


def test_steps_of_an_array_that_was_replaced_are_neither_listed_nor_undone() -> None:
    layer = ViewerModel().add_labels(THICK.copy())
    _unsaved.watch(layer)
    layer.selected_label = 1
    layer.mode = "paint"
    layer.paint((0, 1, 1), 1)
    layer.data = layer.data  # napari's way to show what was written into the array: the steps stand
    assert steps_of(layer).done == ["Brush: class 1"]
    layer.undo()
    layer.paint((0, 1, 1), 1)
    layer.paint((0, 9, 9), 1)
    layer.undo()
    layer.data = other = np.full((3, 15, 15), 7, np.uint8)  # 3 x 15 x 15: the old steps do not even lie in it
    assert (steps_of(layer).done, steps_of(layer).undone, layer.mode) == ([], [], "paint") and layer.editable
    layer.undo()
    layer.redo()
    go_to_step(layer, 0)
    assert layer.data is other and (other == 7).all()
    layer.paint((0, 1, 1), 1)
    assert steps_of(layer).done == ["Brush: class 1"]
    layer.editable = False  # napari forgets its steps
    layer.editable = True
    assert steps_of(layer).done == []


def tabs_of(bar: QTabBar) -> set[str]:
    return {bar.tabText(tab) for tab in range(bar.count())}


def test_tabs_show_the_panels_own_names(gui_screen: None, tiny_home: Path, make_napari_viewer: Any, qtbot: Any) -> None:
    viewer = make_napari_viewer(show=True)
    edit = open_panel(viewer, "Edit")
    open_panel(viewer, "Segment")

    def tabs() -> set[str]:
        return {title for bar in viewer.window._qt_window.findChildren(QTabBar) for title in tabs_of(bar)}

    qtbot.waitUntil(lambda: {"Edit", "Segment"} <= tabs(), timeout=10_000)
    for panel in ("Teach", "Measure", "Planes", "Readers", "Models", "Review"):
        open_panel(viewer, panel)
    bars = [bar for bar in viewer.window._qt_window.findChildren(QTabBar) if "Readers" in tabs_of(bar)]
    qtbot.waitUntil(lambda: all(bar.elideMode() == Qt.TextElideMode.ElideNone for bar in bars), timeout=10_000)
    assert len(bars) == 1 and bars[0].usesScrollButtons()  # whole names, however many panels there are
    assert open_panel(viewer, "Edit") is edit  # and they are found by the name that napari's menu has


def test_what_learn_says_of_its_time_does_not_move_start(
    gui_screen: None, tiny_home: Path, make_napari_viewer: Any, qtbot: Any
) -> None:
    learn = open_panel(make_napari_viewer(show=True), "Learn")
    places: list[int] = []

    def settled() -> bool:
        """Whether the button has been in one place for a second: the panel lays itself out bit by bit."""
        places.append(learn.start_button.mapTo(learn, QPoint(0, 0)).y())
        return learn.start_button.isVisible() and len(places) > 100 and len(set(places[-100:])) == 1

    qtbot.waitUntil(settled, timeout=60_000)
    before = places[-1]
    places.clear()
    learn.ahead.say("Training takes about 59 s to 4 min, then it is compared with its base. " * 4)
    qtbot.waitUntil(settled, timeout=60_000)
    assert places[-1] == before


def test_the_paint_range_is_dragged_on_the_image_s_histogram(gui: Any, edit: Any, qtbot: Any) -> None:
    values = np.repeat(np.arange(60, dtype=np.int16) * 10, 40).reshape(6, 20, 20)
    image = gui.add_image(values, scale=(5.0, 3.0, 3.0), units="mm")
    qtbot.waitUntil(lambda: edit.range.high.value() > 400, timeout=10_000)
    histogram = edit.range.histogram
    assert histogram.isHidden()
    edit.range_on.setChecked(True)
    assert not histogram.isHidden()
    assert histogram.region.getRegion() == pytest.approx(edit.range.limits())
    histogram.region.setRegion((100.0, 250.0))
    assert edit.range.limits() == (100.0, 250.0)
    edit.low.setValue(50.0)
    assert histogram.region.getRegion() == pytest.approx((50.0, 250.0))
    other = gui.add_image(values + 1000, scale=(5.0, 3.0, 3.0), units="mm")
    edit.image_box.set_layer(other)
    qtbot.waitUntil(lambda: edit.range.low.value() > 900, timeout=10_000)
    edit.image_box.set_layer(image)
    assert edit.range.limits() == (50.0, 250.0)  # every image keeps its own


def test_labels_that_are_not_saved_are_marked_until_they_are(gui: Any, edit: Any) -> None:
    layer = gui.layers[0]
    assert edit.layer_box.itemIcon(0).isNull() and "not saved" not in edit.name.text()
    layer.paint((2, 1, 1), 1)
    assert not edit.layer_box.itemIcon(0).isNull() and "not saved" in edit.name.text()
    assert "saved" in edit.layer_box.itemData(0, Qt.ItemDataRole.ToolTipRole)
    _unsaved.saved(layer)
    assert edit.layer_box.itemIcon(0).isNull() and "not saved" not in edit.name.text()
    layer.undo()  # other voxels than those on the disk
    assert not edit.layer_box.itemIcon(0).isNull()


def test_a_list_whose_panel_was_closed_does_not_stop_painting(gui: Any, edit: Any) -> None:
    closed = labels_combo(edit._current)
    name = TargetName(edit._current)
    edit._current.events.changed.disconnect(name._show)
    for widget in (closed, name):
        widget.deleteLater()
        QApplication.sendPostedEvents(widget, QEvent.Type.DeferredDelete.value)
    with pytest.raises(RuntimeError):
        closed.count()  # Qt's part is gone, ours lives
    gui.layers[0].paint((2, 1, 1), 1)
    assert gui.layers[0].data[2, 1, 1] == 1 and "not saved" in edit.name.text()
