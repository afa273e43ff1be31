"""Crashes and several processes at once: what was accepted is there, what was not has left nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import ledger_samples
import numpy as np
import pytest
from ledger_samples import begun, mask, volume

from meduniseg_core.corrections import Ledger, transaction
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.preprocessing import RawDataset

KILLS = 20


def started(folder: Path, first: int, count: int, again: int) -> subprocess.Popen[str]:
    """A process that accepts in a loop."""
    command = [sys.executable, ledger_samples.__file__, str(folder), str(first), str(count), str(again)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", env=environment)


def check_whole(folder: Path) -> Ledger:
    """Lines and files agree to the voxel, and nothing else lies there (but a note that was not begun, swept later)."""
    ledger = Ledger.open(folder)
    entries, latest, files = ledger.entries(), ledger.cases(), ledger.files
    wanted = {folder / name for name in ("dataset.json", "ledger.jsonl", ".lock")}
    for entry in entries:
        in_force = latest[entry.case] == entry
        label = files.labels(entry.case) if in_force else files.history(entry.case, entry.sequence)
        assert read_labels(label).sha256 == entry.labels_sha256
        wanted |= {label, *files.images(entry.case, ("CT",))}
        if in_force:
            assert read_image(files.images(entry.case, ("CT",))).sha256 == entry.image_sha256
        if entry.has_prediction:
            wanted.add(files.prediction(entry.case, entry.sequence))
            assert read_labels(files.prediction(entry.case, entry.sequence)).geometry.shape == entry.shape
    assert {path for path in folder.rglob("*") if path.is_file()} - set(folder.glob(".tmp-*")) == wanted
    cases = RawDataset.open(folder).cases()
    assert {case.case: case.patient for case in cases} == {case: entry.patient for case, entry in latest.items()}
    return ledger


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
def test_kill_9_at_random_moments_leaves_a_whole_ledger(tmp_path: Path) -> None:
    begun(tmp_path)
    moments = random.Random(5)
    told = 0
    for number in range(KILLS):
        process = started(tmp_path, first=0, count=3, again=10_000)
        assert process.stdout is not None
        line = process.stdout.readline()  # it is at work
        assert line
        time.sleep(moments.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        process.wait()
        process.stdout.close()
        lines = (line + rest).splitlines(keepends=True)
        acknowledged = [int(said.split()[0]) for said in lines if said.endswith("\n")]
        told = max(told, *acknowledged)
        entries = check_whole(tmp_path).entries() if number % 5 == 4 else Ledger.open(tmp_path).entries()
        assert told <= len(entries)
    assert told >= KILLS
    ledger = check_whole(tmp_path)
    assert len(ledger.cases()) <= 3
    ledger.accept(volume(0), mask(volume(0), 1))
    assert not list(tmp_path.rglob(".tmp-*"))


def test_two_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    begun(tmp_path)
    # patients 1 and images 2 and 3 are shared by both
    processes = [started(tmp_path, first, 4, 3) for first in (0, 2)]
    said = [line for process in processes for line in process.communicate(timeout=120)[0].splitlines()]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(int(line.split()[0]) for line in said) == list(range(1, 25))
    ledger = check_whole(tmp_path)
    assert len(ledger.entries()) == 24 and len(ledger.cases()) == 6


# what is called when a new image is accepted, and (True) when one is accepted again
_STEPS = [
    *((step, again) for step in ("update_description", "write_labels", "append_entry") for again in (False, True)),
    ("write_image", False),
    ("archive", True),
]


class _Died(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("step", "again"), _STEPS)
def test_a_crash_at_every_step_is_taken_back_or_complete(
    step: str, after: bool, again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = begun(tmp_path)
    image = volume(1)
    ledger.accept(image, mask(image, 1), patient="A")
    image = image if again else volume(2)
    owner = transaction.LedgerFolder if step == "archive" else transaction
    real = getattr(owner, step)

    def dies(*arguments: object, **named: object) -> None:
        if after:
            real(*arguments, **named)
        raise _Died

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, dies)
        patch.setattr(transaction, "_settle", lambda folder: None)  # a dead process does not tidy up
        with pytest.raises(_Died):
            ledger.accept(image, mask(image, 2), patient="B", predicted=mask(image, 3), classes=("liver", "cyst"))
    (tmp_path / "labelsTr" / ".tmp-left.nii.gz").write_bytes(b"half")
    committed = step == "append_entry" and after
    if committed:
        (tmp_path / "labelsTr" / ".tmp-left.nii.gz").unlink()
    reopened = check_whole(tmp_path)
    assert len(reopened.entries()) == (2 if committed else 1)
    assert not (tmp_path / ".pending.json").exists()
    if not committed:
        case = reopened.entries()[0].case
        assert np.array_equal(read_labels(ledger.files.labels(case)).array, mask(volume(1), 1).array)
    entry = ledger.accept(image, mask(image, 2), patient="B", predicted=mask(image, 3))
    assert entry.sequence == (3 if committed else 2)
    check_whole(tmp_path)


def test_reading_does_not_wait_for_a_writer_and_sees_what_was_accepted(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    ledger.accept(volume(1), mask(volume(1), 1))
    (tmp_path / ".pending.json").write_text(
        '{"sequence": 2, "case": "x", "created": ["imagesTr/x_0000.nii.gz"]}', encoding="utf-8"
    )
    (tmp_path / "imagesTr" / "x_0000.nii.gz").write_bytes(b"being written")
    with transaction.FileLock(tmp_path / ".lock"):
        begin = time.perf_counter()
        assert len(Ledger.open(tmp_path).entries()) == 1
        assert time.perf_counter() - begin < 5
        assert (tmp_path / "imagesTr" / "x_0000.nii.gz").exists()
    Ledger.open(tmp_path)
    assert not (tmp_path / "imagesTr" / "x_0000.nii.gz").exists()


@pytest.mark.parametrize("name", ["/etc/passwd", "imagesTr/../../x", "ledger.jsonl", "imagesTr/..", "imagesTr/a/b"])
def test_a_note_that_names_other_files_is_not_followed(name: str, tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / ".pending.json").write_text(f'{{"sequence": 1, "case": "x", "created": ["{name}"]}}', encoding="utf-8")
    with pytest.raises(transaction.BadInputError, match=r"\.pending\.json is damaged"):
        Ledger.open(tmp_path)
