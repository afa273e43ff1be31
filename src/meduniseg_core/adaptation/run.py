"""A training in a process of its own, with a folder from which any later process can read its state.

::

    job.json        the job with all its options (versions up to 0.1: request.json, the words of a command)
    process.json    the process that works on it, or was the last to
    events.jsonl    its events (progress, metrics, messages, errors) unless a terminal showed them
    result.json     its result
    decision.json   adopted, or kept as a candidate
    run/ gate/      the training's own files; the comparison with the base

The process (:mod:`meduniseg_core.adaptation.worker`) is independent: the viewer that started it may close or crash.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import psutil

from meduniseg_core.adaptation import detached
from meduniseg_core.adaptation.jobs import FILE, OLD_FILE, Job, command_line, job_text, read_job, same_training
from meduniseg_core.adaptation.run_events import append_event, newest_events, newest_progress
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import remove_orphans, write_text
from meduniseg_core.paths import user_folder
from meduniseg_core.structured_text import try_read_json
from meduniseg_core.training.checkpoint import has_checkpoint
from meduniseg_core.training.log import RunLog

_WORKER = f"{__package__}.worker"

Phase = Literal["running", "stopped", "failed", "finished"]
Decision = Literal["adopted", "candidate"]


@dataclass(frozen=True)
class RunStatus:
    """The state of a run.

    ``progress`` is (stage, steps done, steps in total, seconds left or None), ``trouble`` the reason of a failure,
    ``resumable`` whether there is a checkpoint.
    """

    phase: Phase
    progress: tuple[str, int, int, float | None] | None = None
    trouble: str | None = None
    resumable: bool = False


class Run:
    """A run's folder. Create one with :meth:`create`, open one by name with :meth:`open`, or list all with
    :func:`meduniseg_core.adaptation.runs.runs`."""

    def __init__(self, folder: Path, job: Job) -> None:
        self.folder, self.job = folder, job

    @classmethod
    def create(cls, job: Job, home: Path | None = None) -> Self:
        """Create the folder of a new run. Its process is not started yet.

        Args:
            job: the job.
            home: the user's data folder if not the default.

        Returns:
            The run.

        Raises:
            UsageError: a run of this name exists.
        """
        folder = runs_folder(home) / job.name
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"There is a run called '{job.name}' already; give the new one another name.")
        run = cls(folder, job)
        run.keep_job()
        return run

    @classmethod
    def open(cls, name: str, home: Path | None = None) -> Self:
        """Open a run by name.

        Args:
            name: the run's name.
            home: the user's data folder if not the default.

        Returns:
            The run.

        Raises:
            UsageError: there is no run of this name.
            BadInputError: its job is damaged.
        """
        if Path(name).name != name or not is_run(runs_folder(home) / name):
            raise UsageError(f"There is no run called '{name}'; 'meduniseg runs list' shows those there are.")
        return cls.at(runs_folder(home) / name)

    @classmethod
    def at(cls, folder: Path) -> Self:
        """Open the run in a folder.

        Args:
            folder: a run's folder, anywhere.

        Returns:
            The run.

        Raises:
            BadInputError: there is no run, or its job is damaged.
        """
        path = folder / FILE if (folder / FILE).is_file() else folder / OLD_FILE
        try:
            job = read_job(path)
        except BadInputError as error:
            raise BadInputError(f"{path}: is not a run's request; delete the run's folder.") from error
        return cls(folder, job)

    def keep_job(self) -> None:
        """Write the job into the run's folder."""
        write_text(self.folder / FILE, job_text(self.job))

    def check_same(self, job: Job, going_on: bool) -> None:
        """Refuse a job that would start another training in this run's folder.

        Args:
            job: the job asked for now.
            going_on: whether it resumes from the run's checkpoint.

        Raises:
            UsageError: the job has another base or other data, or would start over where there is a checkpoint.
        """
        same = (job.kind, job.datasets, job.base) == (self.job.kind, self.job.datasets, self.job.base)
        if not same or (self.has_checkpoint and not going_on):
            raise UsageError(
                f"There is a run called '{self.job.name}' already; go on with it (--resume), discard it "
                "('meduniseg runs discard') or give the new one another name."
            )

    def keep_newer_job(self, job: Job) -> None:
        """Replace the run's job by a newer one, if nothing is trained yet or both jobs train the same.

        Args:
            job: the job asked for now.
        """
        if not self.has_checkpoint or same_training(job, self.job):
            self.job = job.model_copy(update={"created": self.job.created})
            self.keep_job()

    # -- the process --------------------------------------------------------------------------------------------

    @property
    def command(self) -> str:
        """The run's command, as one would type it."""
        return command_line(self.job)

    @property
    def to_finish(self) -> bool:
        """Whether the run is to turn its best checkpoint into the result without training further."""
        return self.has_checkpoint and (self.folder / "finish").exists()

    def start(self, *, finish: bool = False) -> None:
        """Start the run's process; it resumes from the last checkpoint if there is one.

        Args:
            finish: turn the best checkpoint into the result without training further. Later starts then do the same.

        Raises:
            UsageError: the run is running or finished, or there is no checkpoint to finish.
        """
        if self.process() is not None:
            raise UsageError(f"Run '{self.job.name}' is running already.")
        if self.result() is not None:
            raise UsageError(f"Run '{self.job.name}' is finished.")
        if finish and not self.has_checkpoint:
            raise UsageError(f"Run '{self.job.name}' has saved nothing yet; nothing can be kept of it.")
        if finish:
            write_text(self.folder / "finish", "")
        if not (self.folder / FILE).is_file():  # begun by a version before
            self.keep_job()
        pid = detached.start(_WORKER, [str(self.folder.resolve())], self._events_file)
        self._keep_process(pid)
        detached.lower_priority(pid)

    def taken_up(self) -> None:
        """Record that the present process works on the run, whether :meth:`start` started it or a terminal.

        Raises:
            BadInputError: another process works on it.
        """
        other = self.process()
        # the parent: a virtual environment's python may be a launcher
        if other is not None and other.pid not in (os.getpid(), os.getppid()):
            raise BadInputError(f"{self.folder}: another process trains there; wait for it or choose another name.")
        if other is None:  # from a terminal, which hears what it says
            append_event(self._events_file, {"event": "start"})
        self._keep_process(os.getpid())

    def answered(self, answer: Mapping[str, Any]) -> None:
        """Record that the present process has finished the run.

        Args:
            answer: the result, a JSON object.
        """
        write_text(self.folder / "result.json", json.dumps(answer, default=str, indent=1))
        self._process_file.unlink(missing_ok=True)

    def process(self) -> psutil.Process | None:
        """Find the run's process.

        Returns:
            The process; None if none is at work.
        """
        return detached.find(self._process_file)

    def stop(self) -> None:
        """Ask the process to end at its next safe point; it is killed if it does not within 20 seconds.

        Raises:
            UsageError: it cannot be stopped.
        """
        process = self.process()
        if process is None:
            return
        detached.stop(process)
        said = newest_events(self._events_file)
        if self.result() is None and (not said or said[-1].get("event") != "error"):
            # it had to be killed (Windows knows nothing else), as was asked for
            append_event(self._events_file, {"event": "error", "message": "Interrupted.", "exit_code": 130})

    # -- how it stands ------------------------------------------------------------------------------------------

    @property
    def output(self) -> Path:
        """The training's folder: checkpoints, log, split, model."""
        return self.folder / "run"

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return has_checkpoint(self.output)

    @property
    def model_file(self) -> Path:
        """The trained model (or pack), once there is one."""
        return self.output / f"{self.job.name}.safetensors"

    def standing(self) -> RunStatus:
        """Look up the run's state; fast enough to be polled.

        Returns:
            The state.
        """
        running = self.process() is not None
        events = newest_events(self._events_file)
        if running:
            return RunStatus("running", newest_progress(events))
        if self.result() is not None:
            return RunStatus("finished")
        last = events[-1] if events else {}
        if last.get("event") != "error":
            # killed, a crash, the power; or a terminal heard what was said
            unexpected = "It ended unexpectedly." if events else None
            return RunStatus("stopped", newest_progress(events), unexpected, resumable=self.has_checkpoint)
        if last.get("exit_code") == 130:
            return RunStatus("stopped", newest_progress(events), resumable=self.has_checkpoint)
        return RunStatus("failed", None, str(last.get("message", "")), resumable=self.has_checkpoint)

    def result(self) -> dict[str, Any] | None:
        """Read the result.

        Returns:
            A JSON object, see :meth:`JobResult.answer`; None if the run has not finished.
        """
        answer = try_read_json(self.folder / "result.json")
        return answer if isinstance(answer, dict) else None

    def log(self) -> list[dict[str, Any]]:
        """Read the figures of each epoch.

        Returns:
            One record per epoch: loss, validation Dice, Dice by class.
        """
        return RunLog(self.output).read()

    def decision(self) -> Decision | None:
        """Read the decision on the result.

        Returns:
            The decision; None if there is none yet.
        """
        found = self._decision().get("decision")
        return found if found in ("adopted", "candidate") else None

    def replaced(self) -> str | None:
        """Read which pack was active before this run's was adopted, as earlier versions recorded it here.

        Returns:
            The pack's name; None if none is recorded.
        """
        found = self._decision().get("replaced")
        return found if isinstance(found, str) else None

    def decide(self, decision: Decision) -> None:
        """Record the decision on the result.

        Args:
            decision: the decision.
        """
        content = {"decision": decision, "when": datetime.now(UTC).isoformat()}
        write_text(self.folder / "decision.json", json.dumps(content))

    def remove(self) -> None:
        """Delete the run's folder with everything in it.

        Raises:
            UsageError: the run is running.
        """
        if self.process() is not None:
            raise UsageError(f"Run '{self.job.name}' is running; stop it first.")
        for name in (FILE, OLD_FILE):
            (self.folder / name).unlink(missing_ok=True)  # from here on it is not a run, whatever is left
        shutil.rmtree(self.folder, ignore_errors=True)

    def _decision(self) -> dict[str, Any]:
        content = try_read_json(self.folder / "decision.json")
        return content if isinstance(content, dict) else {}

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
    """The folder of all runs.

    Args:
        home: the user's data folder if not the default.

    Returns:
        The folder; it need not exist.
    """
    return (home if home is not None else user_folder()) / "runs"


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run.

    Args:
        folder: the folder.

    Returns:
        True if there is a job in it.
    """
    return any((folder / name).is_file() for name in (FILE, OLD_FILE))
