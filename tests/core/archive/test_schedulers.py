"""Work handed to a dask scheduler: every order ends once, and what goes wrong is one sentence."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from dask_cluster import local_cluster

from meduniseg_core.archive import scheduler as scheduler_module
from meduniseg_core.archive.scheduler import RemoteWork, run_on_scheduler
from meduniseg_core.errors import CancelledError, UsageError
from meduniseg_core.events import CancelToken, ignore

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """A scheduler and a worker in this process, spoken to over TCP."""
    with local_cluster() as made:
        yield made


def double(number: int) -> int:
    if number == 3:
        raise ValueError("three is not for us")
    return 2 * number


def test_every_order_ends_once_and_one_that_fails_costs_itself_alone(cluster) -> None:
    ended: dict[int, object] = {}

    def end(number: int, result: object | None, error: Exception | None) -> None:
        assert number not in ended
        ended[number] = result if error is None else str(error)

    run_on_scheduler(cluster.scheduler_address, RemoteWork(double, range(10), end), ignore, CancelToken())
    assert ended == {number: 2 * number if number != 3 else "three is not for us" for number in range(10)}


def slow(number: int) -> int:
    time.sleep(0.05)
    return number


def test_cancelling_takes_back_what_was_not_begun(cluster) -> None:
    token, ended = CancelToken(), list[int]()

    def end(number: int, _result: object | None, _error: Exception | None) -> None:
        ended.append(number)
        token.cancel()

    with pytest.raises(CancelledError):
        run_on_scheduler(cluster.scheduler_address, RemoteWork(slow, range(200), end), ignore, token)
    assert len(ended) == 1
    again: list[int] = []
    run_on_scheduler(
        cluster.scheduler_address,
        RemoteWork(double, [5], lambda _number, result, _error: again.append(result)),
        ignore,
        CancelToken(),
    )
    assert again == [10]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "not an address", "ftp://127.0.0.1:9", ""])
def test_where_no_scheduler_answers_is_said(address: str, monkeypatch) -> None:
    monkeypatch.setattr(scheduler_module, "_ANSWERS_WITHIN", 0.5)
    with pytest.raises(UsageError, match="No scheduler answers") as caught:
        run_on_scheduler(address, RemoteWork(double, [1], lambda *_: None), ignore, CancelToken())
    assert "\n" not in str(caught.value)
