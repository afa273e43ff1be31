"""Opening images, segmenting one of them, correcting and accepting it; labels of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image
from qtpy.QtCore import QPoint
from qtpy.QtWidgets import QApplication, QDialog, QRadioButton, QWidget

from meduniseg_core.corrections import Ledger
from meduniseg_core.images import read_image, read_labels
from walking.images import Images
from walking.user import LONG, User


def open_images(user: User, images: Images) -> None:
    """The first came with the command; the others by the File menu."""
    user.act("mousemove", *_title_bar(user))
    user.act("click", "--repeat", 2, "--delay", 100, 1)  # the window manager makes the window as large as the screen
    user.wait(lambda: user.window.isMaximized(), 10, "the maximised window")
    for path in (images.scan(0), images.scan(1), images.left_eye):
        open_file(user, path)
    user.check(lambda: len(user.viewer.layers) == 4, "four images are open")
    user.shot("four_images")


def open_file(user: User, path: Path) -> None:
    """File > Open File(s)..., as MedUniSeg where napari asks."""
    before = user.look(lambda: len(user.viewer.layers))
    user.keys("ctrl+o")
    user.answer_file(path)

    def asked() -> QDialog | None:
        found = QApplication.activeModalWidget()
        return found if isinstance(found, QDialog) and found.objectName() == "Choose reader" else None

    user.wait(lambda: asked() or len(user.viewer.layers) > before, 30, f"{path.name} or a question")
    dialog = user.look(asked)
    if dialog is not None:
        user.dialog()
        readers = user.look(lambda: dialog.findChildren(QRadioButton))
        user.click(user.look(lambda: next(one for one in readers if "MedUniSeg" in one.text())))
        user.shot("which_reader")
        user.press(user.button_in(dialog, "OK"))
    user.wait(lambda: len(user.viewer.layers) > before, 60, f"the layer of {path.name}")


def tick_cup(user: User, form: Any) -> None:
    """Tick the task of the optic cup, where it is not the only one and so ticked already."""
    tasks = form.tasks
    row = user.look(lambda: next(n for n in range(tasks.count()) if "cup" in tasks.item(n).text().lower()))
    if not user.look(form.chosen_plans):
        box = user.look(lambda: tasks.visualItemRect(tasks.item(row)))
        user.click(tasks.viewport(), lambda: QPoint(box.left() + 10, box.center().y()))
    user.check(form.chosen_plans, "the task is ticked")


def segment(user: User, image: str) -> Any:
    """Choose an image, its modality and task, and Run; the labels."""
    panel = user.panel("Segment")
    form = panel.form
    if user.look(lambda: form.image.currentText()) != image:  # the one that was opened last is the current one
        user.choose(form.image, image)
        user.check(lambda: _seen(user) == [image], f"{image} is seen alone")
    home(user)
    user.choose(form.modality_box, "undus")
    tick_cup(user, form)
    before = user.look(lambda: list(user.viewer.layers))
    user.wait(panel.run_button.isEnabled, 10, "Run")
    place = user.place(panel.run_button)
    user.press(panel.run_button)
    user.wait(lambda: not panel.busy and len(user.viewer.layers) > len(before), LONG, "the result")
    user.pause(1)
    if user.look(user.window.isMaximized):  # napari makes a small window higher for the controls of a labels layer
        user.check(lambda: panel.run_button.mapToGlobal(panel.run_button.rect().center()) == place, "Run has not moved")
    labels = user.look(lambda: next(one for one in user.viewer.layers if one not in before))
    picture = user.layer(image)
    user.check(
        lambda: labels.name.startswith(image) and labels.data.shape == picture.data.shape[:2] and labels.visible,
        f"the result is that of {image}",
    )
    user.check(lambda: user.viewer.layers.selection.active is labels, "the result is the active layer")
    user.shot("result")
    return labels


def correct(user: User, labels: Any) -> Any:
    """Correct ..., a class, a stroke, Undo and Redo, an operation; the Edit panel."""
    user.press(user.panel("Segment").result_actions.correct_button)
    edit = user.panel("Edit")
    user.pause(1)
    user.check(lambda: edit.isVisible() and edit.layer_box.currentText() == labels.name, "Edit has the result")
    user.tick_row(edit.palette_table, 0)
    user.check(
        lambda: labels.mode == "paint" and user.viewer.layers.selection.active is labels, "the class brings the brush"
    )
    before = user.look(lambda: np.array(labels.data))
    user.drag([(0.45, 0.7), (0.5, 0.72), (0.55, 0.7)])
    painted = user.settled(lambda: int((labels.data != before).sum()))
    user.check(lambda: painted > 0, f"the mouse paints ({painted} pixels)")
    user.shot("painted")
    user.press(edit.undo_button)
    user.check(lambda: (labels.data == before).all(), "Undo takes the stroke back")
    user.press(edit.redo_button)
    user.check(lambda: (labels.data != before).sum() == painted, "Redo brings it again")
    operate(user, edit, "keep_largest")
    user.check(lambda: (labels.data != before).sum() < painted + 1, "Keep largest erases the stroke, which is apart")
    return edit


def grow(user: User, edit: Any, labels: Any) -> None:
    """The rim grows into the background only, then also over the cup."""
    user.tick_row(edit.palette_table, 1)
    rim = user.look(lambda: int(labels.selected_label))
    user.choose(edit.over_box, "Background only")
    user.enter(edit.amount, "6")
    before = user.look(lambda: np.array(labels.data))
    operate(user, edit, "grow")
    user.check(
        lambda: (
            (labels.data == rim).sum() > (before == rim).sum()
            and (labels.data[(before > 0) & (before != rim)] == before[(before > 0) & (before != rim)]).all()
        ),
        "Grow leaves the neighbouring class alone",
    )
    user.shot("grown")


def operate(user: User, edit: Any, name: str) -> None:
    """One of Edit's operations."""
    said, changes = user.look(lambda: (edit.said.text(), edit._changes))
    user.press(edit.buttons[name])
    user.wait(lambda: edit.busy or (edit.said.text(), edit._changes) != (said, changes), 30, f"the beginning of {name}")
    user.wait(lambda: not edit.busy, 60, name)


