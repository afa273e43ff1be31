"""The jobs of the server: a bounded queue, one job at a time, progress, cancelling, and nothing left behind."""

from __future__ import annotations

import gc
import os
import queue
import secrets
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from meduniseg_core.errors import CancelledError, MedUniSegError, UsageError, explain
from meduniseg_core.events import CancelToken, Event, Message, Progress
from meduniseg_core.serving.limits import Limits
from meduniseg_core.serving.orders import JobOrder

JobState = Literal["receiving", "waiting", "running", "done", "failed", "cancelled"]
JobWork = Callable[["Job", Callable[[Event], None], CancelToken], list["ResultFile"]]
"""Does a job in its folder; raises as `Predictor.segment` does."""

_PREFIX = "meduniseg-serve-"
_LOCK = ".lock"
_MESSAGES = 100  # of a job, that are kept for whoever asks
_TICK = 0.5  # seconds between looks at what is to be removed
_LAST = 60.0  # seconds that a job has to stop when the server ends


_YOUNG = 60.0  # seconds in which a server may not have locked its folder yet


class FullQueueError(MedUniSegError):
    """There is no room for another job."""

    exit_code = 75


class UnknownJobError(UsageError):
    """There is no job of this id (any more)."""


@dataclass(frozen=True)
class ResultFile:
    """A file that a job has made. ``kind``: "labels", "record" (their JSON) or "probabilities"."""

    task: str
    kind: str
    path: Path


