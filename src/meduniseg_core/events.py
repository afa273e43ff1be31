"""How long work reports: frozen events sent to a sink, and a token that cancels it.

The command line prints the events as JSON lines, the plugin shows them. The core never prints.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from meduniseg_core.errors import CancelledError


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` steps of ``stage`` are finished, ``seconds`` after the stage began."""

    stage: str
    done: int
    total: int
    seconds: float = 0.0
    detail: str = ""

    @property
    def remaining_seconds(self) -> float | None:
        """Seconds left at the present pace, or None before the first step is done."""
        if self.done <= 0:
            return None
        return self.seconds / self.done * (self.total - self.done)


@dataclass(frozen=True)
class Metric:
    """A number measured at a step (loss, validation Dice, learning rate), of one task or of all."""

    name: str
    value: float
    step: int
    task: str | None = None


@dataclass(frozen=True)
class Message:
    """A sentence for the user: what was assumed, converted or skipped."""

    level: Literal["info", "warning"]
    text: str


@dataclass(frozen=True)
class CaseDone:
    """The labels of one task of one case are written; ``seconds`` is what segmenting took, ``warnings`` are the
    sentences of what was found out and can make the result wrong."""

    case: str
    task: str
    path: str
    seconds: float
    warnings: tuple[str, ...] = ()


Event = Progress | Metric | Message | CaseDone
EventSink = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """The sink of callers that do not listen."""


class CancelToken:
    """Set from any thread; long work polls it at every window or step."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the work to stop at its next poll."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Raise :class:`CancelledError` once cancelled."""
        if self.cancelled:
            raise CancelledError("Stopped on request; nothing was written.")
