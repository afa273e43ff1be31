"""Which process a file speaks of, whatever happens to clock and process ids."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from meduniseg_core.adaptation import detached
from meduniseg_core.adaptation.detached import Mark

CREATED = psutil.Process(os.getpid()).create_time()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="other systems know the clock alone")
@pytest.mark.parametrize("hours", [-24, -1, 1, 24])
def test_a_clock_that_was_set_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    path = tmp_path / "process.json"
    detached.note(path, os.getpid())
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: CREATED + 3600 * hours)
    found = detached.find(path)
    assert found is not None and found.pid == os.getpid()


def test_another_process_of_the_same_number_is_not_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "process.json"
    mark = Mark.of(os.getpid())
    for other in (
        mark.model_copy(update={"started": "another boot 1"}),
        Mark(pid=os.getpid(), created=CREATED - 60),  # written by a version, or on a system, without the ticks
    ):
        path.write_text(other.model_dump_json())
        assert detached.find(path) is None
    path.write_text(Mark(pid=os.getpid(), created=CREATED).model_dump_json())
    assert detached.find(path) is not None
