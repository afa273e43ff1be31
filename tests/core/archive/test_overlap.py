"""Reading, work and writing overlap, in order, with at most three items at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from meduniseg_core.archive import Stages, overlapped


class Recorder:
    """Stages over numbers that count what is in memory; numbers in ``failing`` fail in the stage of that name."""

    def __init__(self, failing: dict[int, str] | None = None, room: bool = True) -> None:
        self.failing = failing or {}
        self.lock = threading.Lock()
        self.alive = 0
        self.most = 0
        self.threads: dict[str, set[int]] = {"read": set(), "work": set(), "write": set()}
        self.ends: list[tuple[int, object, str]] = []
        self.stages = Stages(
            self._stage("read"), self._stage("work"), self._stage("write"), self._end, room=lambda: room
        )

    def _stage(self, name: str):
        def run(number: int, _end_written: object = None) -> int:
            with self.lock:
                self.threads[name].add(threading.get_ident())
                self.alive += name == "read"
                self.most = max(self.most, self.alive)
            if self.failing.get(number) == name:
                self._gone()
                raise ValueError(name)
            if name == "write":
                self._gone()
            return number

        return run

    def _gone(self) -> None:
        with self.lock:
            self.alive -= 1

    def _end(self, item: int, result: object | None, error: Exception | None) -> None:
        self.ends.append((item, result, str(error) if error else ""))


def run(items: Sequence[int], recorder: Recorder) -> Recorder:
    overlapped(items, recorder.stages)
    return recorder


def test_every_item_ends_once_in_order_and_three_are_in_memory_at_most() -> None:
    done = run(range(50), Recorder())
    assert done.ends == [(number, number, "") for number in range(50)]
    assert 1 <= done.most <= 3 and done.alive == 0
    assert done.threads["work"] == {threading.get_ident()}
    assert not done.threads["work"] & (done.threads["read"] | done.threads["write"])


def test_the_next_is_read_while_one_is_worked_on_and_the_last_is_written_meanwhile() -> None:
    """Each stage waits for the others: without overlap this would never end."""
    reading, writing = threading.Event(), threading.Event()

    def read(number: int) -> int:
        if number == 2:
            reading.set()
        return number

    def work(number: int, _end_written: object) -> int:
        if number == 1:
            assert reading.wait(60) and writing.wait(60)
        return number

    def write(number: int) -> int:
        if number == 0:
            writing.set()
            assert reading.wait(60)
        return number

    ended: list[int] = []
    overlapped(range(3), Stages(read, work, write, lambda item, _result, _error: ended.append(item)))
    assert ended == [0, 1, 2]


@pytest.mark.parametrize("stage", ["read", "work", "write"])
@pytest.mark.parametrize("which", [0, 3, 9])
def test_an_item_that_fails_costs_itself_alone(stage: str, which: int) -> None:
    done = run(range(10), Recorder({which: stage}))
    wanted = [(number, None, stage) if number == which else (number, number, "") for number in range(10)]
    assert done.ends == wanted and done.alive == 0


def test_without_room_one_is_in_memory_at_a_time() -> None:
    done = run(range(10), Recorder(room=False))
    assert done.most == 1 and [end[0] for end in done.ends] == list(range(10))


def test_an_item_read_ahead_for_which_memory_was_short_is_read_again_alone() -> None:
    recorder, tries = Recorder(), list[int]()
    whole = recorder.stages.read

    def read(number: int) -> int:
        tries.append(number)
        if number == 2 and tries.count(2) == 1:
            raise MemoryError
        return whole(number)

    stages = Stages(read, recorder.stages.work, recorder.stages.write, recorder.stages.end)
    overlapped(range(4), stages)
    assert tries == [0, 1, 2, 2, 3] and [end[1] for end in recorder.ends] == [0, 1, 2, 3]


def test_what_end_raises_ends_all_and_nothing_more_is_begun() -> None:
    begun: list[int] = []

    def end(item: int, _result: object | None, _error: Exception | None) -> None:
        if item == 2:
            raise KeyError(item)

    with pytest.raises(KeyError):
        overlapped(
            range(100), Stages(lambda item: item, lambda item, _: item, lambda item: item, end, begin=begun.append)
        )
    assert max(begun) <= 4


def test_an_item_ends_while_the_next_is_worked_on() -> None:
    ended, seen = list[int](), list[list[int]]()

    def work(number: int, end_written: Callable[[], None]) -> int:
        until = time.monotonic() + 60
        while number and len(ended) < number and time.monotonic() < until:
            end_written()
        seen.append([*ended])
        return number

    stages = Stages(lambda item: item, work, lambda item: item, lambda item, _result, _error: ended.append(item))
    overlapped(range(3), stages)
    assert seen == [[], [0], [0, 1]] and ended == [0, 1, 2]


def test_what_the_end_of_an_item_raises_is_not_the_fault_of_the_one_that_is_worked_on() -> None:
    ended: list[tuple[int, str]] = []

    def work(number: int, end_written: Callable[[], None]) -> int:
        until = time.monotonic() + 60
        while number and time.monotonic() < until:
            end_written()
        return number

    def end(item: int, _result: object | None, error: Exception | None) -> None:
        ended.append((item, str(error)))
        raise KeyError(item)

    with pytest.raises(KeyError):
        overlapped(range(3), Stages(lambda item: item, work, lambda item: item, end))
    assert ended == [(0, "None")]
