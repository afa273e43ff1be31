"""Panels in a real window, with four images open: what they act on, where they are, and what does not move."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panel_names import PANELS
from PIL import Image as Picture
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDockWidget,
    QPushButton,
    QScrollArea,
    QScrollBar,
    QWidget,
)

from napari_meduniseg._reader import read_one
from napari_meduniseg.widgets.opening import open_panel

NAMES = ("a", "b", "c", "d")
LONG = "The image /somewhere/far/away/on/another/disk/with_a_very_long_name_that_has_no_blank.nii.gz is none. " * 3


@pytest.fixture
def four(gui: Any, tmp_path: Path) -> Any:
    """Four photographs of one size, opened one after the other."""
    from napari.layers import Layer

    gui.window.show()
    rng = np.random.default_rng(0)
    for name in NAMES:
        path = tmp_path / f"{name}.png"
        Picture.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(path)
        for data, options, kind in read_one(path):
            gui.add_layer(Layer.create(data, options, kind))
    return gui


@pytest.fixture
def panel(gui: Any) -> Callable[[str], Any]:
    def opened(name: str) -> Any:
        return gui.window.add_plugin_dock_widget("napari-meduniseg", name)[1]

    return opened


def visible(viewer: Any) -> set[str]:
    return {layer.name for layer in viewer.layers if layer.visible}


def run(panel: Any, qtbot: Any) -> None:
    panel.run_button.click()
    qtbot.waitUntil(lambda: not panel.busy, timeout=120_000)


def choose(box: QComboBox, text: str) -> None:
    box.setCurrentIndex(box.findText(text))


def named(viewer: Any, name: str) -> Any:
    return viewer.layers[name]


def test_results_and_edits_go_to_the_picture_one_looks_at(
    four: Any, panel: Callable[[str], Any], qtbot: Any, tmp_path: Path
) -> None:
    segment, edit = panel("Segment"), panel("Edit")
    segment.form.choose(model="tiny", modality="fundus", tasks=("disc_cup",))
    segment.form.compute.precision.value = "fp32"
    choose(segment.form.image, "b.png")
    assert visible(four) == {"b.png"}
    run(segment, qtbot)
    first = four.layers[-1]
    assert first.name == "b.png: disc_cup" and visible(four) == {"b.png", first.name}
    assert first.name in segment.result_actions.name.text() and first.name in edit.name.text()
    assert edit.layer_box.layer() is first and edit.image_box.layer() is named(four, "b.png")

    choose(segment.form.image, "c.png")  # no labels yet: there is nothing to save or to accept
    assert visible(four) == {"c.png"} and segment.table.isHidden()
    assert "No labels of c.png" in edit.name.text() and edit.layer_box.layer() is None
    assert not edit.accepting.button.isEnabled() and not segment.result_actions.save_button.isEnabled()
    run(segment, qtbot)
    of_c = four.layers[-1]
    assert edit.layer_box.layer() is of_c and visible(four) == {"c.png", of_c.name}

    choose(segment.form.image, "b.png")
    assert edit.layer_box.layer() is first and segment.table.table.rowCount() == 2
    run(segment, qtbot)
    second = four.layers[-1]
    assert second is not first and edit.layer_box.layer() is second  # not the older one
    segment.result_actions.save_button.save(tmp_path / "out.png")
    qtbot.waitUntil(lambda: not segment.result_actions.save_button.busy, timeout=30_000)
    assert '"b.png"' in (tmp_path / "out.json").read_text()

    choose(edit.layer_box, of_c.name)  # from Edit, too
    assert segment.form.image.layer() is named(four, "c.png") and visible(four) == {"c.png", of_c.name}
    edit.palette_table.selectRow(0)
    assert four.layers.selection.active is of_c and segment.form.image.layer() is named(four, "c.png")
    segment.view_bar.all_button.click()
    assert visible(four) == {layer.name for layer in four.layers}


def test_a_result_that_comes_when_one_looks_elsewhere_waits_at_its_image(
    four: Any, panel: Callable[[str], Any], qtbot: Any
) -> None:
    segment = panel("Segment")
    segment.form.choose(model="tiny", modality="fundus", tasks=("disc_cup",))
    segment.form.compute.precision.value = "fp32"
    choose(segment.form.image, "a.png")
    segment.run_button.click()
    choose(segment.form.image, "d.png")
    qtbot.waitUntil(lambda: not segment.busy, timeout=120_000)
    assert visible(four) == {"d.png"} and "choose a.png under Image" in segment.said.text()
    assert segment.form.image.layer() is named(four, "d.png") and "No labels" in segment.result_actions.name.text()
    choose(segment.form.image, "a.png")
    assert visible(four) == {"a.png", "a.png: disc_cup"} and segment.table.table.rowCount() == 2


def test_what_is_accepted_is_the_current_image_and_each_only_once(
    four: Any, panel: Callable[[str], Any], qtbot: Any
) -> None:
    from meduniseg_core.corrections import Ledger
    from meduniseg_core.paths import corrections_folder

    edit, classes = panel("Edit"), {"index": [0, 1], "name": ["background", "spot"]}
    box = edit.accepting
    for number, name in enumerate(("a.png", "c.png")):
        edit.image_box.set_layer(named(four, name))
        mine = four.add_labels(np.full((40, 48), number, np.uint8), name=f"mine {number}", features=classes)
        assert edit.layer_box.layer() is mine and mine.name in edit.name.text()
        assert name in edit.name.toolTip() and edit.image_box.layer() is named(four, name)
        mine.data[:9, :9] = 1
        if number == 0:
            qtbot.waitUntil(lambda: not box.busy, timeout=30_000)
            box.task.setText("spots")
            box.collection.setCurrentIndex(box.collection.findData("new"))
            box.modality.setCurrentIndex(box.modality.findData("dermoscopy"))
        box.button.click()
        qtbot.waitUntil(lambda: not box.busy, timeout=60_000)
        assert "Accepted" in box.said.text(), box.said.text()
    entries = Ledger.open(corrections_folder() / "spots").entries()
    assert len(entries) == 2


def test_labels_in_which_nothing_is_labelled_are_accepted_with_a_warning(
    four: Any, panel: Callable[[str], Any], qtbot: Any
) -> None:
    edit, classes = panel("Edit"), {"index": [0, 1], "name": ["background", "spot"]}
    box = edit.accepting
    edit.image_box.set_layer(named(four, "a.png"))
    mine = four.add_labels(np.zeros((40, 48), np.uint8), name="mine", features=classes)
    qtbot.waitUntil(lambda: not box.busy, timeout=30_000)
    box.task.setText("spots")
    box.collection.setCurrentIndex(box.collection.findData("new"))
    box.modality.setCurrentIndex(box.modality.findData("dermoscopy"))
    box.button.click()
    qtbot.waitUntil(lambda: not box.busy, timeout=60_000)
    assert "without any label" in box.said.text() and box.said.styleSheet()
    mine.data[:9, :9] = 1
    box.button.click()
    qtbot.waitUntil(lambda: not box.busy, timeout=60_000)
    assert "Accepted" in box.said.text() and "without any label" not in box.said.text()


def test_what_looks_wrong_in_an_image_is_said_when_its_labels_are_accepted(
    four: Any, panel: Callable[[str], Any], qtbot: Any
) -> None:
    edit, classes = panel("Edit"), {"index": [0, 1], "name": ["background", "spot"]}
    box = edit.accepting
    edit.image_box.set_layer(four.add_image(np.full((40, 48), 7, np.uint8), name="blank"))
    labels = np.zeros((40, 48), np.uint8)
    labels[:9, :9] = 1
    four.add_labels(labels, name="mine", features=classes)
    qtbot.waitUntil(lambda: not box.busy, timeout=30_000)
    box.task.setText("blanks")
    box.collection.setCurrentIndex(box.collection.findData("new"))
    box.modality.setCurrentIndex(box.modality.findData("dermoscopy"))
    box.button.click()
    qtbot.waitUntil(lambda: not box.busy, timeout=60_000)
    assert "Accepted" in box.said.text() and "the same value (7) everywhere" in box.said.text()


def test_labels_of_no_task_are_not_proposed_the_collection_of_a_task(
    four: Any, panel: Callable[[str], Any], qtbot: Any
) -> None:
    segment, edit = panel("Segment"), panel("Edit")
    box, classes = edit.accepting, {"index": [0, 1], "name": ["background", "spot"]}
    segment.form.choose(model="tiny", modality="fundus", tasks=("disc_cup",))
    segment.form.compute.precision.value = "fp32"
    for name, own, start in (
        ("a.png", False, "New"),
        ("b.png", True, "New"),
        ("c.png", False, "disc_cup: 1"),
        ("d.png", True, "marks: 1"),
    ):
        choose(segment.form.image, name)
        if own:
            mine = four.add_labels(np.full((40, 48), 1, np.uint8), name=f"mine of {name}", features=classes)
            assert edit.layer_box.layer() is mine and box.said.text() == ""
        else:
            run(segment, qtbot)
        qtbot.waitUntil(lambda: not box.busy, timeout=30_000)
        assert box.collection.currentText().startswith(start), (name, box.collection.currentText())
        if name == "b.png":
            box.task.setText("marks")
            box.modality.setCurrentIndex(box.modality.findData("dermoscopy"))
        box.button.click()
        qtbot.waitUntil(lambda: not box.busy, timeout=60_000)
        assert box.said.text().startswith(f"Accepted as {name[0]}"), box.said.text()


def menu_entry(viewer: Any, name: str) -> Any:
    """The panel's entry in Plugins > MedUniSeg, as napari makes it."""
    bar = viewer.window._qt_window.menuBar().actions()
    menus = next(action.menu() for action in bar if action.text().replace("&", "") == "Plugins")
    menus.aboutToShow.emit()
    ours = next(action.menu() for action in menus.actions() if "MedUniSeg" in action.text())
    ours.aboutToShow.emit()
    return next(action for action in ours.actions() if action.text().startswith(name))


