"""The events of several cases that are segmented at once, put in an order that can be read."""

from __future__ import annotations

import time
from collections.abc import Callable

from meduniseg_core.events import Event, EventSink, Progress


class SideBySideEvents:
    """Joins the progress of cases at work, and keeps their messages together.

    Progress of the stage "cases" names those that are segmented or written, that of "segment" adds up their windows.
    What else a case says waits until it ends. ``ended`` tells how many cases have, of ``total``, since ``began``.
    """

    def __init__(self, total: int, began: float, ended: Callable[[], int], events: EventSink) -> None:
        self._total, self._began, self._ended, self._events = total, began, ended, events
        self._windows: dict[str, Progress] = {}
        self._said: dict[str, list[Event]] = {}

    def begin(self, case: str) -> None:
        """A case is being worked on."""
        self._windows[case] = Progress("segment", 0, 0)
        self._said[case] = []
        done = min(self._ended(), self._total - 1)
        self._events(Progress("cases", done, self._total, time.perf_counter() - self._began, self._names))

    def heard(self, case: str, event: Event) -> None:
        """A case at work says something."""
        if not isinstance(event, Progress):
            self._said[case].append(event)
            return
        self._windows[case] = event
        parts = self._windows.values()
        done, total = sum(part.done for part in parts), sum(part.total for part in parts)
        self._events(Progress(event.stage, done, total, max(part.seconds for part in parts), self._names))

    def forget(self, case: str) -> None:
        """A case is done anew, later."""
        del self._windows[case], self._said[case]

    def end(self, case: str) -> None:
        """A case is done or has failed: what it said is told."""
        self._windows.pop(case, None)
        for event in self._said.pop(case, ()):
            self._events(event)

    @property
    def _names(self) -> str:
        return ", ".join(self._windows)
