"""What a widget has done in threads: how it begins, what its end means, and what becomes of answers that come late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from qtpy.QtCore import QObject

from napari_meduniseg._jobs import Job, Work

T = TypeVar("T")


class Working:
    """Mixed into the class of a widget, or of another QObject: one job of each kind at a time."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._jobs: dict[str, Job] = {}  # by kind

    @property
    def busy(self) -> bool:
        """Whether something is being done in a thread."""
        return bool(self._jobs)

    def does(self, kind: str) -> bool:
        """Whether something of this kind is being done."""
        return kind in self._jobs

    def start_job(
        self,
        work: Work[T],
        then: Callable[[T], None],
        failed: Callable[[str], None] | None = None,
        *,
        cancelled: Callable[[], None] | None = None,
        event: Callable[[Any], None] | None = None,
        kind: str = "",
        title: str = "",
        anew: bool = False,
    ) -> bool:
        """Do work in a thread. All functions but ``work`` are called in the window's thread.

        Args:
            work: is called in a thread with a sink of events and a cancel token.
            then: is called with what it returned, once this is busy with it no more.
            failed: likewise, with the sentence of an error.
            cancelled: likewise, where the work was stopped; by default that is a failure, "Stopped.".
            event: is called with each event that the work sends.
            kind: of the work; kinds know nothing of each other.
            title: what the user would call it, "" for what nobody would miss (see :class:`Job`).
            anew: what is being done of this kind is dropped (:meth:`drop_job`). By default nothing is begun then.

        Returns:
            Whether it was begun.
        """
        if anew:
            self.drop_job(kind)
        if kind in self._jobs:
            return False
        assert isinstance(self, QObject)
        job = self._jobs[kind] = Job(work, self, title)

        def end(act: Callable[..., None] | None, *answer: Any) -> None:
            job.deleteLater()  # it holds, by these functions, the layers that it was about
            if self._jobs.get(kind) is job:
                del self._jobs[kind]
                if act is not None:
                    act(*answer)

        job.done.connect(lambda answer: end(then, answer))
        job.failed.connect(lambda sentence: end(failed, sentence))
        job.cancelled.connect(lambda: end(failed, "Stopped.") if cancelled is None else end(cancelled))
        if event is not None:
            job.event.connect(lambda sent: event(sent) if self._jobs.get(kind) is job else None)
        job.start()
        return True

    def cancel_job(self, kind: str = "") -> bool:
        """Ask what is being done of this kind to stop; whether there was something."""
        job = self._jobs.get(kind)
        if job is not None:
            job.cancel()
        return job is not None

    def drop_job(self, kind: str = "") -> None:
        """Ask what is being done of this kind to stop, and want its answer no more."""
        job = self._jobs.pop(kind, None)
        if job is not None:
            job.cancel()

    def finish_job(self, seconds: float, kind: str = "") -> None:
        """Wait in this thread for what is being done of this kind, ``seconds`` at most; its answer is not wanted."""
        job = self._jobs.pop(kind, None)
        if job is not None:
            job.wait(seconds)
