"""Hands work to a dask scheduler (extra ``[cluster]``): workers come and go, and what a lost one had is done by others.

What goes over the network is pickled by dask, so whoever reaches its scheduler can run anything: keep it in a network
of your own, or use its TLS (``tls://`` addresses, configured as dask says).
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from meduniseg_core.errors import BadInputError, LostProcessError, UsageError
from meduniseg_core.events import CancelToken, EventSink, Message

if TYPE_CHECKING:
    from distributed import Client, Future

_OrderT = TypeVar("_OrderT")

_ANSWERS_WITHIN = 30.0  # seconds that a scheduler has
_LOOK = 0.25  # seconds between looks at the cancel token


@dataclass(frozen=True)
class RemoteWork(Generic[_OrderT]):
    """Work for the workers: a function that can be imported there, and an order (picklable) for each call of it.

    ``end`` is called in the caller's thread with the order's index and what the function returned, or why no worker
    could do it; what it raises ends everything.
    """

    function: Callable[[_OrderT], object]
    orders: Sequence[_OrderT]
    end: Callable[[int, object | None, Exception | None], None]


def check_scheduler_library() -> None:
    """Check that dask.distributed is installed.

    Raises:
        UsageError: it is missing.
    """
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise UsageError(
            "--scheduler needs dask.distributed, which is not installed; install it with "
            "'pip install napari-meduniseg[cluster]'."
        ) from None


def run_on_scheduler(address: str, work: RemoteWork[Any], events: EventSink, cancel: CancelToken) -> None:
    """Have the workers of a scheduler do all orders; returns when each has ended.

    Args:
        address: the scheduler's address, ``tcp://HOST:8786``.
        work: what to do.
        events: receives messages.
        cancel: stops: orders that were not begun are taken back, those that run end by themselves.

    Raises:
        UsageError: no scheduler answers there, or the library is missing.
        LostProcessError: the scheduler is gone.
        CancelledError: ``cancel`` was set.
    """
    check_scheduler_library()
    client = _connected(address)
    try:
        if not client.scheduler_info()["workers"]:
            events(Message("warning", f"The scheduler at {address} has no workers yet; the cases wait for the first."))
        _run(client, address, work, cancel)
    finally:
        with suppress(Exception):  # a scheduler that is gone says goodbye to nobody
            client.close(timeout=5)


def _connected(address: str) -> Client:
    from distributed import Client

    try:
        return Client(address, timeout=_ANSWERS_WITHIN, set_as_default=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"No scheduler answers at {address}; start one with 'dask scheduler' and give the address that it prints."
        ) from error


def _run(client: Client, address: str, work: RemoteWork[Any], cancel: CancelToken) -> None:
    ended: queue.SimpleQueue[tuple[int, Future[Any]]] = queue.SimpleQueue()
    futures = []
    for number, order in enumerate(work.orders):
        future = client.submit(work.function, order, pure=False)
        future.add_done_callback(lambda done, number=number: ended.put((number, done)))
        futures.append(future)
    try:
        for _ in futures:
            number, future = _next(ended, client, address, cancel)
            result, error = _outcome(future, address)
            futures[number] = None  # the scheduler may forget it
            work.end(number, result, error)
    finally:
        with suppress(Exception):
            client.cancel([future for future in futures if future is not None], force=True)


def _next(
    ended: queue.SimpleQueue[tuple[int, Future[Any]]], client: Client, address: str, cancel: CancelToken
) -> tuple[int, Future[Any]]:
    while True:
        cancel.raise_if_cancelled()
        with suppress(queue.Empty):
            return ended.get(timeout=_LOOK)
        if client.status != "running":
            raise _lost(address)


def _outcome(future: Future[Any], address: str) -> tuple[object | None, Exception | None]:
    from distributed import KilledWorker

    if future.status in ("cancelled", "lost"):
        raise _lost(address)
    error = future.exception()
    if error is None:
        return future.result(), None
    if isinstance(error, KilledWorker):
        text = "every worker that was given this case died; look at their logs (often they are short of memory)."
        return None, BadInputError(f"The case was not done: {text}")
    return None, error if isinstance(error, Exception) else RuntimeError(str(error))


def _lost(address: str) -> LostProcessError:
    return LostProcessError(
        f"The scheduler at {address} is gone; start it and run this command again, which goes on with --manifest."
    )
