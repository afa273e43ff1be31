"""Trainings in processes of their own: a folder for each, from which any later process can tell how it stands.

::

    request.json    what was asked for: the command, its name, base and data
    process.json    the process that works on it, or did last
    events.jsonl    what it said (progress, figures, messages, errors), where no terminal heard it
    result.json     what it answered at the end
    decision.json   adopted, or kept as a candidate
    run/ gate/      the training's own files; the comparison with the base

The process is nobody's child to wait for: the viewer that started it may close or crash.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import psutil
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from meduniseg_core.adaptation import detached
from meduniseg_core.adaptation.run_events import append_event, newest_events, newest_progress
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import parse_json, write_text
from meduniseg_core.paths import user_folder
from meduniseg_core.training.checkpoint import has_checkpoint
from meduniseg_core.training.log import RunLog
from meduniseg_core.weights import PackRegistry, Registry

Phase = Literal["running", "stopped", "failed", "finished"]
Decision = Literal["adopted", "candidate"]


class Request(BaseModel):
    """What was asked for. ``arguments``: those of the ``meduniseg`` command, without --resume and --finish."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["finetune", "refine"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")
    arguments: tuple[str, ...] = Field(min_length=1)
    base: str
    dataset: str
    task: str
    created: AwareDatetime


@dataclass(frozen=True)
class Standing:
    """How a run stands. ``progress``: (stage, done, total, seconds left or None); ``trouble``: why it failed."""

    phase: Phase
    progress: tuple[str, int, int, float | None] | None = None
    trouble: str | None = None
    resumable: bool = False


class Run:
    """One run's folder. Make one with :meth:`create`, :meth:`open` one by name, or list :func:`runs`."""

    def __init__(self, folder: Path, request: Request) -> None:
        self.folder, self.request = folder, request

    @classmethod
    def create(cls, request: Request, home: Path | None = None) -> Self:
        """Begin a run. UsageError where there is one of this name."""
        folder = runs_folder(home) / request.name
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"There is a run called '{request.name}' already; give the new one another name.")
        write_text(folder / "request.json", request.model_dump_json(indent=1))
        return cls(folder, request)

    @classmethod
    def open(cls, name: str, home: Path | None = None) -> Self:
        """The run called ``name``. UsageError where there is none, BadInputError where its request is damaged."""
        folder = runs_folder(home) / name
        path = folder / "request.json"
        if Path(name).name != name or not path.is_file():
            raise UsageError(f"There is no run called '{name}'; 'meduniseg runs list' shows those there are.")
        try:
            return cls(folder, Request.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError) as error:
            raise BadInputError(f"{path}: is not a run's request; delete the run's folder.") from error

    def check_same(self, request: Request, going_on: bool) -> None:
        """UsageError where ``request`` would begin another training in this run's folder."""
        same = (request.kind, request.dataset, request.base) == (
            self.request.kind,
            self.request.dataset,
            self.request.base,
        )
        if not same or (self.has_checkpoint and not going_on):
            raise UsageError(
                f"There is a run called '{self.request.name}' already; go on with it (--resume), discard it "
                "('meduniseg runs discard') or give the new one another name."
            )

    # -- the process --------------------------------------------------------------------------------------------

    @property
    def command(self) -> str:
        """The command as one would type it."""
        return shlex.join(["meduniseg", *self.request.arguments])

    def start(self, *, finish: bool = False) -> None:
        """Start the process, or go on from its last checkpoint; ``finish`` only makes the best checkpoint a model.

        Once finishing was asked for, going on means to finish. UsageError while it is running, once it is finished, and
        where there is nothing to finish.
        """
        if self.process() is not None:
            raise UsageError(f"Run '{self.request.name}' is running already.")
        if self.result() is not None:
            raise UsageError(f"Run '{self.request.name}' is finished.")
        marker = self.folder / "finish"
        if finish and not self.has_checkpoint:
            raise UsageError(f"Run '{self.request.name}' has no checkpoint yet; nothing can be kept of it.")
        if finish:
            write_text(marker, "")
        extra = [] if not self.has_checkpoint else ["--finish"] if marker.exists() else ["--resume"]
        arguments = [*self.request.arguments, *extra, "--json", "--progress", "json"]
        pid = detached.start(arguments, self._events_file)
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
        return self.output / f"{self.request.name}.safetensors"

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
        """What was in use before this run's result was adopted, where that was noted."""
        try:
            found = parse_json((self.folder / "decision.json").read_text("utf-8")).get("replaced")
        except (OSError, ValueError, AttributeError):
            return None
        return found if isinstance(found, str) else None

    def decide(self, decision: Decision, replaced: str | None = None) -> None:
        """Keep the decision, and what was in use before."""
        content = {"decision": decision, "when": datetime.now(UTC).isoformat(), "replaced": replaced}
        write_text(self.folder / "decision.json", json.dumps(content))

    def remove(self) -> None:
        """Delete the run with everything in it. UsageError while it is running."""
        if self.process() is not None:
            raise UsageError(f"Run '{self.request.name}' is running; stop it first.")
        (self.folder / "request.json").unlink()  # from here on it is none, whatever is left
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _events_file(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def _process_file(self) -> Path:
        return self.folder / "process.json"

    def _keep_process(self, pid: int) -> None:
        (self.folder / "result.json").unlink(missing_ok=True)
        detached.note(self._process_file, pid)


def runs_folder(home: Path | None = None) -> Path:
    """Where runs are kept."""
    return (home if home is not None else user_folder()) / "runs"


def runs(home: Path | None = None) -> list[Run]:
    """All runs, newest first; folders that are none are passed over."""
    found = []
    for path in runs_folder(home).glob("*/request.json"):
        try:
            found.append(Run.open(path.parent.name, home))
        except (BadInputError, UsageError):
            continue
    return sorted(found, key=lambda run: run.request.created, reverse=True)


def check_new_name(name: str) -> None:
    """UsageError where a model or a pack is called so (file systems may not tell A from a): adopting would fail."""
    for shelf in (Registry(), PackRegistry()):
        for entry in shelf.list():
            if entry.name.casefold() == name.casefold():
                raise UsageError(
                    f"There is a {shelf.noun} called '{entry.name}' already; give the new one another name."
                )


def free_name(wanted: str, taken: Sequence[str], home: Path | None = None) -> str:
    """``wanted-1``, or the first number that neither a run nor ``taken`` has."""
    used = {*taken, *(run.request.name for run in runs(home))}
    number = 1
    while f"{wanted}-{number}" in used or (runs_folder(home) / f"{wanted}-{number}").exists():
        number += 1
    return f"{wanted}-{number}"
