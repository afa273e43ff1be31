"""Predictions of a worklist's cases, one at a time, by the command beside the window; shown as a progress bar."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QProgressBar

from meduniseg_core.worklist import Worklist
from napari_meduniseg._process import Command

PRIORITY = ("--low-priority",)  # the window goes first


class CasePrediction(QProgressBar):
    """Hidden while nothing is predicted.

    ``failures`` are the sentences about cases of the present worklist that could not be predicted. ``ended`` is emitted
    when a process has ended and the next may begin, with the sentence of its failure or "".
    """

    ended = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.case = ""
        self.failures: dict[str, str] = {}
        self._command: Command | None = None
        self._stopped = False
        self.setToolTip("How much of the case that is being predicted is done.")
        self.hide()

    @property
    def running(self) -> bool:
        """Whether a process is running."""
        return self._command is not None

    def begin(self, worklist: Worklist, case: str, model: str | None) -> None:
        """Predict a case; ``model`` is the name of an installed one, None for what is in use."""
        where = [str(worklist.folder), "--task", worklist.task, "-o", str(worklist.results)]
        chosen = [] if model is None else ["--model", model]
        command = Command(["worklist", *where, *chosen, "--predict", case, *PRIORITY], self)
        self._command, self._stopped, self.case = command, False, case
        command.reported.connect(self._heard)
        command.finished.connect(self._finished)
        self.setRange(0, 0)
        self.setFormat(f"{case}: %p %")
        self.show()
        command.start()

    def stop(self) -> None:
        """Stop, and forget the failures; nothing is written of a case that is not done."""
        self.failures = {}
        self._stopped = True
        if self._command is not None:
            self._command.cancel()

    def _heard(self, event: dict[str, Any]) -> None:
        if self._stopped:  # what it still reports is of a list that is gone
            return
        if event["event"] == "progress" and event.get("stage") == "segment" and event.get("total"):
            self.setRange(0, int(event["total"]))
            self.setValue(int(event["done"]))
        elif event["event"] == "error":
            self.failures[self.case] = str(event["message"])

    def _finished(self, _result: Any, code: int) -> None:
        command, self._command = self._command, None
        self.hide()
        if command is not None:
            command.deleteLater()
        failure = ""
        if code not in (0, 130) and not self._stopped:
            failure = self.failures.setdefault(self.case, f"The prediction ended with code {code}.")
        self.case = ""
        self.ended.emit(failure)
