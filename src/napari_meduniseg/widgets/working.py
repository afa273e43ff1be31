"""Work that a widget has done in threads: starting it, reacting to its end, and ignoring late answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from qtpy.QtCore import QObject

from napari_meduniseg._jobs import BackgroundJob, Work

T = TypeVar("T")


class Working:
    """A mixin for a widget or another QObject: it runs one job of each kind at a time."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._jobs: dict[str, BackgroundJob] = {}  # by kind

    @property
    def busy(self) -> bool:
        """Whether a job is running in a thread."""
        return bool(self._jobs)

    def does(self, kind: str) -> bool:
        """Whether a job of this kind is running."""
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
            work: Called in a thread with a sink of events and a cancel token.
            then: Called with what ``work`` returned, when the job is no longer counted as running.
            failed: Called likewise, with the sentence of an error.
            cancelled: Called likewise, if the work was stopped; by default that is a failure, "Stopped.".
            event: Called with each event that the work sends.
            kind: The kind of job; kinds are independent of each other.
            title: The user's name for the work, "" for work that nobody would miss (see `BackgroundJob`).
            anew: Whether a running job of this kind is dropped (`drop_job`). By default nothing is started then.

        Returns:
            Whether the job was started.
        """
        if anew:
            self.drop_job(kind)
        if kind in self._jobs:
            return False
        assert isinstance(self, QObject)
        job = self._jobs[kind] = BackgroundJob(work, self, title)

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
            job.reported.connect(lambda sent: event(sent) if self._jobs.get(kind) is job else None)
        job.start()
        return True

    def cancel_job(self, kind: str = "") -> bool:
        """Ask the running job of this kind to stop; returns whether there was one."""
        job = self._jobs.get(kind)
        if job is not None:
            job.cancel()
        return job is not None

    def drop_job(self, kind: str = "") -> None:
        """Ask the running job of this kind to stop, and ignore its answer."""
        job = self._jobs.pop(kind, None)
        if job is not None:
            job.cancel()

    def finish_job(self, seconds: float, kind: str = "") -> None:
        """Wait for the running job of this kind, at most ``seconds``, and ignore its answer."""
        job = self._jobs.pop(kind, None)
        if job is not None:
            job.wait(seconds)
