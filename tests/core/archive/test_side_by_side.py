"""Several items at once: each once, within memory, and one that fails costs itself alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from meduniseg_core.archive import Lanes, items_at_once, run_in_lanes
from meduniseg_core.errors import OutOfMemoryError

MEET = 120.0  # seconds that threads wait for each other before a test fails


class Machine:
    """Lanes over numbers on a machine of some memory; every item that is worked on takes ``need`` of it."""

    def __init__(self, memory: int = 1000, need: int = 10, failing: dict[int, str] | None = None) -> None:
        self.memory, self.need, self.failing = memory, need, failing or {}
        self.lock = threading.Lock()
        self.taken = self.alive = self.most_alive = self.least_free = 0
        self.least_free = memory
        self.working: set[int] = set()
        self.most = 0
        self.beside: dict[int, set[int]] = {}
        self.alone: dict[int, bool] = {}
        self.caller = threading.get_ident()
        self.told: list[tuple[str, int]] = []
        self.ends: dict[int, tuple[object, str]] = {}
        self.lanes = Lanes(
            read=self.read,
            work=self.work,
            write=self.write,
            begin=lambda item: self.tell("begin", item),
            heard=lambda item, _note: self.tell("heard", item),
            again=lambda item: self.tell("again", item),
            end=self.end,
            need=lambda _ready: self.need,
            ahead=lambda: 1,
            free=lambda: self.memory - self.taken,
        )

    def tell(self, what: str, item: int) -> None:
        assert threading.get_ident() == self.caller
        self.told.append((what, item))

    def read(self, item: int) -> int:
        with self.lock:
            self.alive += 1
            self.most_alive = max(self.most_alive, self.alive)
        self.fail(item, "read")
        return item

    def work(self, item: int, alone: bool, report: Callable[[object], None]) -> int:
        assert threading.get_ident() != self.caller
        with self.lock:
            self.taken += self.need
            self.least_free = min(self.least_free, self.memory - self.taken)
            self.working.add(item)
            self.most = max(self.most, len(self.working))
            self.alone[item] = alone
            for one in self.working:
                self.beside.setdefault(one, set()).update(self.working - {one})
        report(item)
        time.sleep(0.002)
        with self.lock:
            self.taken -= self.need
            self.working.discard(item)
        self.fail(item, "work")
        return item

    def write(self, item: int) -> int:
        self.fail(item, "write")
        with self.lock:
            self.alive -= 1
        return item

    def fail(self, item: int, stage: str) -> None:
        if self.failing.get(item) == stage:
            with self.lock:
                self.alive -= 1
            raise ValueError(stage)

    def end(self, item: int, result: object | None, error: Exception | None) -> None:
        self.tell("end", item)
        assert item not in self.ends
        self.ends[item] = result, str(error) if error else ""


def run(items: Sequence[int], machine: Machine, count: int = 3) -> int:
    return run_in_lanes(items, machine.lanes, count)


def test_every_item_is_done_once_and_as_many_at_once_as_are_wanted() -> None:
    machine, meeting = Machine(), threading.Barrier(3)

    def work(item: int, alone: bool, report: Callable[[object], None]) -> int:
        done = machine.work(item, alone, report)
        meeting.wait(MEET)  # would never end with fewer at work
        return done

    assert run_in_lanes(range(12), replace(machine.lanes, work=work), 3) == 3
    assert machine.ends == {item: (item, "") for item in range(12)} and machine.alive == 0
    assert not any(machine.alone.values())
    for item in range(12):
        assert [what for what, told in machine.told if told == item] == ["begin", "heard", "end"]


@pytest.mark.parametrize("stage", ["read", "work", "write"])
@pytest.mark.parametrize("which", [0, 4, 9])
def test_an_item_that_fails_costs_itself_alone(stage: str, which: int) -> None:
    machine = Machine(failing={which: stage})
    run(range(10), machine)
    assert machine.ends == {item: (None, stage) if item == which else (item, "") for item in range(10)}
    assert machine.alive == 0 and machine.taken == 0


def test_memory_bounds_how_many_are_worked_on_at_once() -> None:
    machine = Machine(memory=45, need=10)
    assert 2 <= run(range(30), machine, count=8) <= 4 and machine.most <= 4
    assert machine.least_free >= 0 and machine.ends.keys() == set(range(30))


def test_what_does_not_fit_beside_others_is_worked_on_alone() -> None:
    machine = Machine(memory=100)
    lanes = replace(machine.lanes, need=lambda item: 500 if item == 4 else 10)
    run_in_lanes(range(10), lanes, 3)
    assert machine.beside[4] == set()
    assert {item for item, alone in machine.alone.items() if alone} == {4}
    assert machine.ends == {item: (item, "") for item in range(10)}


def test_the_read_and_the_written_are_few_where_the_disk_is_the_slowest() -> None:
    machine = Machine()

    def write(item: int) -> int:
        time.sleep(0.02)
        return machine.write(item)

    run_in_lanes(range(24), replace(machine.lanes, write=write), 2)
    assert machine.most_alive <= 2 * 2 + 1 and len(machine.ends) == 24


def test_results_are_written_while_all_lanes_work_on_others() -> None:
    machine, working = Machine(), threading.Event()

    def work(item: int, alone: bool, report: Callable[[object], None]) -> int:
        if item == 2:
            working.set()
        return machine.work(item, alone, report)

    def write(item: int) -> int:
        assert item > 1 or working.wait(MEET)
        return machine.write(item)

    run_in_lanes(range(4), replace(machine.lanes, work=work, write=write), 2)
    assert len(machine.ends) == 4


@pytest.mark.parametrize("shortage", [MemoryError(), OutOfMemoryError("Not enough memory.")])
def test_where_memory_runs_out_beside_others_all_that_is_left_is_done_one_by_one(shortage: Exception) -> None:
    machine = Machine()

    def work(item: int, alone: bool, report: Callable[[object], None]) -> int:
        done = machine.work(item, alone, report)
        if item == 3 and not alone:
            raise shortage
        return done

    run_in_lanes(range(12), replace(machine.lanes, work=work), 3)
    assert [item for what, item in machine.told if what == "again"] == [3]
    assert machine.alone[3] and all(machine.alone[item] for item in range(8, 12))
    assert machine.ends == {item: (item, "") for item in range(12)}


def test_an_item_for_which_memory_runs_out_alone_fails_and_the_others_go_on() -> None:
    machine = Machine()

    def work(item: int, alone: bool, report: Callable[[object], None]) -> int:
        done = machine.work(item, alone, report)
        if item == 3:
            raise OutOfMemoryError("Not enough memory.")
        return done

    run_in_lanes(range(6), replace(machine.lanes, work=work), 3)
    assert machine.ends == {item: (None, "Not enough memory.") if item == 3 else (item, "") for item in range(6)}


def test_an_item_that_cannot_be_read_beside_others_is_read_again_when_they_are_done() -> None:
    machine, tries = Machine(), list[int]()

    def read(item: int) -> int:
        tries.append(item)
        if item == 2 and tries.count(2) == 1:
            raise MemoryError
        return machine.read(item)

    run_in_lanes(range(8), replace(machine.lanes, read=read), 3)
    assert tries[-1] == 2 and len(tries) == 9 and list(machine.ends)[-1] == 2
    assert machine.alone[2] and machine.ends == {item: (item, "") for item in range(8)}


def test_an_item_that_takes_long_holds_up_no_other_ones_end() -> None:
    machine, others = Machine(), threading.Event()

    def work(item: int, alone: bool, report: Callable[[object], None]) -> int:
        if item == 0:
            assert others.wait(MEET)
        return machine.work(item, alone, report)

    def end(item: int, result: object | None, error: Exception | None) -> None:
        machine.end(item, result, error)
        if len(machine.ends) == 5:
            others.set()

    run_in_lanes(range(6), replace(machine.lanes, work=work, end=end), 2)
    assert list(machine.ends) == [1, 2, 3, 4, 5, 0]


def test_a_stop_ends_what_is_worked_on_and_what_is_written_by_then_ends_too() -> None:
    """Item 1 fails for good; item 0 is being written, item 2 would work for ever."""
    ended: list[tuple[int, str]] = []
    writing, working, failed = threading.Event(), threading.Event(), threading.Event()

    def work(item: int, _alone: bool, report: Callable[[object], None]) -> int:
        if item == 1:
            assert writing.wait(MEET) and working.wait(MEET)
            raise KeyError("stop")
        while item == 2:
            working.set()
            report("still here")
            time.sleep(0.001)
        return item

    def write(item: int) -> int:
        writing.set()
        assert failed.wait(MEET)
        return item

    def end(item: int, _result: object | None, error: Exception | None) -> None:
        ended.append((item, str(error or "")))
        if error is not None:
            failed.set()
            raise error

    machine = Machine()
    with pytest.raises(KeyError):
        run_in_lanes(range(9), replace(machine.lanes, work=work, write=write, end=end), 2)
    assert ended == [(1, "'stop'"), (0, "")]
    assert {item for what, item in machine.told if what == "begin"} == {0, 1, 2}


def test_where_the_end_of_a_written_item_cannot_be_told_nothing_more_is() -> None:
    ended: list[int] = []

    def end(item: int, _result: object | None, _error: Exception | None) -> None:
        ended.append(item)
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        run_in_lanes(range(50), replace(Machine().lanes, end=end), 3)
    assert len(ended) == 1


def test_four_at_once_at_most_and_one_on_a_single_core() -> None:
    assert [items_at_once(cores, 40) for cores in (1, 2, 3, 4, 64)] == [1, 2, 3, 4, 4]
    assert items_at_once(8, 2) == 2 and items_at_once(8, 0) == 1
