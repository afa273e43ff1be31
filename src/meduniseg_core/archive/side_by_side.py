"""Works on several items at once, where one alone leaves cores idle.

On a CPU the layers of a network wait for their slowest thread, and much between them runs on one core. A second case
uses what is idle then. Every case runs with as many threads as it would alone, so that its numbers are the same: sums
depend on how they are divided among threads.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from meduniseg_core.errors import OutOfMemoryError, is_out_of_memory

_ItemT = TypeVar("_ItemT")
_ReadyT = TypeVar("_ReadyT")
_DoneT = TypeVar("_DoneT")

_MOST = 4
_LOOK = 0.5  # seconds between looks for a signal, which a wait without end would hold up on Windows


def items_at_once(cores: int, items: int) -> int:
    """Choose how many items to work on at once.

    Args:
        cores: that may be used.
        items: how many there are.

    Returns:
        1 on a single core; 4 at most, as each also has threads of its own.
    """
    return max(1, min(cores, items, _MOST))


@dataclass(frozen=True)
class Lanes(Generic[_ItemT, _ReadyT, _DoneT]):
    """What happens to each item. ``read``, ``work`` and ``write`` run in threads, all else in the caller's.

    One item at a time is read, and one is written: decoders change what holds for the whole process, as filters of
    warnings.

    ``work`` gets what was read, whether it may use cheaper ways of running (nothing else is being worked on), and a
    function by which it reports: ``heard`` receives what it is called with, and it ends the work where the run ends.
    ``begin`` is called before an item is worked on, ``end`` after it was written, with what ``write`` returned or the
    exception of whichever stage failed; items end in the order in which they are done. What ``end`` raises ends
    everything. ``again`` tells that memory ran out beside other items and the item is done anew, alone.

    ``need`` estimates the bytes that working on an item takes besides what was read, ``ahead`` those that reading
    another one takes (0: not known yet). ``free`` is what is free now.
    """

    read: Callable[[_ItemT], _ReadyT]
    work: Callable[[_ReadyT, bool, Callable[[Any], None]], _DoneT]
    write: Callable[[_DoneT], object]
    begin: Callable[[_ItemT], None]
    heard: Callable[[_ItemT, Any], None]
    again: Callable[[_ItemT], None]
    end: Callable[[_ItemT, object | None, Exception | None], None]
    need: Callable[[_ReadyT], int]
    ahead: Callable[[], int]
    free: Callable[[], int]


def run_in_lanes(items: Sequence[_ItemT], lanes: Lanes[_ItemT, _ReadyT, _DoneT], count: int) -> int:
    """Run all items through the stages, up to ``count`` at once and as many as memory allows.

    An item is worked on beside others only where its need and theirs are free, as if those had taken nothing yet. One
    that does not fit alone is worked on with nothing beside it. Where memory runs out all the same, the item is done
    anew, and this and all others one by one. In memory are at most ``2 * count`` items that are worked on or written,
    and one that is read ahead.

    Args:
        items: the items.
        lanes: what happens to each.
        count: how many are worked on at once at most.

    Returns:
        How many were worked on at once at most.

    Raises:
        Exception: whatever ``begin``, ``heard`` or ``end`` raises. Items that are being worked on then stop the next
            time they report. Those that are written by then end, unless it was the end of a written one that failed.
    """
    with (
        ThreadPoolExecutor(1, "read") as reader,
        ThreadPoolExecutor(count, "work") as workers,
        ThreadPoolExecutor(1, "write") as writer,
    ):
        run = _LaneRun(items, lanes, count, reader, workers, writer)
        try:
            run.all()
        finally:
            run.stop()
    return run.most


class _StoppedError(Exception):
    """The run has ended: an item that is being worked on stops."""


@dataclass
class _LaneRun(Generic[_ItemT, _ReadyT, _DoneT]):
    items: Sequence[_ItemT]
    lanes: Lanes[_ItemT, _ReadyT, _DoneT]
    count: int
    reader: ThreadPoolExecutor
    workers: ThreadPoolExecutor
    writer: ThreadPoolExecutor
    most: int = 0
    _inbox: queue.SimpleQueue[Callable[[], None]] = field(default_factory=queue.SimpleQueue)
    _waiting: deque[int] = field(init=False)
    _again: deque[int] = field(default_factory=deque)
    _reading: int | None = None
    _ready: deque[tuple[int, _ReadyT, int]] = field(default_factory=deque)
    _busy: dict[int, int] = field(default_factory=dict)  # the need of each item that is worked on
    _writing: set[int] = field(default_factory=set)
    _alone: int | None = None  # the item beside which nothing may be
    _one_by_one: bool = False
    _stopped: bool = False
    _raised: Exception | None = None

    def __post_init__(self) -> None:
        self._waiting = deque(range(len(self.items)))

    def all(self) -> None:
        while True:
            self._work_more()  # first: an item that waits for a lane keeps others from being read
            self._read_more()
            if self._reading is None and not (self._busy or self._writing):
                break
            self._next()()
        if self._raised is not None:
            raise self._raised

    def stop(self) -> None:
        """Begin nothing more, and let what is worked on stop."""
        self._stopped = True
        self._waiting.clear()
        self._again.clear()
        self._ready.clear()
        self.reader.shutdown(wait=False, cancel_futures=True)

    def _next(self) -> Callable[[], None]:
        while True:
            with suppress(queue.Empty):
                return self._inbox.get(timeout=_LOOK)

    def _tell(self, receive: Callable[[Future[Any]], None], future: Future[Any]) -> None:
        self._inbox.put(partial(receive, future))

    def _read_more(self) -> None:
        while not self._stopped and self._may_read():
            if not self._anything_there and self._again and (self._one_by_one or not self._waiting):
                index = self._alone = self._again.popleft()
            elif self._waiting:
                index = self._waiting.popleft()
                self._alone = index if self._one_by_one else self._alone
            else:
                return
            self._reading = index
            future = self.reader.submit(self._read, self.items[index])
            future.add_done_callback(partial(self._tell, partial(self._was_read, index)))

    @property
    def _anything_there(self) -> bool:
        return self._reading is not None or bool(self._ready or self._busy or self._writing)

    @property
    def _free_lanes(self) -> int:
        """How many more items can be worked on; where the disk is the slowest, no more results are kept for it."""
        return self.count - max(len(self._busy), len(self._busy) + len(self._writing) - self.count)

    def _may_read(self) -> bool:
        if not self._anything_there:
            return True
        if self._alone is not None or self._one_by_one or not self._waiting:
            return False
        # an item that is read and waits, waits for a lane or for memory: no reason to read more
        if self._reading is not None or self._ready:
            return False
        ahead = self.lanes.ahead()
        return ahead > 0 and self.lanes.free() >= sum(self._busy.values()) + ahead

    def _read(self, item: _ItemT) -> tuple[_ReadyT, int]:
        ready = self.lanes.read(item)
        return ready, self.lanes.need(ready)

    def _was_read(self, index: int, future: Future[tuple[_ReadyT, int]]) -> None:
        self._reading = None
        if self._stopped:
            return
        error = _error_of(future)
        if error is None:
            self._ready.append((index, *future.result()))
        elif _is_shortage(error) and self._alone != index:
            self._again.append(index)  # alone there may be enough
        else:
            self.lanes.begin(self.items[index])
            self._end(index, None, error)

    def _work_more(self) -> None:
        while self._ready and self._free_lanes > 0 and not self._stopped:
            index, ready, need = self._ready[0]
            alone = self._one_by_one or self.lanes.free() < need + sum(self._busy.values())
            if (self._busy or self._writing) and (alone or self._alone is not None):
                return
            if alone:
                self._alone = index
            self._ready.popleft()
            self._busy[index] = need
            self.most = max(self.most, len(self._busy))
            self.lanes.begin(self.items[index])
            future = self.workers.submit(self._work, index, ready, self._alone == index)
            del ready
            future.add_done_callback(partial(self._tell, partial(self._was_worked_on, index)))

    def _work(self, index: int, ready: _ReadyT, alone: bool) -> _DoneT:
        item = self.items[index]

        def report(note: Any) -> None:
            if self._stopped:
                raise _StoppedError
            self._inbox.put(lambda: self.lanes.heard(item, note))

        return self.lanes.work(ready, alone, report)

    def _was_worked_on(self, index: int, future: Future[_DoneT]) -> None:
        del self._busy[index]
        if _error_of(future) is not None:
            self._was_done(index, future)
            return
        self._writing.add(index)
        written = self.writer.submit(self.lanes.write, future.result())
        written.add_done_callback(partial(self._tell, partial(self._was_done, index)))

    def _was_done(self, index: int, future: Future[Any]) -> None:
        self._writing.discard(index)
        error = _error_of(future)
        if error is not None and _is_shortage(error) and self._alone != index and not self._stopped:
            self._one_by_one = True
            self._again.append(index)
            self.lanes.again(self.items[index])
            return
        self._end(index, None if error is not None else future.result(), error)

    def _end(self, index: int, result: object | None, error: Exception | None) -> None:
        if self._alone == index:
            self._alone = None
        if self._stopped and error is not None:
            return
        try:
            self.lanes.end(self.items[index], result, error)
        except Exception as raised:
            if error is None:  # of what is written nothing can be told
                raise self._raised or raised from None
            self._raised = raised
            self.stop()


def _error_of(future: Future[Any]) -> Exception | None:
    error = future.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    return error


def _is_shortage(error: Exception) -> bool:
    return isinstance(error, OutOfMemoryError) or is_out_of_memory(error)
