"""Closing a window while work goes on or labels are unsaved: ask the user, stop the work, wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from qtpy.QtCore import QEvent, QEventLoop, QObject, Qt, QTimer
from qtpy.QtWidgets import QApplication, QLabel, QMainWindow, QMessageBox

from napari_meduniseg import _jobs, _process

_PATIENCE = 120.0  # seconds; a window of the largest network on a slow CPU takes some 30
_SHOWN_AFTER = 0.3  # seconds of waiting after which it is said what is waited for
_NAMED = 3


class Kept(Protocol):
    """Something that knows the unsaved labels of a viewer."""

    def is_under(self, window: QObject) -> bool:
        """Whether the viewer is in this window."""

    def unsaved(self) -> list[Any]:
        """The labels layers that are not saved."""

    def end(self) -> None:
        """Called when the viewer is closed normally."""


_KEPT: list[Callable[[], list[Kept]]] = []


def ask_about(kept: Callable[[], list[Kept]]) -> None:
    """Ask this one about unsaved labels from now on."""
    _KEPT.append(kept)


def guard_windows() -> None:
    """Make every existing main window ask before it closes, where there is a reason."""
    for window in QApplication.topLevelWidgets():
        if isinstance(window, QMainWindow) and window.findChild(CloseGuard) is None:
            CloseGuard(window)


class CloseGuard(QObject):
    """Asks when the user wants to close ``window``; programs that close it are not asked."""

    def __init__(self, window: QMainWindow) -> None:
        super().__init__(window)
        self._window = window
        self._agreed = False  # the question was answered: the close that follows goes through
        self._ending = False
        window.installEventFilter(self)
        # napari's File menu closes by this method, after a question of its own that knows nothing of our work
        self._close = window.close
        window.close = self._close_from_menu  # type: ignore[method-assign]

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Notice the close button of the window, and of the window manager."""
        # a filter hears its window to the last, when this object may be half gone
        if event.type() != QEvent.Type.Close or watched is not getattr(self, "_window", None):
            return False
        if self._ending:
            event.ignore()
            return True  # it is being waited: the second click changes nothing
        if event.spontaneous() and not self._agreed and self.reasons():
            event.ignore()
            QTimer.singleShot(0, self._ask_and_close)  # a question within an event of the window's would nest
            return True
        if self._agreed or not event.spontaneous():
            self._finish()
        return False

    def reasons(self) -> list[str]:
        """What would be lost, stopped or go on if the window were closed now, one sentence each."""
        window = self._window
        found = [f"{one.title} is running; it will be stopped." for one in _jobs.running()
                 if one.title and one.is_under(window)]  # fmt: skip
        if any(_jobs.is_under(command, window) for command in _process.running_commands()):
            found.append("A batch is running; it will be stopped. Cases that are finished stay.")
        unsaved = [layer for kept in self._kept() for layer in kept.unsaved()]
        if unsaved:
            names = ", ".join(layer.name for layer in unsaved[:_NAMED])
            more = f" and {len(unsaved) - _NAMED} more" if len(unsaved) > _NAMED else ""
            found.append(
                f"Not saved: {names}{more}. Edits stay for a week under 'Discarded edits' in the Edit panel; results "
                "that were not edited do not."
            )
        from meduniseg_core.adaptation.runs import runs  # late: training's packages take seconds to import

        training = [run.job.name for run in runs() if run.standing().phase == "running"]
        if training:
            found.append(f"The training {', '.join(training)} goes on when napari is closed.")
        return found

    def _ask(self) -> bool:
        box = QMessageBox(self._window)
        box.setIcon(QMessageBox.Icon.Warning)
        box.setWindowTitle("Close the window?")
        box.setText("\n\n".join(self.reasons()))
        close = box.addButton("Close", QMessageBox.ButtonRole.DestructiveRole)
        stay = box.addButton("Cancel", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(stay)
        box.setEscapeButton(stay)
        box.exec_() if hasattr(box, "exec_") else box.exec()
        return box.clickedButton() is close

    def _ask_and_close(self) -> None:
        if self._ask():
            self._agreed = True
            self._close()
            self._agreed = False

    def _close_from_menu(self, *arguments: Any, **options: Any) -> Any:
        if options.get("confirm_need") and self.reasons():
            if not self._ask():
                return None
            options["confirm_need"] = False  # one question is enough
        return self._close(*arguments, **options)

    def _kept(self) -> list[Kept]:
        return [kept for those in _KEPT for kept in those() if kept.is_under(self._window)]

    def _finish(self) -> None:
        """Stop what runs in this window and wait for it; keep what was edited."""
        if self._ending:
            return
        self._ending = True
        try:
            left: list[_jobs.Running | _process.Command] = [
                *(one for one in _jobs.running() if one.is_under(self._window)),
                *(command for command in _process.running_commands() if _jobs.is_under(command, self._window)),
            ]
            for one in left:
                one.cancel()
            self._wait(lambda: all(one.over for one in left))
            for kept in self._kept():
                kept.end()
        finally:
            self._ending = False

    def _wait(self, over: Callable[[], bool]) -> None:
        began, said = time.monotonic(), None
        while not over() and time.monotonic() - began < _PATIENCE:
            if said is None and time.monotonic() - began > _SHOWN_AFTER:
                said = QLabel("Stopping what is running ...", self._window, Qt.WindowType.SplashScreen)
                said.setMargin(24)
                said.show()
                said.move(self._window.geometry().center() - said.rect().center())
            QApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 50)
            time.sleep(0.01)
        if said is not None:
            said.close()
