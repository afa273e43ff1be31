"""Shows the core's events on stderr: a bar on a terminal, lines in a log, or JSON lines for a program."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Literal

from meduniseg_core.events import CaseDone, Event, EventSink, Message, Metric, Progress, event_record
from training_cli.output import console, print_json_line, printable

LINE_EVERY_SECONDS = 30.0

ProgressMode = Literal["auto", "bar", "lines", "json", "none"]


@contextlib.contextmanager
def display(mode: ProgressMode) -> Iterator[EventSink]:
    """A sink that shows events in the given way until the block ends."""
    if mode == "bar":
        with _Bar() as bar:
            yield bar
    elif mode == "json":
        yield as_json_line
    elif mode == "lines":
        yield _Lines()
    else:
        yield _warn


def as_json_line(event: Event) -> None:
    """The event as one line of JSON."""
    print_json_line(event_record(event))


def _warn(event: Event) -> None:
    """Nothing but warnings: what can make a result wrong is said however little progress is shown."""
    if isinstance(event, Message) and event.level == "warning":
        _Lines._print(_note(event))


class _Lines:
    """For logs: notes and figures at once, progress now and then and at the end of a stage."""

    def __init__(self) -> None:
        self._stage = ""
        self._shown_at = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Message):
            self._print(_note(event))
        elif isinstance(event, Metric):
            self._print(_figure(event))
        elif isinstance(event, CaseDone):
            self._print(_written(event))
        else:
            self._progress(event)

    def _progress(self, event: Progress) -> None:
        now = time.monotonic()
        if event.stage != self._stage:
            self._stage, self._shown_at = event.stage, now
        if event.done >= event.total or now - self._shown_at >= LINE_EVERY_SECONDS:
            self._shown_at = now
            detail = f" {event.detail}" if event.detail else ""
            self._print(f"{event.stage}{detail}: {event.done} of {event.total}, {event.seconds:.1f} s")

    @staticmethod
    def _print(text: str) -> None:
        print(printable(text), file=sys.stderr, flush=True)


class _Bar:
    """For people: one bar for the stage that runs; notes and figures above it."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", style="dim", markup=False),
            console=console(sys.stderr),
            transient=True,
        )
        self._stage = ""

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Message):
            colour = "yellow" if event.level == "warning" else "dim"
            self._bar.console.print(printable(_note(event)), style=colour, markup=False)
        elif isinstance(event, Metric):
            self._bar.console.print(printable(_figure(event)), markup=False)
        elif isinstance(event, CaseDone):
            self._bar.console.print(printable(_written(event)), style="dim", markup=False)
        else:
            self._progress(event)

    def _progress(self, event: Progress) -> None:
        if event.stage != self._stage or not self._bar.tasks:
            self._stage = event.stage
            for task in list(self._bar.task_ids):
                self._bar.remove_task(task)
            self._bar.add_task(event.stage, total=event.total, detail="")
        self._bar.update(self._bar.task_ids[0], total=event.total, completed=event.done)
        if event.detail:
            self._bar.update(self._bar.task_ids[0], detail=printable(event.detail))


def _note(event: Message) -> str:
    return f"{'warning' if event.level == 'warning' else 'note'}: {event.text}"


def _written(event: CaseDone) -> str:
    return f"{event.case} ({event.task}): {event.path}, {event.seconds:.1f} s"


def _figure(event: Metric) -> str:
    subject = f"{event.task} " if event.task is not None else ""
    return f"step {event.step}: {subject}{event.name} {event.value:.4f}"
