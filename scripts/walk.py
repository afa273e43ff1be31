"""One walk through the window, from four open images to the closed window; ``walk.sh`` gives it a screen and a mouse.

Everything is done by the X server's own mouse and keys (xdotool) at the places where the widgets are on the screen; the
program is only looked at. Ends with exit code 1 at the first step that does not come out as the documentation says.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

OUT = Path(sys.argv[1])
HOME = Path(tempfile.mkdtemp())
os.environ["MEDUNISEG_HOME"] = str(HOME)
os.environ["NAPARI_CONFIG"] = str(HOME / "napari.yaml")

import napari  # noqa: E402 - after its settings' place
import numpy as np  # noqa: E402
from qtpy.QtCore import QPoint, QTimer  # noqa: E402
from qtpy.QtWidgets import QApplication, QComboBox, QMessageBox, QScrollArea, QWidget  # noqa: E402
from skimage.data import retina  # noqa: E402
from skimage.io import imsave  # noqa: E402

from meduniseg_core.corrections import Ledger  # noqa: E402
from meduniseg_core.images import Geometry, Image, read_image, read_labels, write_image  # noqa: E402
from napari_meduniseg import _autosave  # noqa: E402

_shots = 0


def wait(until: Callable[[], bool], seconds: float, what: str) -> None:
    """Let the program work until something is so."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            shot("trouble")
            sys.exit(f"{OUT.name}: {what} did not come within {seconds:.0f} s")
        QApplication.processEvents()
        time.sleep(0.01)


def pause(seconds: float = 0.4) -> None:
    """As people do."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end, seconds + 5, "time")


def check(fact: bool, what: str) -> None:
    """Stop where the program does not do what the documentation says."""
    print(f"{OUT.name}: {'ok  ' if fact else 'FAIL'} {what}", flush=True)
    if not fact:
        shot("trouble")
        sys.exit(1)


def xdo(*words: Any) -> None:
    """One order to the X server's mouse and keys."""
    order = subprocess.Popen(["xdotool", *map(str, words)])
    wait(lambda: order.poll() is not None, 30, f"xdotool {words}")
    pause()


def shot(name: str) -> None:
    """What the screen shows."""
    global _shots
    _shots += 1
    OUT.mkdir(parents=True, exist_ok=True)
    screen = QApplication.primaryScreen()
    screen.grabWindow(0).save(str(OUT / f"{_shots:02d}_{name}.png"))


def at(widget: QWidget, place: QPoint | None = None) -> QPoint:
    """Where it is on the screen, scrolled into sight."""
    above = widget.parentWidget()
    while above is not None:
        if isinstance(above, QScrollArea) and above.widget() is not None and above.widget().isAncestorOf(widget):
            above.ensureWidgetVisible(widget)
        above = above.parentWidget()
    pause(0.2)
    point = widget.mapToGlobal(place or widget.rect().center())
    screen = QApplication.primaryScreen().geometry()
    check(
        screen.contains(point) and widget.isVisible(), f"{type(widget).__name__} is in sight at {point.x()},{point.y()}"
    )
    return point


def click(widget: QWidget, place: QPoint | None = None) -> None:
    """A left click."""
    point = at(widget, place)
    xdo("mousemove", point.x(), point.y())
    xdo("click", 1)


def choose(box: QComboBox, text: str) -> None:
    """Open the list, click an entry."""
    row = next(row for row in range(box.count()) if text in box.itemText(row))
    if row == box.currentIndex():
        return
    click(box)
    view = box.view()
    wait(view.isVisible, 5, "the list")
    view.scrollTo(box.model().index(row, 0))
    pause(0.3)
    point = view.viewport().mapToGlobal(view.visualRect(box.model().index(row, 0)).center())
    xdo("mousemove", point.x(), point.y())
    xdo("click", 1)
    check(box.currentIndex() == row, f"'{text}' is chosen")


def drag(canvas: QWidget, points: list[tuple[float, float]]) -> None:
    """Press, move, release, at parts of the canvas."""
    places = [canvas.mapToGlobal(QPoint(int(x * canvas.width()), int(y * canvas.height()))) for x, y in points]
    xdo("mousemove", places[0].x(), places[0].y())
    xdo("mousedown", 1)
    for place in places[1:]:
        xdo("mousemove", place.x(), place.y())
    xdo("mouseup", 1)