def save(user: User, edit: Any, labels: Any) -> Path:
    """Save ..., and Return in the file dialog; the file, which holds what the window shows."""
    user.press(edit.save_button)
    path = user.answer_file()
    user.wait(lambda: not edit.save_button.busy and edit.said.text().startswith("Saved"), 60, "the file")
    written = read_labels(path)
    array = user.look(lambda: np.array(labels.data))
    user.check(
        lambda: written.array[0].size == array.size and (np.bincount(written.array.ravel().astype(int))
                                                         == np.bincount(array.ravel().astype(int))).all(),
        f"{path.name} holds what the window shows",
    )  # fmt: skip
    user.check(lambda: "no image" not in edit.said.text(), "nothing had to be guessed")
    return path


def accept(user: User, edit: Any, held_back: bool, task: str = "", modality: str = "") -> None:
    """Accept; a task of one's own gets a name and its modality."""
    box = edit.accepting
    user.wait(lambda: not box.busy, 30, "the list of collections")
    if task:
        user.enter(box.task, task)
        user.choose(box.modality, modality)
    user.press(box.button)
    user.wait(lambda: not box.busy and "Accepted" in box.said.text(), 60, "the acceptance")
    side = "held back" if held_back else "for training"
    user.check(lambda: side in box.said.text(), f"it says: {user.look(box.said.text)}")
    user.shot("accepted")


def accepted(user: User, images: Images, task: str, source: Path) -> None:
    """The image that was shown is in the collection."""
    cases = Ledger.open(images.home / "corrections" / task).cases().values()
    user.check(lambda: source.name in [entry.source for entry in cases], f"{source.name} is in the collection {task}")


