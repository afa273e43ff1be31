"""Shared by all long commands: where results and progress go, and how Ctrl-C stops the work.

Results go to stdout; everything else (progress, notes, errors) to stderr. With ``--json`` stdout carries one JSON
object and nothing else, whatever the libraries below may print.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from meduniseg_core.errors import CancelledError
from meduniseg_core.events import CancelToken, EventSink, cancelled_by_signals
from training_cli.output import console, print_json, printable
from training_cli.progress import ProgressMode, display

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass
class Session:
    """A running command: send it events, poll its token, hand it the result."""

    events: EventSink
    cancel: CancelToken
    as_json: bool
    quiet: bool
    json_events: bool
    _stdout: TextIO

    def result(self, payload: Mapping[str, Any], *lines: str) -> None:
        """The command's result on stdout: ``payload`` with ``--json``, else ``lines``."""
        if self.as_json:
            print_json(payload, self._stdout)
        else:
            for line in lines:
                print(printable(line), file=self._stdout)

    def show(self, renderable: RenderableType) -> None:
        """A table or text for people, on stderr; nothing where a program is listening."""
        if not (self.as_json or self.quiet):
            text = isinstance(renderable, str)  # a sentence: brackets in it are not markup
            console(sys.stderr).print(
                printable(renderable) if isinstance(renderable, str) else renderable, markup=not text
            )


@contextlib.contextmanager
def resumable(output: Path) -> Iterator[None]:
    """Around a training that keeps its checkpoints in ``output``: an interruption says how to go on."""
    try:
        yield
    except CancelledError as error:
        from meduniseg_core.training.checkpoint import has_checkpoint

        there = has_checkpoint(output)
        rest = f"--resume goes on from the checkpoint in {output}" if there else "there is no checkpoint yet"
        raise type(error)(f"Interrupted; {rest}.") from error


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """Around several trainings that go on by themselves: an interruption says so."""
    try:
        yield
    except CancelledError as error:
        raise type(error)("Interrupted; what is done stays, and the same command goes on from there.") from error


@contextlib.contextmanager
def work(
    progress: ProgressMode = "auto",
    *,
    as_json: bool = False,
    requeue: Sequence[signal.Signals] = (),
    patient: bool = False,
) -> Iterator[Session]:
    """Show progress, cancel on Ctrl-C or SIGTERM (and as `cancelled_by_signals` says), keep stdout clean for
    ``--json``."""
    mode = _resolve(progress)
    token = CancelToken()
    stdout = sys.stdout
    with contextlib.ExitStack() as stack:
        stack.enter_context(cancelled_by_signals(token, requeue=requeue, patient=patient))
        if as_json:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        events = stack.enter_context(display(mode))
        yield Session(events, token, as_json, mode in ("json", "none"), mode == "json", stdout)


def _resolve(progress: ProgressMode) -> ProgressMode:
    if progress != "auto":
        return progress
    return "bar" if sys.stderr.isatty() else "lines"
