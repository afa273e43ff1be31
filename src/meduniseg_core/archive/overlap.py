"""Overlaps three stages of many items: one is read ahead and one is written behind while a third is worked on.

Reading and writing wait for disks and decode on one core, while the network keeps the device busy: neither has to wait
for the other. At most three items are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from meduniseg_core.errors import is_out_of_memory

_ItemT = TypeVar("_ItemT")
_ReadyT = TypeVar("_ReadyT")
_DoneT = TypeVar("_DoneT")


@dataclass(frozen=True)
class Stages(Generic[_ItemT, _ReadyT, _DoneT]):
    """What happens to each item: ``read`` and ``write`` run in threads of their own, ``work`` in the caller's.

    ``work`` also gets a function to call now and then, which ends the item before as soon as it is written. ``begin``
    is called in the caller's thread before an item is worked on, ``end`` after it was written, with what ``write``
    returned or the exception of whichever stage failed; what ``end`` raises ends everything. ``room`` tells before an
    item is read ahead whether there is memory for it; where not, it is read when all else is written.
    """

    read: Callable[[_ItemT], _ReadyT]
    work: Callable[[_ReadyT, Callable[[], None]], _DoneT]
    write: Callable[[_DoneT], object]
    end: Callable[[_ItemT, object | None, Exception | None], None]
    begin: Callable[[_ItemT], None] = lambda _item: None
    room: Callable[[], bool] = lambda: True


def overlapped(items: Sequence[_ItemT], stages: Stages[_ItemT, _ReadyT, _DoneT]) -> None:
    """Run all items through the stages, in their order.

    Args:
        items: the items.
        stages: what happens to each.

    Raises:
        Exception: whatever ``begin`` or ``end`` raises. An item that is being written then is written to its end.
    """
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
        run = _Run(items, stages, reader, writer)
        try:
            for number in range(len(items)):
                run.one(number)
        finally:
            run.stop()
        run.settle()


class _Run(Generic[_ItemT, _ReadyT, _DoneT]):
    def __init__(
        self,
        items: Sequence[_ItemT],
        stages: Stages[_ItemT, _ReadyT, _DoneT],
        reader: ThreadPoolExecutor,
        writer: ThreadPoolExecutor,
    ) -> None:
        self._items, self._stages = items, stages
        self._reader, self._writer = reader, writer
        self._ahead: Future[_ReadyT] | None = None
        self._behind: tuple[_ItemT, Future[object]] | None = None
        self._ended_all: Exception | None = None

    def one(self, number: int) -> None:
        item = self._items[number]
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            self.settle()  # there was no room: what is being written has its memory back first
        self._stages.begin(item)
        try:
            ready = self._ready(item, ahead)
            del ahead  # which holds what was read
            if number + 1 < len(self._items) and self._stages.room():
                self._ahead = self._reader.submit(self._stages.read, self._items[number + 1])
            done = self._stages.work(ready, self._settle_if_written)
            del ready
        except Exception as error:
            if error is self._ended_all:
                raise
            self.settle()  # ends come in the items' order
            self._stages.end(item, None, error)
            return
        self.settle()
        self._behind = item, self._writer.submit(self._stages.write, done)

    def _ready(self, item: _ItemT, ahead: Future[_ReadyT] | None) -> _ReadyT:
        if ahead is not None:
            try:
                return ahead.result()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            self.settle()  # alone there may be enough
        return self._reader.submit(self._stages.read, item).result()

    def _settle_if_written(self) -> None:
        if self._behind is None or not self._behind[1].done():
            return
        try:
            self.settle()
        except Exception as error:
            self._ended_all = error  # it passes through the work on another item, and is not that one's
            raise

    def settle(self) -> None:
        """Wait for what is being written."""
        behind, self._behind = self._behind, None
        if behind is None:
            return
        item, future = behind
        try:
            result, error = future.result(), None
        except Exception as raised:
            result, error = None, raised
        self._stages.end(item, result, error)

    def stop(self) -> None:
        """Begin nothing more."""
        if self._ahead is not None:
            self._ahead.cancel()
