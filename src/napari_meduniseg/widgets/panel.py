"""What panels have in common: one piece of work at a time beside the window, and a sentence about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QWidget

from napari_meduniseg._jobs import Job, Work
from napari_meduniseg.widgets.message import Sentence


class Working:
    """A widget's work in a thread, one at a time; mixed into a QWidget's class."""

    _job: Job | None = None

    @property
    def busy(self) -> bool:
        """Whether something is being done in a thread."""
        return self._job is not None

    def start_job(
        self, work: Work, then: Callable[[Any], None], failed: Callable[[str], None], *, title: str = ""
    ) -> bool:
        """Do work in a thread, if none is being done.

        Args:
            work: is called there with a sink of events and a cancel token.
            then: is called in the window's thread with what it returned, once the widget is busy no more.
            failed: likewise, with the sentence of an error.
            title: what the user would call it, "" for what nobody would miss (see :class:`Job`).

        Returns:
            Whether it was begun.
        """
        if self.busy:
            return False
        assert isinstance(self, QWidget)
        job = self._job = Job(work, self, title)
        job.done.connect(lambda answer: self._end_job(then, answer))
        job.failed.connect(lambda sentence: self._end_job(failed, sentence))
        job.cancelled.connect(lambda: self._end_job(failed, "Stopped."))
        job.start()
        return True

    def _end_job(self, act: Callable[[Any], None], answer: Any) -> None:
        self._job = None
        act(answer)


class Panel(Working, QWidget):
    """A panel with a line that says what is done and why something failed."""

    def __init__(self) -> None:
        super().__init__()
        self.said = Sentence()

    def do_beside(self, work: Work, then: Callable[[Any], None], *, text: str, title: str) -> None:
        """Do work in a thread and say so; nothing while other work is being done.

        Args:
            work: is called there with a sink of events and a cancel token.
            then: is called in the window's thread with what it returned.
            text: what is said meanwhile.
            title: what the user would call it, see :class:`Job`.
        """
        if self.busy:
            return
        self.said.say(text)
        self.start_job(work, then, lambda sentence: self.said.say(sentence, trouble=True), title=title)
