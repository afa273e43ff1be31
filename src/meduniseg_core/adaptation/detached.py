"""Background processes that outlive their parent. A small file records which process it is, so any later one finds
it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from meduniseg_core.adaptation.run_events import append_event
from meduniseg_core.errors import UsageError
from meduniseg_core.files import write_text

_STOP_SECONDS = 20.0
_NICE = 5


class Mark(BaseModel):
    """Identifies a process beyond its id, which the system reuses."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pid: int = Field(ge=1)
    created: float = Field(description="when the system started it: a process id is used again")
    started: str | None = Field(default=None, description="the same without the clock, which may be set; Linux only")

    @classmethod
    def of(cls, pid: int) -> Mark:
        """Describe a running process.

        Args:
            pid: its process id.

        Returns:
            Its mark.

        Raises:
            psutil.Error: there is no such process, or the system does not say.
        """
        return cls(pid=pid, created=psutil.Process(pid).create_time(), started=_start_of(pid))

    def process(self) -> psutil.Process | None:
        """Find the process.

        Returns:
            The process; None if it has ended.

        Raises:
            psutil.Error: the system does not say.
        """
        if not psutil.pid_exists(self.pid):
            return None
        process = psutil.Process(self.pid)
        now = _start_of(self.pid)
        if self.started is not None and now is not None:
            return process if now == self.started else None
        return process if abs(process.create_time() - self.created) < 1.0 else None


def start(module: str, arguments: Sequence[str], events: Path) -> int:
    """Start ``python -m MODULE ARGUMENTS...`` in a session of its own.

    Args:
        module: the module's full name.
        arguments: the command's arguments.
        events: the process's stderr is appended to this file, after a line that marks the start.

    Returns:
        The process id.
    """
    append_event(events, {"event": "start"})
    with events.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stream,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
            | getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    process.returncode = 0  # nobody waits for it: no warning when this object goes
    return process.pid


def note(path: Path, pid: int) -> None:
    """Record a process in a file. Nothing is written if it has ended already.

    Args:
        path: the file.
        pid: the process id.
    """
    try:
        mark = Mark.of(pid)
    except psutil.Error:
        return  # ended already; its events say why
    write_text(path, mark.model_dump_json())


def find(path: Path) -> psutil.Process | None:
    """Find the process recorded in a file.

    Args:
        path: a file written by :func:`note`.

    Returns:
        The process; None if it has ended, or the file is missing or damaged.
    """
    try:
        known = Mark.model_validate_json(path.read_bytes())
        process = known.process()
        if process is not None and process.status() == psutil.STATUS_ZOMBIE:
            _reap(known.pid)
            return None
        return process
    except (OSError, ValidationError, psutil.Error):
        return None


def stop(process: psutil.Process, wait: float = _STOP_SECONDS) -> None:
    """Ask a process to end at its next safe point, and kill it if it does not.

    Args:
        process: the process.
        wait: seconds to wait before it is killed, and again after that.

    Raises:
        UsageError: this user may not stop it, or it does not end even when killed.
    """
    try:
        process.terminate()
        try:
            process.wait(wait)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(wait)
    except psutil.NoSuchProcess:
        return  # it has just ended
    except psutil.Error as error:
        raise UsageError(f"Process {process.pid} could not be stopped ({error}); stop it by hand.") from error


def lower_priority(pid: int) -> None:
    """Lower a process's priority so that it does not slow down interactive work.

    Linux weighs sessions before processes, so both are lowered. A priority that cannot be changed stays as it is.

    Args:
        pid: the process id.
    """
    try:
        psutil.Process(pid).nice(getattr(psutil, "BELOW_NORMAL_PRIORITY_CLASS", _NICE))
        group = Path(f"/proc/{pid}/autogroup")
        if group.exists():
            group.write_text(str(_NICE))
    except (OSError, psutil.Error):
        return  # as it was, then


def _start_of(pid: int) -> str | None:
    """The boot id and the process's start in clock ticks since then; None where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return f"{boot} {fields[19]}"
    except (OSError, IndexError):
        return None


def _reap(pid: int) -> None:
    """Collect a child that has ended; until then it stays in the system's list of processes."""
    if hasattr(os, "waitpid"):
        try:
            os.waitpid(pid, os.WNOHANG)
        except OSError:
            return  # not our child
