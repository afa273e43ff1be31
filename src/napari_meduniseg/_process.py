"""The only processes: the ``meduniseg`` command beside the viewer, which reports in JSON lines.

Memory and device are free again when it ends, and everything that the GUI does this way can be done on the command
line.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

from qtpy.QtCore import QObject, QProcess, QTimer, Signal

from meduniseg_core.structured_text import parse_json

_STOP_MS = 15_000  # a command that was asked to stop gets this long


_STARTED: WeakSet[Command] = WeakSet()


def running_commands() -> list[Command]:
    """All commands that have not ended."""
    return [command for command in _STARTED if not command.over]


class Command(QObject):
    """The command ``meduniseg ARGUMENTS... --json --progress json``.

    ``reported`` brings each event as a dict; ``finished`` brings the result (None where there is none) and the exit
    code.
    """

    reported = Signal(dict)
    finished = Signal(object, int)

    def __init__(self, arguments: Sequence[str], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._arguments = [*arguments, "--json", "--progress", "json"]
        self._process = QProcess(self)
        self._process.readyReadStandardError.connect(self._read)
        self._process.finished.connect(self._finish)
        self._process.errorOccurred.connect(self._broken)
        self._rest = b""
        self._over = False

    @property
    def text(self) -> str:
        """The command as one would type it."""
        return shlex.join(["meduniseg", *self._arguments[:-3]])

    def start(self) -> None:
        """Begin."""
        _STARTED.add(self)
        self._process.start(sys.executable, ["-m", "training_cli", *self._arguments])

    @property
    def over(self) -> bool:
        """Whether the process has ended, or was never started."""
        try:
            return bool(self._process.state() == QProcess.ProcessState.NotRunning)
        except RuntimeError:
            return True  # Qt has deleted it, and its process with it

    def cancel(self) -> None:
        """Ask the process to stop at a safe point; kill it if it does not."""
        self._process.terminate()
        QTimer.singleShot(_STOP_MS, self._kill)

    def _kill(self) -> None:
        if self._process.state() != QProcess.ProcessState.NotRunning:
            self._process.kill()

    def _read(self) -> None:
        self._rest += bytes(self._process.readAllStandardError().data())
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            found = _parsed(line)
            if isinstance(found, dict) and "event" in found:
                self.reported.emit(found)

    def _finish(self, code: int, _status: Any = None) -> None:
        if self._over:
            return
        self._over = True
        self._read()
        self.finished.emit(_parsed(bytes(self._process.readAllStandardOutput().data())), code)

    def _broken(self, error: Any) -> None:
        if error == QProcess.ProcessError.FailedToStart and not self._over:
            self._over = True
            self.reported.emit({"event": "error", "message": "The command could not be started; reinstall MedUniSeg."})
            self.finished.emit(None, 1)


def _parsed(line: bytes) -> Any:
    try:
        return parse_json(line)
    except ValueError:
        return None