def zoom_in(viewer: Any, canvas: QWidget, layer: Any) -> None:
    """Turn the wheel over the middle of a layer until it fills a good part of the canvas, and drag it to the middle."""
    low, high = layer.extent.world
    camera = viewer.scene.camera
    for _ in range(40):
        size = max(high[-2:] - low[-2:]) * camera.zoom
        away = ((low + high) / 2 - np.asarray(camera.center)[-layer.ndim :])[-2:] * camera.zoom
        place = canvas.mapToGlobal(QPoint(int(canvas.width() / 2 + away[1]), int(canvas.height() / 2 + away[0])))
        if size > 0.5 * canvas.height():
            break
        xdo("mousemove", place.x(), place.y())
        xdo("click", 4)
    middle = canvas.mapToGlobal(canvas.rect().center())
    xdo("mousemove", place.x(), place.y())
    xdo("mousedown", 1)
    xdo("mousemove", (place.x() + middle.x()) // 2, (place.y() + middle.y()) // 2)
    xdo("mousemove", middle.x(), middle.y())
    xdo("mouseup", 1)


def later(act: Callable[[], None], seconds: float = 1.5) -> None:
    """While a dialog is open this program stands within the click that opened it."""
    QTimer.singleShot(int(1000 * seconds), act)


def in_dialog(text: str) -> None:
    """Type into the dialog that is open, and Return; on the watch while its own loop runs."""
    shot("dialog")
    dialog = QApplication.activeModalWidget()
    if dialog is None:
        print(f"{OUT.name}: no dialog is open", flush=True)
        return
    words = ["xdotool", "windowfocus", str(int(dialog.winId())), "sleep", "0.5"]
    words += ["type", "--delay", "40", text] if text else []
    order = subprocess.Popen(words)

    def end() -> None:
        if order.poll() is None:
            later(end, 0.3)
        else:
            subprocess.Popen(["xdotool", "key", "Return"])

    later(end, 0.5)


def write_images(folder: Path) -> list[Path]:
    """Two scans of one size that lie obliquely, a third, and a fundus photograph."""
    paths = []
    for number, (shape, tilt) in enumerate([((24, 48, 40), 0.3), ((24, 48, 40), -0.2), ((20, 36, 50), 0.0)]):
        z, y, x = np.indices(shape)
        ball = sum((axis - size / 2) ** 2 for axis, size in zip((z, y, x), shape, strict=True)) < 64
        array = np.random.default_rng(number).normal(300, 40, shape) + 400 * ball
        c, s = np.cos(tilt), np.sin(tilt)
        affine = np.eye(4)
        affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])[:, ::-1] * (2.0, 1.0, 1.0)
        affine[:3, 3] = (10 * number, -20, 5)
        paths.append(folder / f"scan{number}.nii.gz")
        write_image(Image(array.astype(np.float32)[None], Geometry.from_affine(affine, shape)), paths[-1])
    paths.insert(1, folder / "fundus.png")
    imsave(paths[1], retina()[::2, ::2], check_contrast=False)
    return paths