@dataclass
class Job:
    """One upload and what becomes of it. ``folder`` holds all its files, and is removed with it."""

    id: str
    order: JobOrder
    folder: Path
    state: JobState = "receiving"
    progress: Progress | None = None
    messages: deque[Message] = field(default_factory=lambda: deque(maxlen=_MESSAGES))
    files: list[ResultFile] = field(default_factory=list)
    error: str | None = None
    exit_code: int = 0
    ended: float | None = None
    cancel: CancelToken = field(default_factory=CancelToken)

    @property
    def upload(self) -> Path:
        """Where the file that is sent goes."""
        return self.folder / "upload" / self.order.filename

    @property
    def over(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in ("done", "failed", "cancelled")

    def as_json(self) -> dict[str, Any]:
        """What those who wait for it are told.

        Returns:
            State, progress, messages, and the tasks whose results are there, in JSON's types.
        """
        progress = self.progress
        return {
            "id": self.id,
            "state": self.state,
            "progress": None
            if progress is None
            else {"stage": progress.stage, "done": progress.done, "total": progress.total, "seconds": progress.seconds},
            "messages": [{"level": message.level, "text": message.text} for message in list(self.messages)],
            "results": [{"task": file.task, "kind": file.kind, "name": file.path.name} for file in list(self.files)],
            "error": self.error,
            "exit_code": self.exit_code,
        }


class JobQueue:
    """Runs jobs in a thread, one after the other; all methods may be called from any thread.

    Args:
        work: does a job.
        limits: how many may wait, and how long results are kept.
        parent: the folder to work in; None for the system's temporary one.
    """

    def __init__(self, work: JobWork, limits: Limits, parent: Path | None = None) -> None:
        self.limits = limits
        _remove_orphans(parent)
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))  # for its owner alone
        self._lock = FileLock(self.folder / _LOCK)
        self._lock.acquire()
        self._work = work
        self._jobs: dict[str, Job] = {}
        self._guard = threading.Lock()
        self._order: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="meduniseg-serve", daemon=True)
        self._thread.start()

    def reserve(self, order: JobOrder) -> Job:
        """Take a place in the queue, before anything is sent.

        Args:
            order: what is asked for.

        Returns:
            The job; :meth:`submit` or :meth:`remove` follows.

        Raises:
            FullQueueError: too many jobs are waiting or being sent.
        """
        self._expire()
        with self._guard:
            pending = [job for job in self._jobs.values() if job.state in ("receiving", "waiting")]
            if self._closed or len(pending) >= self.limits.waiting:
                raise FullQueueError(f"{len(pending)} jobs are waiting already; try again in a while.")
            job = Job(secrets.token_urlsafe(24), order, self.folder / secrets.token_hex(8))
            job.upload.parent.mkdir(parents=True)
            self._jobs[job.id] = job
        return job

    def submit(self, job: Job) -> None:
        """Put a job in line, once its upload is whole.

        Args:
            job: of :meth:`reserve`.

        Raises:
            UnknownJobError: it was removed while it was sent.
        """
        with self._guard:
            there = job.id in self._jobs
            if there:
                job.state = "waiting"
        if not there:
            shutil.rmtree(job.folder, ignore_errors=True)
            raise UnknownJobError("The job was cancelled while it was sent.")
        self._order.put(job)

    def find(self, job_id: str) -> Job:
        """Find a job.

        Args:
            job_id: its id.

        Returns:
            The job.

        Raises:
            UnknownJobError: there is none of this id (any more).
        """
        self._expire()
        with self._guard:
            job = self._jobs.get(job_id)
        if job is None:
            raise UnknownJobError("There is no such job (any more); results are kept for a while only, send it again.")
        return job

    def remove(self, job: Job) -> None:
        """Cancel a job where it is not over, and remove everything of it: at once, or when its thread lets go of it.

        Args:
            job: the job.
        """
        job.cancel.cancel()
        with self._guard:
            self._jobs.pop(job.id, None)
            running = job.state == "running"
            if not running and not job.over:
                job.state = "cancelled"
        if not running:
            shutil.rmtree(job.folder, ignore_errors=True)

    def counts(self) -> dict[str, int]:
        """Count the jobs.

        Returns:
            How many are in each state, and how many more may come ("room").
        """
        with self._guard:
            states = [job.state for job in self._jobs.values()]
        found = {state: states.count(state) for state in ("receiving", "waiting", "running")}
        return {**found, "room": max(0, self.limits.waiting - found["receiving"] - found["waiting"])}

    def close(self) -> None:
        """Cancel all jobs and remove everything; no job can come any more."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel.cancel()
        self._order.put(None)
        self._thread.join(_LAST)
        with suppress(OSError):
            self._lock.release(force=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _expire(self) -> None:
        """Remove results that nobody has fetched in time, and the oldest ones where there are many."""
        now = time.monotonic()
        with self._guard:
            over = sorted((job for job in self._jobs.values() if job.over), key=lambda job: job.ended or 0.0)
            many = over[: max(0, len(over) - self.limits.waiting)]
            late = [job for job in over if now - (job.ended or now) > self.limits.keep_seconds]
        for job in {job.id: job for job in (*many, *late)}.values():
            self.remove(job)

    def _run(self) -> None:
        while True:
            try:
                job = self._order.get(timeout=_TICK)
            except queue.Empty:
                self._expire()
                continue
            if job is None:
                return
            with self._guard:
                if job.cancel.cancelled:
                    continue
                job.state = "running"
            self._do(job)
            del job
            gc.collect()  # images are large, and cycles of a failed job would keep one

    def _do(self, job: Job) -> None:
        state: JobState = "failed"
        try:
            job.files = self._work(job, lambda event: _note(job, event), job.cancel)
            state = "done"
        except CancelledError as error:
            state, (job.error, job.exit_code) = "cancelled", explain(error)
        except Exception as error:  # whatever a reader or the network meets costs this one job
            sentence, job.exit_code = explain(error)
            job.error = _without_paths(job, sentence)
        shutil.rmtree(job.folder / "upload", ignore_errors=True)  # the image goes as soon as it is not needed
        with self._guard:
            job.state, job.ended = state, time.monotonic()
            gone = job.id not in self._jobs
        if gone or state != "done":
            shutil.rmtree(job.folder, ignore_errors=True)


def _note(job: Job, event: Event) -> None:
    if isinstance(event, Progress):
        job.progress = event
    elif isinstance(event, Message):
        job.messages.append(Message(event.level, _without_paths(job, event.text)))


def _without_paths(job: Job, sentence: str) -> str:
    """A sentence without the server's own folders: who sent the file knows its name alone."""
    for folder in (job.upload.parent / "unpacked", job.upload.parent, job.folder):
        sentence = sentence.replace(f"{folder}{os.sep}", "").replace(str(folder), job.order.filename)
    return sentence


def _remove_orphans(parent: Path | None) -> None:
    """Remove the folders of servers that were killed: nobody holds their lock."""
    for folder in Path(parent or tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.stat().st_mtime > time.time() - _YOUNG:
                continue
        lock = FileLock(folder / _LOCK)
        with suppress(OSError, Timeout), lock.acquire(timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
