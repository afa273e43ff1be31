"""Forecasts are ranges that hold what runs of that kind took, and a run of several passes has one progress."""

from __future__ import annotations

from pathlib import Path

import pytest

from meduniseg_core.events import Event, Message, Progress
from meduniseg_core.inference.run_times import RunTimes, WholeProgress


def test_before_the_first_run_the_range_is_wide(tmp_path: Path) -> None:
    low, high = RunTimes(tmp_path / "times.json").expect(4.0)
    assert low < 4 < high and high >= 2 * low


def test_a_forecast_holds_what_was_measured_and_stays_known(tmp_path: Path) -> None:
    times = RunTimes(tmp_path / "new" / "times.json")
    for took in (8.0, 8.7, 9.1):
        times.note(4.0, took)
    low, high = RunTimes(tmp_path / "new" / "times.json").expect(4.0)  # another day
    assert 5 < low <= 8.0 and 9.1 <= high < 13
    assert times.expect(40.0)[0] > 30  # a longer run is not forecast by a short one's seconds


def test_what_a_small_image_needs_besides_is_not_multiplied(tmp_path: Path) -> None:
    times = RunTimes(tmp_path / "times.json")
    times.note(0.1, 3.0)  # reading and writing, mostly
    low, high = times.expect(10.0)
    assert low <= 13 and high < 30


def test_similar_runs_tell_more_than_others(tmp_path: Path) -> None:
    times = RunTimes(tmp_path / "times.json")
    for _ in range(6):
        times.note(100.0, 20.0)  # air that is skipped
        times.note(1.0, 3.0)
    assert times.expect(100.0)[1] < 40 and times.expect(1.0)[0] > 2


@pytest.mark.parametrize("content", ["", "{}", '[["a", 1]]', "[[1, -2]]", "[[1e400, 1]]", "[[1]]", "null"])
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: str) -> None:
    file = tmp_path / "times.json"
    file.write_text(content)
    times = RunTimes(file)
    assert times.expect(4.0) == RunTimes(tmp_path / "none.json").expect(4.0)
    times.note(4.0, 8.0)
    assert times.expect(4.0)[0] > 4


def test_passes_are_counted_as_one_run() -> None:
    seen: list[Event] = []
    sink = WholeProgress([3.0, 1.0], seen.append)
    for event in (Progress("segment", 0, 3), Progress("segment", 3, 3), Message("info", "a note")):
        sink(event)
    for done in (0, 1, 2):
        sink(Progress("segment", done, 2))
    shown = [event.done for event in seen if isinstance(event, Progress)]
    assert shown == [0, 750, 750, 875, 1000] and Message("info", "a note") in seen
