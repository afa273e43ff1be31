"""Trainings in processes of their own: a folder for each, from which any later process can tell how it stands.

::

    job.json        what was asked for, whole (versions until 0.1: request.json, the words of a command)
    process.json    the process that works on it, or did last
    events.jsonl    what it said (progress, figures, messages, errors), where no terminal heard it
    result.json     what it answered at the end
    decision.json   adopted, or kept as a candidate
    run/ gate/      the training's own files; the comparison with the base

The process (:mod:`meduniseg_core.adaptation.worker`) is nobody's child to wait for: the viewer that started it may
close or crash.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import psutil

from meduniseg_core.adaptation import detached
from meduniseg_core.adaptation.jobs import FILE, OLD_FILE, Job, command_line, job_text, read_job, same_training
from meduniseg_core.adaptation.run_events import append_event, newest_events, newest_progress
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import parse_json, remove_orphans, write_text
from meduniseg_core.paths import user_folder
from meduniseg_core.training.checkpoint import has_checkpoint
from meduniseg_core.training.log import RunLog
from meduniseg_core.weights import PackRegistry, Registry

_WORKER = f"{__package__}.worker"

Phase = Literal["running", "stopped", "failed", "finished"]
Decision = Literal["adopted", "candidate"]


@dataclass(frozen=True)
class Standing:
    """How a run stands. ``progress``: (stage, done, total, seconds left or None); ``trouble``: why it failed."""

    phase: Phase
    progress: tuple[str, int, int, float | None] | None = None
    trouble: str | None = None
    resumable: bool = False


class Run:
    """One run's folder. Make one with :meth:`create`, :meth:`open` one by name, or list :func:`runs`."""

    def __init__(self, folder: Path, job: Job) -> None:
        self.folder, self.job = folder, job

    @classmethod
    def create(cls, job: Job, home: Path | None = None) -> Self:
        """Begin a run.

        Args:
            job: what is to be done.
            home: the user's folder, where it is another.

        Returns:
            The run, whose process is still to be started.

        Raises:
            UsageError: there is one of this name.
        """
        folder = runs_folder(home) / job.name
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"There is a run called '{job.name}' already; give the new one another name.")
        run = cls(folder, job)
        run.keep_job()
        return run

    @classmethod
    def open(cls, name: str, home: Path | None = None) -> Self:
        """The run called ``name``; BadInputError where its job is damaged.

        Args:
            name: the run's.
            home: the user's folder, where it is another.

        Returns:
            The run.

        Raises:
            UsageError: there is none.
        """
        if Path(name).name != name or not is_run(runs_folder(home) / name):
            raise UsageError(f"There is no run called '{name}'; 'meduniseg runs list' shows those there are.")
        return cls.at(runs_folder(home) / name)

    @classmethod
    def at(cls, folder: Path) -> Self:
        """The run in a folder.

        Args:
            folder: a run's, wherever it lies.

        Returns:
            The run.

        Raises:
            BadInputError: there is none, or its job is damaged.
        """
        path = folder / FILE if (folder / FILE).is_file() else folder / OLD_FILE
        try:
            job = read_job(path)
        except BadInputError as error:
            raise BadInputError(f"{path}: is not a run's request; delete the run's folder.") from error
        return cls(folder, job)

    def keep_job(self) -> None:
        """Write the job down."""
        write_text(self.folder / FILE, job_text(self.job))

    def check_same(self, job: Job, going_on: bool) -> None:
        """Refuse a job that would begin another training in this run's folder.

        Args:
            job: what is asked for now.
            going_on: whether the run's checkpoint is to be gone on with.

        Raises:
            UsageError: it would.
        """
        same = (job.kind, job.datasets, job.base) == (self.job.kind, self.job.datasets, self.job.base)
        if not same or (self.has_checkpoint and not going_on):
            raise UsageError(
                f"There is a run called '{self.job.name}' already; go on with it (--resume), discard it "
                "('meduniseg runs discard') or give the new one another name."
            )

    def keep_newer_job(self, job: Job) -> None:
        """Take another job for this run's from now on: in what does not change the training it may differ from what was
        asked for before, and in anything as long as nothing is trained.

        Args:
            job: what is asked for now.
        """
        if not self.has_checkpoint or same_training(job, self.job):
            self.job = job.model_copy(update={"created": self.job.created})
            self.keep_job()

    # -- the process --------------------------------------------------------------------------------------------

    @property
    def command(self) -> str:
        """The command as one would type it."""
        return command_line(self.job)

    @property
    def to_finish(self) -> bool:
        """Whether its best checkpoint is to be made a model, without training further."""
        return self.has_checkpoint and (self.folder / "finish").exists()

    def start(self, *, finish: bool = False) -> None:
        """Start the process, or go on from its last checkpoint; ``finish`` only makes the best checkpoint a model.

        Once finishing was asked for, going on means to finish. UsageError while it is running, once it is finished, and
        where there is nothing to finish.
        """
        if self.process() is not None:
            raise UsageError(f"Run '{self.job.name}' is running already.")
        if self.result() is not None:
            raise UsageError(f"Run '{self.job.name}' is finished.")
        if finish and not self.has_checkpoint:
            raise UsageError(f"Run '{self.job.name}' has no checkpoint yet; nothing can be kept of it.")
        if finish:
            write_text(self.folder / "finish", "")
        if not (self.folder / FILE).is_file():  # begun by a version before
            self.keep_job()
        pid = detached.start(_WORKER, [str(self.folder.resolve())], self._events_file)
        self._keep_process(pid)
        detached.lower_priority(pid)

    def taken_up(self) -> None:
        """The present process works on the run from now on (started by :meth:`start`, or from a terminal).

        BadInputError while another does.
        """
        other = self.process()
        # the parent: a virtual environment's python may be a launcher
        if other is not None and other.pid not in (os.getpid(), os.getppid()):
            raise BadInputError(f"{self.folder}: another process trains there; wait for it or choose another name.")
        if other is None:  # from a terminal, which hears what it says
            append_event(self._events_file, {"event": "start"})
        self._keep_process(os.getpid())

    def answered(self, answer: Mapping[str, Any]) -> None:
        """The present process has finished the run with this answer."""
        write_text(self.folder / "result.json", json.dumps(answer, default=str, indent=1))
        self._process_file.unlink(missing_ok=True)

    def process(self) -> psutil.Process | None:
        """The process at work; None where there is none."""
        return detached.find(self._process_file)

    def stop(self) -> None:
        """Ask the process to end where nothing is half done; it is killed if it has not after 20 seconds.

        UsageError where it cannot be stopped.
        """
        process = self.process()
        if process is None:
            return
        detached.stop(process)
        said = newest_events(self._events_file)
        if self.result() is None and (not said or said[-1].get("event") != "error"):
            # it had to be killed (Windows knows nothing else), which is no trouble: it was asked for
            append_event(self._events_file, {"event": "error", "message": "Interrupted.", "exit_code": 130})

    # -- how it stands ------------------------------------------------------------------------------------------

    @property
    def output(self) -> Path:
        """The training's folder: checkpoints, log, split, model."""
        return self.folder / "run"

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is something to go on from."""
        return has_checkpoint(self.output)

    @property
    def model_file(self) -> Path:
        """The trained model (or pack), once there is one."""
        return self.output / f"{self.job.name}.safetensors"

    def standing(self) -> Standing:
        """Looked up now; quick."""
        running = self.process() is not None
        events = newest_events(self._events_file)
        if running:
            return Standing("running", newest_progress(events))
        if self.result() is not None:
            return Standing("finished")
        last = events[-1] if events else {}
        if last.get("event") != "error":
            # killed, a crash, the power; or a terminal heard what was said
            unexpected = "It ended unexpectedly." if events else None
            return Standing("stopped", newest_progress(events), unexpected, resumable=self.has_checkpoint)
        if last.get("exit_code") == 130:
            return Standing("stopped", newest_progress(events), resumable=self.has_checkpoint)
        return Standing("failed", None, str(last.get("message", "")), resumable=self.has_checkpoint)

    def result(self) -> dict[str, Any] | None:
        """What the process answered; None before the end and for one that failed."""
        try:
            answer = parse_json((self.folder / "result.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return answer if isinstance(answer, dict) else None

    def log(self) -> list[dict[str, Any]]:
        """The epochs so far: loss, validation Dice, Dice per class."""
        return RunLog(self.output).read()

    def decision(self) -> Decision | None:
        """What was decided about the result; None while nothing was."""
        try:
            found = parse_json((self.folder / "decision.json").read_text("utf-8"))["decision"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if found in ("adopted", "candidate") else None

    def replaced(self) -> str | None:
        """The pack that was in use before this run's was adopted, as versions before noted it here."""
        try:
            found = parse_json((self.folder / "decision.json").read_text("utf-8")).get("replaced")
        except (OSError, ValueError, AttributeError):
            return None
        return found if isinstance(found, str) else None

    def decide(self, decision: Decision) -> None:
        """Keep the decision.

        Args:
            decision: what was decided.
        """
        content = {"decision": decision, "when": datetime.now(UTC).isoformat()}
        write_text(self.folder / "decision.json", json.dumps(content))

    def remove(self) -> None:
        """Delete the run with everything in it. UsageError while it is running."""
        if self.process() is not None:
            raise UsageError(f"Run '{self.job.name}' is running; stop it first.")
        for name in (FILE, OLD_FILE):
            (self.folder / name).unlink(missing_ok=True)  # from here on it is none, whatever is left
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _events_file(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def _process_file(self) -> Path:
        return self.folder / "process.json"

    def _keep_process(self, pid: int) -> None:
        remove_orphans(self.folder)
        (self.folder / "result.json").unlink(missing_ok=True)
        detached.note(self._process_file, pid)


def runs_folder(home: Path | None = None) -> Path:
    """Where runs are kept."""
    return (home if home is not None else user_folder()) / "runs"


def is_run(folder: Path) -> bool:
    """Whether a run lies in a folder.

    Args:
        folder: any.

    Returns:
        Whether it holds a job.
    """
    return any((folder / name).is_file() for name in (FILE, OLD_FILE))


def runs(home: Path | None = None) -> list[Run]:
    """All runs, newest first; folders that are none are passed over.

    Args:
        home: the user's folder, where it is another.

    Returns:
        The runs.
    """
    found = []
    for folder in runs_folder(home).glob("*"):
        try:
            found.append(Run.open(folder.name, home))
        except (BadInputError, UsageError):
            continue
    return sorted(found, key=lambda run: run.job.created, reverse=True)


def check_new_name(name: str) -> None:
    """UsageError where a model or a pack is called so (file systems may not tell A from a): adopting would fail."""
    for store in (Registry(), PackRegistry()):
        for known in store.names():
            if known.casefold() == name.casefold():
                raise UsageError(f"There is a {store.noun} called '{known}' already; give the new one another name.")


def free_name(wanted: str, taken: Sequence[str], home: Path | None = None) -> str:
    """``wanted-1``, or the first number that neither a run nor ``taken`` has."""
    used = {*taken, *(run.job.name for run in runs(home))}
    number = 1
    while f"{wanted}-{number}" in used or (runs_folder(home) / f"{wanted}-{number}").exists():
        number += 1
    return f"{wanted}-{number}"