@pytest.mark.parametrize("name", ["Segment", "Edit", "Learn"])
def test_a_panel_opened_by_a_button_or_the_command_is_the_one_that_the_menu_knows(four: Any, name: str) -> None:
    found = open_panel(four, name)
    other = open_panel(four, "Review")
    QApplication.processEvents()
    assert open_panel(four, name) is found and len(four.window.dock_widgets) == 2
    QApplication.processEvents()
    assert not found.visibleRegion().isEmpty() and other.visibleRegion().isEmpty()
    menu_entry(four, name).trigger()  # hides it
    QApplication.processEvents()
    assert found.isHidden() or found.visibleRegion().isEmpty()
    menu_entry(four, name).trigger()  # and shows it, not behind the other's tab
    for _ in range(5):
        QApplication.processEvents()
    assert list(four.window.dock_widgets) == [f"{name} (MedUniSeg)", "Review (MedUniSeg)"]
    assert not found.visibleRegion().isEmpty() and other.visibleRegion().isEmpty()


def test_panels_that_the_menu_opens_make_no_window_higher(gui: Any) -> None:
    gui.window.show()
    gui.window.resize(950, 560)
    open_panel(gui, "Segment")
    for _ in range(5):
        QApplication.processEvents()
    height = gui.window._qt_window.height()
    for name in PANELS:
        if name != "Segment":
            menu_entry(gui, name).trigger()
        for _ in range(10):
            QApplication.processEvents()
        # napari docks them below each other first: with two the window grew from 560 to 764 pixels
        assert gui.window._qt_window.height() == height, name


