"""A user of the window: looks at it, and acts on it by the X server's mouse and keys (xdotool) alone.

A user sits in a thread of its own, so that the program runs as it always does, with its dialogs and menus open as long
as they are. What it looks up in Qt (where a button is, what a label says) it looks up in the GUI's thread.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import napari
import numpy as np
from napari.layers import Layer
from qtpy.QtCore import QObject, QPoint, Qt, QThread, Signal
from qtpy.QtGui import QAction
from qtpy.QtWidgets import (
    QApplication,
    QComboBox,
    QDialog,
    QDockWidget,
    QFileDialog,
    QLabel,
    QLineEdit,
    QMenu,
    QMessageBox,
    QPushButton,
    QScrollArea,
    QTabBar,
    QTableWidget,
    QWidget,
)

Found = TypeVar("Found")

LONG = 900
"""Seconds that the network may take, on a machine that has other work to do."""

_GUI_SECONDS = 120
_SETTLE = 0.25  # as people do
_MOMENT = 5.0


class TroubleError(Exception):
    """The program did not do what the documentation says."""


class _Gui(QObject):
    """Runs what other threads ask for in the thread that makes it, the GUI's.

    One object for the whole walk: superqt's ``ensure_main_thread`` makes one for each call, which the asking thread may
    delete while Qt still delivers to it (seen as a crash on a busy machine).
    """

    _asked = Signal(object, object)

    def __init__(self) -> None:
        super().__init__()
        self._asked.connect(self._answer, Qt.ConnectionType.QueuedConnection)

    def run(self, act: Callable[[], Found]) -> Found:
        if QThread.currentThread() is self.thread():
            return act()
        answer: Future[Found] = Future()
        self._asked.emit(act, answer)
        return answer.result(timeout=_GUI_SECONDS)

    def _answer(self, act: Callable[[], Found], answer: Future[Found]) -> None:
        answer.set_result(act())


class User:
    """Made in the GUI's thread; ``name`` stands before every line; screenshots go to ``shots``."""

    def __init__(self, name: str, shots: Path, day: int) -> None:
        self._gui = _Gui()
        self._name, self._shots, self._day, self._count = name, shots, day, 0
        shots.mkdir(parents=True, exist_ok=True)

    # -- looking --------------------------------------------------------------------------------------------------

    def look(self, at: Callable[[], Found]) -> Found:
        """Look something up in the GUI's thread."""

        def act() -> tuple[Any, Exception | None]:
            try:
                return at(), None
            except Exception as error:  # it belongs to the user's thread
                return None, error

        found, error = self._gui.run(act)
        if error is not None:
            raise error
        return found

    def wait(self, until: Callable[[], Any], seconds: float, what: str) -> None:
        """Until something is so."""
        end = time.monotonic() + seconds
        while not self.look(until):
            if time.monotonic() > end:
                raise TroubleError(f"{what} did not come within {seconds:.0f} s")
            time.sleep(0.05)

    def pause(self, seconds: float = _SETTLE) -> None:
        """Let the program show what it does."""
        time.sleep(seconds)
        self.look(lambda: None)

    def check(self, fact: Callable[[], Any], what: str) -> None:
        """The walk ends where the program does not do what the documentation says; a busy machine may need a moment."""
        if not self._within_a_moment(fact):
            raise TroubleError(what)
        self.say(f"ok   {what}")

    def _within_a_moment(self, fact: Callable[[], Any]) -> bool:
        end = time.monotonic() + _MOMENT
        while not self.look(fact):
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def settled(self, at: Callable[[], Found]) -> Found:
        """Look something up once what was done to it has arrived: when it has been the same for a second."""
        found = self.look(at)
        while True:
            self.pause(1)
            now = self.look(at)
            if now == found:
                return now
            found = now

    def say(self, line: str) -> None:
        """A line of what happens."""
        print(f"{self._name}: {line}", flush=True)

    def shot(self, name: str) -> None:
        """Keep what the screen shows; a text that is shown without any room is a fault that a picture does not tell."""
        hidden = self.look(self._texts_without_room)
        if hidden:
            raise TroubleError(f"{name}: these texts have no room: {hidden}")
        self._count += 1
        path = self._shots / f"{self._day}_{self._count:02d}_{name}.png"
        self.look(lambda: QApplication.primaryScreen().grabWindow(0).save(str(path)))

    def _texts_without_room(self) -> list[str]:
        """Of this program's own panels."""
        panels = [dock for dock in self.window.findChildren(QDockWidget) if "MedUniSeg" in dock.windowTitle()]
        return [label.text() for dock in panels for label in dock.findChildren(QLabel) if _has_no_room(label)]

    @property
    def viewer(self) -> napari.Viewer:
        """napari's."""
        viewer = napari.current_viewer()
        assert viewer is not None
        return viewer

    @property
    def window(self) -> Any:
        """The main window."""
        return self.viewer.window._qt_window

    @property
    def canvas(self) -> QWidget:
        """Where the images are."""
        return self.viewer.window._qt_viewer.canvas.native

    def panel(self, kind: str) -> Any:
        """A panel that is open, by its name in the menu."""

        def find() -> list[QWidget]:
            return [one for one in self.window.findChildren(QWidget) if type(one).__name__ == f"{kind}Widget"]

        self.wait(find, 30, f"the panel {kind}")
        return self.look(find)[0]

    def layer(self, name: str) -> Any:
        """A layer by its name."""
        return self.look(lambda: self.viewer.layers[name])

    # -- the mouse and the keys -----------------------------------------------------------------------------------

    def act(self, *words: Any, settle: float = _SETTLE) -> None:
        """One order to the X server's mouse and keys."""
        subprocess.run(["xdotool", *map(str, words)], check=True, timeout=60)
        self.pause(settle)

    def keys(self, *names: str) -> None:
        """Press keys."""
        self.act("key", "--delay", 60, *names)

    def type(self, text: str) -> None:
        """Type a text."""
        self.act("type", "--delay", 15, text)

    def point(self, place: QPoint, *, settle: float = _SETTLE) -> None:
        """Move the mouse to a place of the screen."""
        self.act("mousemove", place.x(), place.y(), settle=settle)

    def place(self, widget: QWidget, where: Callable[[], QPoint] | None = None) -> QPoint:
        """Where a widget (or a spot of it) is on the screen, scrolled into sight; what one sees there must be it."""
        spot = where or (lambda: widget.rect().center())
        self._scroll_to(widget, spot)
        found = self.look(lambda: widget.mapToGlobal(spot()))

        def is_there() -> bool:
            top = QApplication.widgetAt(found)
            return top is not None and (top is widget or widget.isAncestorOf(top) or top.isAncestorOf(widget))

        if not self._within_a_moment(is_there):
            what = self.look(lambda: f"{type(widget).__name__} '{getattr(widget, 'text', str)()}'")
            raise TroubleError(f"{what} is not in sight at {found.x()},{found.y()}")
        return found

    def click(
        self, widget: QWidget, where: Callable[[], QPoint] | None = None, button: int = 1, times: int = 1
    ) -> None:
        """Click on a widget, or on a spot of it."""
        self.point(self.place(widget, where))
        self.act("click", "--repeat", times, "--delay", 60, button)

    def press(self, button: Any) -> None:
        """Click a button that is enabled."""
        self.wait(button.isEnabled, 30, f"the button {self.look(button.text)}")
        self.click(button)

    def drag(self, spots: Sequence[tuple[float, float]]) -> None:
        """Press, move and release at parts of the canvas, (across, down)."""
        places = [self.look(lambda x=x, y=y: self._on_canvas(x, y)) for x, y in spots]
        self.point(places[0])
        self.act("mousedown", 1)
        for place in places[1:]:
            self.point(place)
        self.act("mouseup", 1)

    def wheel(self, clicks: int, *held: str) -> None:
        """Turn the wheel over the canvas, with keys held; up for positive."""
        if not clicks:
            return
        self.point(self.look(lambda: self._on_canvas(0.5, 0.5)))
        for key in held:
            self.act("keydown", key)
        self.act("click", "--repeat", abs(clicks), "--delay", 80, 4 if clicks > 0 else 5)
        for key in held:
            self.act("keyup", key)

    # -- parts of the window --------------------------------------------------------------------------------------

    def choose(self, box: QComboBox, text: str) -> None:
        """Open a list and click an entry."""

        def row_of() -> int:
            return next((row for row in range(box.count()) if text in box.itemText(row)), -1)

        self.wait(lambda: row_of() >= 0, 30, f"'{text}' in a list")
        row, now = self.look(row_of), self.look(box.currentIndex)
        if row == now:
            return
        view = box.view()
        for _ in range(3):  # on a slow machine a click counts as a press, and a release over the entry that is chosen
            self.click(box)
            self.pause(0.5)
            if self.look(view.isVisible):
                break
        entry = self.look(lambda: view.visualRect(box.model().index(row, 0)).center())
        if self.look(lambda: view.viewport().rect().contains(entry)):
            self.point(self.look(lambda: view.viewport().mapToGlobal(entry)))
            self.act("click", 1)
        else:
            self.keys(*(["Down" if row > now else "Up"] * abs(row - now)), "Return")
        self.check(lambda: text in box.currentText(), f"'{text}' is chosen")

    def enter(self, field: QWidget, text: str) -> None:
        """Click into a field and type over what it holds."""
        self.click(field)
        self.check_focus(field)
        self.keys("ctrl+a")
        self.type(text)
        self.check_focus(field)
        inner = field if isinstance(field, QLineEdit) else field.findChild(QLineEdit)
        if not self._within_a_moment(lambda: inner.text().split()[:1] == text.split()[:1]):
            raise TroubleError(f"'{text}' was typed and the field holds '{self.look(inner.text)}'")
        self.keys("Tab")

    def check_focus(self, field: QWidget) -> None:
        """What is typed must go where one has clicked."""
        if not self._within_a_moment(field.hasFocus):
            raise TroubleError(f"the keyboard went to {self.look(QApplication.focusWidget)}")

    def tick_row(self, table: QTableWidget, row: int, column: int = 0) -> None:
        """Click a cell."""
        self.click(table.viewport(), lambda: table.visualItemRect(table.item(row, column)).center())

    def menu(self, *titles: str) -> None:
        """Click through the menu bar."""
        bar = self.window.menuBar()
        action = self.look(lambda: _action(bar.actions(), titles[0]))
        self.click(bar, lambda: bar.actionGeometry(action).center())
        for title in titles[1:]:
            menu = self.look(action.menu)
            self.wait(menu.isVisible, 10, f"the menu {self.look(menu.title)}")
            action = self.look(lambda menu=menu, title=title: _action(menu.actions(), title))
            self._click_in_menu(menu, action)

    def choose_in(self, menu: QMenu, text: str) -> None:
        """Click an entry of a menu that a button has opened."""
        self.wait(menu.isVisible, 10, "the menu")
        self._click_in_menu(menu, self.look(lambda: _action(menu.actions(), text)))

    def tab(self, title: str) -> None:
        """Bring a panel to the front by its tab; a panel alone in its place has none."""

        def find() -> tuple[QTabBar, int] | None:
            for bar in self.window.findChildren(QTabBar):
                for index in range(bar.count()):
                    if bar.tabText(index).startswith(title) and bar.isVisible():
                        return bar, index
            return None

        self.wait(find, 10, f"the tab {title}")
        bar, index = self.look(find) or (None, 0)
        assert bar is not None
        self.click(bar, lambda: bar.tabRect(index).center())
        self.pause(0.5)

    def select(self, layer: Layer) -> None:
        """Click a layer's row in napari's list."""
        rows = self.viewer.window._qt_viewer.layers

        def place() -> QPoint:
            model = rows.model()
            index = next(
                index
                for index in (model.index(row, 0) for row in range(model.rowCount()))
                if index.data() == layer.name
            )
            return rows.visualRect(index).center()

        self.click(rows.viewport(), place)

    def controls(self, layer: Layer) -> Any:
        """napari's buttons of a layer."""
        return self.viewer.window._qt_viewer.controls.widgets[layer]

    def zoom_in(self, layer: Layer) -> None:
        """Turn the wheel over the middle of a layer until it fills a good part of the canvas, and drag it there."""
        low, high = self.look(lambda: np.asarray(layer.extent.world))

        def middle() -> QPoint:
            camera = self.viewer.scene.camera
            away = ((low + high) / 2 - np.asarray(camera.center)[-layer.ndim :])[-2:] * camera.zoom
            canvas = self.canvas
            return canvas.mapToGlobal(QPoint(int(canvas.width() / 2 + away[1]), int(canvas.height() / 2 + away[0])))

        def large() -> bool:
            return max(high[-2:] - low[-2:]) * self.viewer.scene.camera.zoom > 0.5 * self.canvas.height()

        for _ in range(40):
            if self.look(large):
                break
            self.point(self.look(middle), settle=0.05)
            self.act("click", 4, settle=0.1)
        start, end = self.look(middle), self.look(lambda: self._on_canvas(0.5, 0.5))
        if (start - end).manhattanLength() < 4:
            return
        self.point(start)
        self.act("mousedown", 1)
        self.point((start + end) / 2)
        self.point(end)
        self.act("mouseup", 1)

    # -- dialogs --------------------------------------------------------------------------------------------------

    def dialog(self, kind: type[QDialog] = QDialog) -> Any:
        """The dialog that is open, once it has the keyboard."""

        def find() -> QWidget | None:
            found = QApplication.activeModalWidget()
            return found if isinstance(found, kind) and found.isVisible() else None

        self.wait(find, 30, "the dialog")
        self.pause(0.5)
        dialog = self.look(find)
        self.wait(lambda: dialog.isActiveWindow() or dialog.activateWindow(), 10, "the keyboard in the dialog")
        return dialog

    def back(self) -> None:
        """Until the window has the keyboard again, after a dialog."""
        self.wait(lambda: QApplication.activeModalWidget() is None and self.window.isActiveWindow(), 10, "the window")
        self.pause(0.5)

    def answer_file(self, path: Path | None = None) -> Path:
        """Type a path into the file dialog (or take what it proposes), and Return; what was chosen."""
        dialog = self.dialog(QFileDialog)
        field = dialog.findChild(QLineEdit)

        def named() -> Path:
            return Path(dialog.directory().absolutePath()) / field.text()

        for _ in range(3 if path else 0):  # while it lists a folder, Qt's dialog may replace what is being typed
            self.keys("ctrl+a")
            self.type(str(path))
            self.pause(0.5)
            if self.look(named) == path:
                break
        name = self.look(named)
        self.check(lambda: path is None or name == path, f"the file dialog names {name.name}")
        self.shot("file_dialog")
        self.keys("Return")
        self.wait(lambda: QApplication.activeModalWidget() is not dialog, 10, "the end of the file dialog")
        return name

    def answer(self, button: str) -> str:
        """Press a button of the question that is open; what it asked. Nothing is looked at after the click: it may end
        the program."""
        box = self.dialog(QMessageBox)
        asked = self.look(box.text)
        self.shot("question")
        found = self.look(lambda: next(one for one in box.buttons() if one.text().replace("&", "") == button))
        self.point(self.place(found))
        subprocess.run(["xdotool", "click", "1"], check=True, timeout=60)
        return asked

    def button_in(self, dialog: QWidget, text: str) -> QPushButton:
        """A button of a dialog by its text."""
        return self.look(
            lambda: next(one for one in dialog.findChildren(QPushButton) if one.text().replace("&", "") == text)
        )

    # -- the rest -------------------------------------------------------------------------------------------------

    def _click_in_menu(self, menu: QMenu, action: QAction) -> None:
        place = self.look(lambda: menu.mapToGlobal(menu.actionGeometry(action).center()))
        self.point(place)
        self.act("click", 1)

    def _on_canvas(self, x: float, y: float) -> QPoint:
        canvas = self.canvas
        return canvas.mapToGlobal(QPoint(int(x * canvas.width()), int(y * canvas.height())))

    def _scroll_to(self, widget: QWidget, spot: Callable[[], QPoint]) -> None:
        """Turn the wheel over the panel until the spot can be seen."""
        area = self.look(lambda: _area_around(widget))
        if area is None:
            return
        view = area.viewport()

        def way() -> int:
            """Which way the wheel is to be turned."""
            y, low = widget.mapTo(view, spot()).y(), min(16, view.height() // 3)
            return 1 if y < low else -1 if y > view.height() - low else 0

        for _ in range(60):
            turn = self.look(way)
            if not turn:
                return
            self.point(self.look(lambda: view.mapToGlobal(QPoint(view.width() - 8, view.height() // 2))), settle=0.05)
            self.act("click", 4 if turn > 0 else 5, settle=0.1)


def as_user(walk: Callable[[], None]) -> threading.Thread:
    """Begin the walk in a thread, as soon as the program's window is there."""

    def begin() -> None:
        while QApplication.instance() is None or not QApplication.topLevelWidgets():
            time.sleep(0.1)
        walk()

    thread = threading.Thread(target=begin, name="user", daemon=True)
    thread.start()
    return thread


def _area_around(widget: QWidget) -> QScrollArea | None:
    above = widget.parentWidget()
    while above is not None and not isinstance(above, QDockWidget):
        if isinstance(above, QScrollArea) and above.widget() is not None and above.widget().isAncestorOf(widget):
            return above
        above = above.parentWidget()
    return None


def _has_no_room(label: QLabel) -> bool:
    around = label.parentWidget()  # of a closed part, "Advanced", nothing has room
    opened = around is not None and min(around.width(), around.height()) >= 4
    return opened and label.isVisible() and bool(label.text().strip()) and min(label.width(), label.height()) < 4


def _action(actions: Sequence[QAction], title: str) -> QAction:
    return next(action for action in actions if action.text().replace("&", "").startswith(title))