def own_labels(user: User, edit: Any, image: str, class_name: str) -> Any:
    """A layer of one's own on an image: napari's button, a class."""
    user.choose(edit.image_box, image)
    scan = user.layer(image)
    user.check(lambda: _seen(user) == [image], f"{image} is seen alone")
    home(user)
    user.zoom_in(scan)
    middle = user.look(lambda: scan.data.shape[0] // 2)
    go_to_slice(user, middle)
    user.check(lambda: user.viewer.dims.current_step[0] == middle, f"slice {middle} is shown")
    before = user.look(lambda: len(user.viewer.layers))
    user.click(_new_labels_button(user))
    user.wait(lambda: len(user.viewer.layers) > before, 30, "the new labels")
    own = user.look(lambda: user.viewer.layers.selection.active)
    user.check(lambda: own.name.startswith(image), f"new labels '{own.name}' lie on it")
    user.check(lambda: edit.layer_box.currentText() == own.name, "Edit has them")
    user.press(edit.class_button)
    user.dialog()
    user.type(class_name)
    user.shot("new_class")
    user.keys("Return")
    user.wait(lambda: own.mode == "paint", 10, "the brush")
    user.back()
    return own


def paint_ball(user: User, edit: Any, own: Any, image: str) -> None:
    """A ball in 3D, kept to the bright voxels."""
    array = user.look(lambda: np.array(user.layer(image).data))
    user.click(edit.ball, lambda: QPoint(10, edit.ball.height() // 2))
    user.check(lambda: own.mode == "pan_zoom", "the ball takes clicks, not napari's brush")
    user.enter(edit.radius, "12")
    user.click(edit.range_on, lambda: QPoint(10, edit.range_on.height() // 2))
    user.enter(edit.low, "500")
    user.enter(edit.high, "900")
    user.drag([(0.5, 0.5)])
    user.pause(0.5)
    bright = (array >= 500) & (array <= 900)
    user.check(lambda: (own.data == 1).any(axis=(1, 2)).sum() >= 7, "a click paints in several slices")
    user.check(lambda: not (own.data[~bright] == 1).any(), "and only what is bright")
    user.check(lambda: (own.data == 1).sum() > 0.9 * bright.sum(), "which is the whole lesion")
    user.shot("ball")
    user.click(edit.ball, lambda: QPoint(10, edit.ball.height() // 2))


def fill_between(user: User, edit: Any, own: Any) -> None:
    """The brush on two slices, and what lies between them."""
    user.tick_row(edit.palette_table, 0)
    user.check(lambda: own.mode == "paint", "the class brings the brush")
    user.drag([(0.48, 0.5), (0.52, 0.52)])
    user.wheel(4, "ctrl")
    user.drag([(0.48, 0.52), (0.52, 0.5)])
    drawn = user.settled(lambda: np.flatnonzero((own.data == 1).any(axis=(1, 2))).tolist())
    user.check(lambda: len(drawn) == 2 and drawn[1] - drawn[0] > 1, f"two slices are painted: {drawn}")
    operate(user, edit, "fill_between")
    now = user.look(lambda: np.flatnonzero((own.data == 1).any(axis=(1, 2))).tolist())
    user.check(lambda: now == list(range(drawn[0], drawn[1] + 1)), f"Fill between slices fills {now}")
    user.wheel(-2, "ctrl")
    user.shot("filled_between")


def go_to_slice(user: User, number: int) -> None:
    """Turn the wheel with Ctrl over the canvas."""
    for _ in range(20):
        now = user.look(lambda: user.viewer.dims.current_step[0])
        if now == number:
            return
        user.wheel(now - number, "ctrl")


def on_the_grid_of(user: User, labels: Path, image: Path) -> None:
    """A saved file lies where its image lies."""
    user.check(
        lambda: read_labels(labels).geometry.is_close(read_image(image).geometry, 1e-3), f"{labels.name} is on its grid"
    )


def home(user: User) -> None:
    """napari's home button."""
    user.click(user.viewer.window._qt_viewer.viewerButtons.resetViewButton)


def _seen(user: User) -> list[str]:
    return [one.name for one in user.viewer.layers if one.visible and isinstance(one, Image)]


def _new_labels_button(user: User) -> QWidget:
    return user.look(lambda: next(w for w in user.window.findChildren(QWidget) if "new labels" in w.toolTip().lower()))


def _title_bar(user: User) -> tuple[int, int]:
    frame, inner = user.look(user.window.frameGeometry), user.look(user.window.geometry)
    return frame.center().x(), (frame.top() + inner.top()) // 2