def test_correct_finds_the_panel_that_the_menu_has_opened(four: Any, panel: Callable[[str], Any]) -> None:
    segment = panel("Segment")
    menu_entry(four, "Edit").trigger()
    edit = four.window.dock_widgets["Edit (MedUniSeg)"]
    four.add_labels(np.zeros((40, 48), np.uint8), name="mine")
    shown(segment)
    segment.result_actions.correct_button.click()
    QApplication.processEvents()
    assert len(four.window.dock_widgets) == 2 and not edit.visibleRegion().isEmpty()


def test_correct_brings_the_edit_panel_to_the_front(four: Any, panel: Callable[[str], Any]) -> None:
    edit, segment = panel("Edit"), panel("Segment")
    QApplication.processEvents()
    four.add_labels(np.zeros((40, 48), np.uint8), name="mine")
    assert edit.visibleRegion().isEmpty()
    segment.result_actions.correct_button.click()
    QApplication.processEvents()
    assert not edit.visibleRegion().isEmpty() and edit.layer_box.layer().name == "mine"


def test_labels_of_two_images_are_not_compared(four: Any, panel: Callable[[str], Any], qtbot: Any) -> None:
    review, segment = panel("Review"), panel("Segment")
    layers = {}
    for name in ("a.png", "c.png"):
        choose(segment.form.image, name)
        layers[name] = [four.add_labels(np.ones((40, 48), np.uint8), name=f"{name} {i}") for i in range(2)]
    assert review.first.layer() in layers["c.png"] and review.second.layer() in layers["c.png"]
    review.compare()
    qtbot.waitUntil(lambda: not review.busy, timeout=30_000)
    assert review.table.rowCount() == 1
    review.second.set_layer(layers["a.png"][0])
    review.compare()
    assert not review.busy and "a.png" in review.said.text() and "c.png" in review.said.text()
    assert review.show_difference() is None
    choose(segment.form.image, "a.png")
    assert review.first.layer() in layers["a.png"] and review.second.layer() in layers["a.png"]
    assert review.show_difference() is not None
    assert segment.result_actions.layer() in layers["a.png"]  # a picture of differences is nothing to accept


