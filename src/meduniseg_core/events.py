"""How long-running work reports: immutable events sent to a sink, and a token to cancel it.

The command line prints the events as JSON lines, the plugin displays them. The core itself never prints.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal

from meduniseg_core.errors import CancelledError, RequeueError


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` steps of a ``stage`` are finished, ``seconds`` after the stage began."""

    stage: str
    done: int
    total: int
    seconds: float = 0.0
    detail: str = ""

    @property
    def remaining_seconds(self) -> float | None:
        """Estimated seconds left at the present pace; None before the first step is done."""
        if self.done <= 0:
            return None
        return self.seconds / self.done * (self.total - self.done)


@dataclass(frozen=True)
class Metric:
    """A number measured at a step (loss, validation Dice, learning rate), for one task or for all."""

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
    """The labels of one task of one case are written.

    ``seconds`` is the time segmenting took, ``warnings`` are sentences about findings that may make the result wrong,
    ``quality`` is how far to trust it (the JSON's "quality").
    """

    case: str
    task: str
    path: str
    seconds: float
    warnings: tuple[str, ...] = ()
    quality: dict[str, Any] | None = None


Event = Progress | Metric | Message | CaseDone
EventSink = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """A sink for callers that do not listen."""


def event_record(event: Event) -> dict[str, Any]:
    """Convert an event to a JSON object.

    Args:
        event: the event.

    Returns:
        Its kind under ``event``, and its fields; NaN and infinity become None.
    """
    fields = dataclasses.asdict(event)
    plain = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in fields.items()
    }
    return {"event": type(event).__name__.lower(), **plain}


def error_record(sentence: str, exit_code: int) -> dict[str, Any]:
    """The last event of work that failed, as a JSON object.

    Args:
        sentence: the message for the user.
        exit_code: the command's exit code.

    Returns:
        The fields.
    """
    return {"event": "error", "message": sentence, "exit_code": exit_code}


class CancelToken:
    """Cancels work from any thread; long-running work polls it at every window or step."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.requeue = False

    def cancel(self, *, requeue: bool = False) -> None:
        """Ask the work to stop the next time it polls.

        Args:
            requeue: it is to be started again later.
        """
        self.requeue = self.requeue or requeue
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Stop here if the work was cancelled.

        Raises:
            RequeueError: it was, to be started again later.
            CancelledError: it was.
        """
        if self.requeue:
            raise RequeueError("Stopped on request, to be started again; nothing was written.")
        if self.cancelled:
            raise CancelledError("Stopped on request; nothing was written.")


@contextlib.contextmanager
def cancelled_by_signals(
    token: CancelToken, *, requeue: Sequence[signal.Signals] = (), patient: bool = False
) -> Iterator[None]:
    """Let Ctrl-C or SIGTERM cancel the work within the block; a second one stops it at once (KeyboardInterrupt).

    Only in the main thread.

    Args:
        token: the token that the work polls.
        requeue: signals by which a cluster asks for the machine.
        patient: take further signals for the same one. Launchers and clusters send theirs to all processes and to each
            one's children, and what stops at once is not saved.

    Yields:
        Nothing.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        if token.cancelled and not patient:
            raise KeyboardInterrupt
        token.cancel(requeue=number in requeue)

    names = {signal.SIGINT, signal.SIGTERM, *requeue}
    previous = {name: signal.signal(name, handle) for name in names}
    try:
        yield
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
