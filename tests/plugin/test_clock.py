"""The clock is set back, or far ahead: nobody's edits are lost by it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from napari_meduniseg import _autosave, _edit_bin

DAY = 86400.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The wall clock, as the bin sees it; files get its time, too."""
    state = SimpleNamespace(now=time.time())
    touch = os.utime
    monkeypatch.setattr(_edit_bin.time, "time", lambda: state.now)
    monkeypatch.setattr(_edit_bin.os, "utime", lambda path, times=None: touch(path, times or (state.now, state.now)))
    return state


def binned(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"edits")
    _edit_bin.put_in_bin(folder / name, folder / "bin")


def left(folder: Path) -> list[str]:
    return sorted(path.name.split("-")[-1] for path in _edit_bin.kept(folder / "bin", ".npz"))


def test_edits_stay_for_a_week_and_no_longer(tmp_path: Path, clock: SimpleNamespace) -> None:
    assert left(tmp_path) == []
    binned(tmp_path, "a.npz")
    for _ in range(7):
        assert left(tmp_path) == ["a.npz"]
        clock.now += 0.99 * DAY
    assert left(tmp_path) == ["a.npz"]
    clock.now += 0.1 * DAY
    assert left(tmp_path) == []


@pytest.mark.parametrize("years", [-56, -1, 1, 30])
def test_a_clock_that_was_wrong_when_they_were_put_aside_or_is_right_again_deletes_nothing_at_once(
    tmp_path: Path, clock: SimpleNamespace, years: int
) -> None:
    right = clock.now
    clock.now = max(DAY, right + 365 * DAY * years)
    binned(tmp_path, "a.npz")
    assert left(tmp_path) == ["a.npz"]
    clock.now = right
    assert left(tmp_path) == ["a.npz"]
    clock.now += 0.9 * DAY
    assert left(tmp_path) == ["a.npz"]  # a day at least, to bring them back
    for _ in range(9):
        clock.now += DAY
        last = left(tmp_path)
    assert last == []  # and not for ever


@pytest.mark.parametrize("days", [-400, 400])
def test_a_clock_that_is_wrong_for_one_look_deletes_nothing(tmp_path: Path, clock: SimpleNamespace, days: int) -> None:
    binned(tmp_path, "a.npz")
    assert left(tmp_path) == ["a.npz"]
    clock.now += days * DAY
    assert left(tmp_path) == ["a.npz"]
    clock.now -= days * DAY
    assert left(tmp_path) == ["a.npz"]


def test_who_looks_seldom_sees_them_once_more_and_then_they_go(tmp_path: Path, clock: SimpleNamespace) -> None:
    binned(tmp_path, "a.npz")
    clock.now += 30 * DAY
    assert left(tmp_path) == ["a.npz"]
    clock.now += 30 * DAY
    assert left(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="other systems know the clock alone")
@pytest.mark.parametrize("hours", [-24, -1, 1, 24])
def test_edits_of_a_process_that_runs_stay_its_own_when_the_clock_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Seen from another process: this one's name for itself is not asked."""
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path))
    path = _autosave.folder() / f"{_autosave._owner()}-1.labels.npz"
    gone = _autosave.folder() / f"{os.getpid()}-b{'0' * 16}-1.labels.npz"
    created = psutil.Process(os.getpid()).create_time()
    monkeypatch.setattr(_autosave, "_owner", lambda: "1-1")
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: created + 3600 * hours)
    assert _autosave._is_owned(path) and not _autosave._is_owned(gone)


def test_a_half_written_autosave_of_a_killed_process_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path))
    _autosave.folder().mkdir(parents=True)
    (_autosave.folder() / ".tmp-killed.labels.npz").write_bytes(b"half")
    assert _autosave.leftovers() == [] and list(_autosave.folder().iterdir()) == []