def test_the_range_of_intensities_is_that_of_the_image_at_hand(
    gui: Any, panel: Callable[[str], Any], qtbot: Any
) -> None:
    edit, rng = panel("Edit"), np.random.default_rng(0)
    small = gui.add_image(rng.uniform(0, 0.02, (5, 30, 30)), name="small")
    qtbot.waitUntil(lambda: not edit.range.busy, timeout=30_000)
    assert 0.0 < edit.low.value() < 0.003 and 0.017 < edit.high.value() < 0.02
    large = gui.add_image(rng.integers(1000, 3000, (5, 30, 30)).astype(np.int16), name="large")
    qtbot.waitUntil(lambda: not edit.range.busy, timeout=30_000)
    assert 1050 < edit.low.value() < 1150 and 2850 < edit.high.value() < 2950 and edit.low.decimals() == 0
    edit.low.setValue(1500)
    edit.image_box.set_layer(small)
    assert edit.high.value() < 0.02
    edit.image_box.set_layer(large)
    assert edit.low.value() == 1500  # what was set for it


def test_a_ball_on_a_photograph_keeps_to_its_brightness(four: Any, panel: Callable[[str], Any]) -> None:
    from napari_meduniseg._editing import Rule, sphere_at

    image = named(four, "d.png")
    mine = four.add_labels(np.zeros((40, 48), np.uint8), name="mine")
    edit = sphere_at(mine, (20.0, 20.0), 9.0, 1, Rule(), image, (0.0, 127.0))
    bright = np.asarray(image.data)[..., :3].mean(axis=-1)
    assert 0 < edit.count < 254 and (bright[edit.where] <= 127).all()


def values(panel: QWidget) -> list[Any]:
    found: list[Any] = []
    for kind in (QComboBox, QAbstractSpinBox, QAbstractSlider):
        for child in panel.findChildren(kind):
            if isinstance(child, QScrollBar):
                continue
            found.append(child.currentIndex() if isinstance(child, QComboBox) else child.value())
    return found


def turn_wheel(widget: QWidget, by: int = -120) -> None:
    middle = QPointF(widget.rect().center())
    event = QWheelEvent(
        middle,
        QPointF(widget.mapToGlobal(middle.toPoint())),
        QPoint(0, by),
        QPoint(0, by),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget, event)


def test_the_wheel_changes_no_value_with_the_focus_and_without(four: Any, panel: Callable[[str], Any]) -> None:
    for name in PANELS:
        found = panel(name)
        if name == "Segment":
            found.form.choose(model="starter")
            found.form.choose(modality="pet")
            found.form.choose(tasks=("sarcoma",))  # a row that comes later
            found.form.advanced.expand(animate=False)
        QApplication.processEvents()
        before = values(found)
        for kind in (QComboBox, QAbstractSpinBox):
            for child in found.findChildren(kind):
                for by in (-120, 120):
                    turn_wheel(child, by)
                child.setFocus()
                turn_wheel(child)
        assert values(found) == before, name