def main() -> None:
    """The walk."""
    paths = write_images(HOME)
    viewer = napari.Viewer(title="walk")
    window = viewer.window._qt_window
    window.showMaximized()
    for path in paths:
        viewer.open(str(path), **({} if path.suffix == ".png" else {"plugin": "napari-meduniseg"}))
    _, panel = viewer.window.add_plugin_dock_widget("napari-meduniseg", "Segment")
    pause(3)
    shot("four_images")

    # quick start: the photograph that is not the topmost image, its modality, its task, Run
    photo = next(layer for layer in viewer.layers if layer.name == "fundus")
    choose(panel.form.image, "fundus")
    check(photo.visible and not viewer.layers[-1].visible, "the chosen image is seen alone")
    home = viewer.window._qt_viewer.viewerButtons.resetViewButton
    click(home)
    choose(panel.form.modality_box, "undus")
    tasks = panel.form.tasks
    row = next(row for row in range(tasks.count()) if "cup" in tasks.item(row).text().lower())
    box = tasks.visualItemRect(tasks.item(row))
    if not panel.form.chosen_plans():
        click(tasks.viewport(), QPoint(box.left() + 10, box.center().y()))
    check(bool(panel.form.chosen_plans()), "the task is ticked")
    place = at(panel.run_button)
    click(panel.run_button)
    wait(lambda: not panel.busy, 900, "the result")
    pause(1)
    check(at(panel.run_button) == place, "Run has not moved")
    labels = viewer.layers.selection.active
    check(
        labels.name.startswith("fundus") and labels.data.shape == photo.data.shape[:2], "the result is the photograph's"
    )
    shot("result")

    # correct it: the class, a stroke of the brush
    click(panel.actions.correct_button)
    pause(1)
    edit = next(w for w in window.findChildren(QWidget) if type(w).__name__ == "EditWidget")
    check(edit.isVisible() and edit.layer_box.currentText() == labels.name, "Edit has the result")
    table = edit.palette_table
    click(table.viewport(), table.visualItemRect(table.item(0, 0)).center())
    check(labels.mode == "paint" and viewer.layers.selection.active is labels, "the class brings the brush")
    before = np.array(labels.data)
    canvas = viewer.window._qt_viewer.canvas.native
    drag(canvas, [(0.45, 0.7), (0.5, 0.72), (0.55, 0.7)])
    painted = int((labels.data != before).sum())
    check(painted > 0, f"the mouse paints ({painted} pixels)")
    shot("painted")
    click(edit.undo_button)
    check(bool((labels.data == before).all()), "Undo takes the stroke back")
    click(edit.redo_button)
    check(int((labels.data != before).sum()) == painted, "Redo brings it again")
    click(edit.buttons["keep_largest"])
    wait(lambda: not edit.busy, 60, "the operation")
    shot("edited")

    # save it: Return in the file dialog
    later(lambda: in_dialog(""), 2)
    click(edit.save_button)
    wait(lambda: not edit.save_button.busy and edit.said.text().startswith("Saved"), 60, "the file")
    saved = next(HOME.glob("fundus*cup*.png"))
    check(bool((read_labels(saved).array[0, 0] == labels.data).all()), f"{saved.name} holds what the window shows")

    # a layer of one's own on an oblique scan: napari's button, a class, the brush, saved on the scan's grid
    choose(edit.image_box, "scan0")
    scan = next(layer for layer in viewer.layers if layer.name.startswith("scan0"))
    check(scan.visible and not photo.visible, "the scan is seen alone")
    click(home)
    viewer.layers.selection.active = scan
    zoom_in(viewer, canvas, scan)
    shot("zoomed_in")
    click(viewer.window._qt_viewer.viewerButtons.parent().findChild(QWidget, "new_labels") or new_labels_button(window))
    own = viewer.layers.selection.active
    check(own.name.startswith("scan0"), f"new labels '{own.name}' lie on the scan")
    later(lambda: in_dialog("lesion"), 2)
    click(edit.class_button)
    pause(1)
    drag(canvas, [(0.48, 0.5), (0.52, 0.52)])
    check(bool((own.data == 1).any()), "the class is painted")
    later(lambda: in_dialog(""), 2)
    click(edit.save_button)
    wait(lambda: not edit.save_button.busy and edit.said.text().startswith("Saved"), 60, "the file")
    saved = HOME / "scan0_-_Labels.nii.gz"
    check(saved.is_file(), "labels of one's own are proposed beside their image, too")
    check(
        read_labels(saved).geometry.is_close(read_image(paths[0]).geometry, 1e-3), f"{saved.name} is on the scan's grid"
    )
    check("no image" not in edit.said.text(), "nothing had to be guessed")
    shot("own_labels")

    # accept it
    task = edit.accepting.task
    if task.isVisible():
        click(task)
        xdo("key", "ctrl+a")
        xdo("type", "--delay", "40", "lesion")
    choose(edit.accepting.modality, "MR")
    click(edit.accepting.button)
    wait(lambda: not edit.accepting.busy and "Accepted" in edit.accepting.said.text(), 60, "the acceptance")
    (entry,) = Ledger.open(HOME / "corrections" / "lesion").cases().values()
    check(entry.source == "scan0.nii.gz", "the scan that was shown is in the collection")
    shot("accepted")

    # learn, and review, each as a tab
    for name in ("Learn", "Review"):
        viewer.window.add_plugin_dock_widget("napari-meduniseg", name, tabify=True)
        pause(2)
        shot(name.lower())

    # close it with a stroke that is not saved: the question names it, and the edit can be brought back
    click_tab = next(w for w in window.findChildren(QWidget) if type(w).__name__ == "EditWidget")
    click_tab.parent().raise_() if hasattr(click_tab.parent(), "raise_") else None
    viewer.layers.selection.active = own
    own.mode = "paint"
    drag(canvas, [(0.4, 0.4), (0.45, 0.45)])
    asked: list[str] = []

    def answer() -> None:
        box = QApplication.activeModalWidget()
        if isinstance(box, QMessageBox):
            asked.append(box.text())
            shot("closing")
            button = next(one for one in box.buttons() if one.text().replace("&", "") == "Close")
            point = button.mapToGlobal(button.rect().center())
            subprocess.Popen(["xdotool", "mousemove", str(point.x()), str(point.y()), "click", "1"])

    later(answer, 3)
    xdo("windowfocus", int(window.winId()))
    xdo("key", "alt+F4")
    wait(lambda: not is_there(window), 60, "the end of the window")
    check(bool(asked) and own.name in asked[0], f"closing asks: {asked}")
    check(own.name in [kept.name for kept in _autosave.binned()], "the stroke can be brought back")


def is_there(window: QWidget) -> bool:
    """Whether the window is open; napari deletes it when it is closed."""
    try:
        return bool(window.isVisible())
    except RuntimeError:
        return False


def new_labels_button(window: QWidget) -> QWidget:
    """napari's own, by its tooltip."""
    return next(w for w in window.findChildren(QWidget) if "new labels" in w.toolTip().lower())


main()
print(f"{OUT.name}: walked, {_shots} screenshots in {OUT}")