def test_the_wheel_over_a_number_scrolls_the_panel(four: Any, panel: Callable[[str], Any]) -> None:
    four.window.resize(1280, 600)
    edit = panel("Edit")
    QApplication.processEvents()
    bar = edit.findChild(QScrollArea).verticalScrollBar()
    assert bar.maximum() > 0
    window, before = edit.window(), edit.amount.value()
    place = edit.amount.mapTo(window, edit.amount.rect().center())
    QTest.wheelEvent(window.windowHandle(), QPointF(place), QPoint(0, -120))  # as the mouse does: from the window
    QApplication.processEvents()
    assert bar.value() > 0 and edit.amount.value() == before


def places(panel: QWidget) -> dict[str, QPoint]:
    window = panel.window()
    kinds = (QAbstractButton, QComboBox, QAbstractSpinBox)
    parts = [part for part in panel.findChildren(QWidget) if part.isVisible() and isinstance(part, kinds)]
    return {
        f"{number} {type(part).__name__} {part.toolTip():.30}": part.mapTo(window, QPoint(0, 0))
        for number, part in enumerate(parts)
    }


def shown(panel: QWidget) -> QWidget:
    """The panel in front of the others, laid out."""
    dock = panel.parentWidget()
    while not isinstance(dock, QDockWidget):
        dock = dock.parentWidget()
    dock.raise_()
    for _ in range(5):
        QApplication.processEvents()
    return panel


def settle(panel: Any, quiet: float = 0.7, limit: float = 20) -> None:
    """Until no button has moved for ``quiet`` seconds."""
    began = since = time.monotonic()
    last = places(panel)
    while time.monotonic() - since < quiet and time.monotonic() - began < limit:
        QApplication.processEvents()
        time.sleep(0.02)
        now = places(panel)
        if now != last:
            last, since = now, time.monotonic()


def test_a_panel_that_must_scroll_is_laid_out_as_wide_as_one_that_need_not(
    four: Any, panel: Callable[[str], Any]
) -> None:
    four.window.resize(1280, 1400)
    edit = shown(panel("Edit"))
    area = edit.findChild(QScrollArea)
    widths = []
    for height in (1400, 600):
        edit.setFixedHeight(height)
        for _ in range(5):
            QApplication.processEvents()
        widths.append((area.verticalScrollBar().maximum() > 0, area.widget().width()))
    assert [needed for needed, _ in widths] == [False, True]
    assert widths[0][1] == widths[1][1]


@pytest.mark.parametrize("size", [(1280, 800), (1920, 1080)])
def test_panels_are_tabs_narrow_and_no_button_moves_when_a_message_comes(
    four: Any, panel: Callable[[str], Any], size: tuple[int, int]
) -> None:
    four.window.resize(*size)
    opened = {name: panel(name) for name in PANELS}
    QApplication.processEvents()
    for name, found in opened.items():
        shown(found)
        assert found.height() > size[1] - 250, name
        assert all(other.visibleRegion().isEmpty() for other in opened.values() if other is not found), name
        settle(found)  # what a panel finds out by itself beside the window has come
        before, width = places(found), found.width()
        for text in (LONG, "", "Short."):
            found.said.setText(text)
            if name == "Segment":
                found.warning.setText(text)
                found.warning.setVisible(bool(text))
                found.progress.setVisible(bool(text))
            if name == "Edit":
                found.accepting.said.setText(text)
            for _ in range(5):
                QApplication.processEvents()
            assert places(found) == before and found.width() == width, (name, text)
    for name, found in opened.items():  # tabs are as wide as the widest of them
        for box in found.findChildren(QComboBox):
            box.blockSignals(True)
            box.addItem("a_model_whose_name_is_" + 60 * "x")
            box.setCurrentIndex(box.count() - 1)
        assert shown(found).minimumSizeHint().width() <= 380, name
        for box in found.findChildren(QComboBox):
            box.removeItem(box.count() - 1)
            box.blockSignals(False)
    segment, edit = shown(opened["Segment"]), opened["Edit"]
    assert segment.minimumSizeHint().width() <= 360 and edit.minimumSizeHint().width() <= 380
    for button in (segment.run_button, segment.cancel_button, *segment.result_actions.findChildren(QPushButton)):
        assert button.visibleRegion().boundingRect().size() == button.size(), button.text()
    shown(edit)
    for button in (edit.undo_button, edit.redo_button, edit.save_button, edit.accepting.button):
        assert button.visibleRegion().boundingRect().size() == button.size(), button.text()
