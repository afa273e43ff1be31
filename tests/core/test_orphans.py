"""Half-written files: those of a killed process go, those of a living one stay, without a lock on their folder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meduniseg_core import files
from meduniseg_core.files import atomic_path, remove_orphans, write_text

WRITING = """
import sys, time
from pathlib import Path
from meduniseg_core.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    sys.stdin.readline()
    temporary.write_text("whole")
"""


@contextmanager
def writing(target: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, in the middle of writing ``target``; a line on its stdin lets it go on."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WRITING, str(target)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def hidden(folder: Path) -> list[Path]:
    return list(folder.glob(".*"))


def test_what_a_living_process_is_writing_stays_and_a_killed_one_s_goes(tmp_path: Path) -> None:
    with writing(tmp_path / "killed.npy") as killed, writing(tmp_path / "living.npy") as living:
        for path in hidden(tmp_path):
            os.utime(path, (1e9, 1e9))  # its age is none of a lock's business
        remove_orphans(tmp_path)
        assert len(hidden(tmp_path)) == 2
        killed.kill()
        killed.wait()
        remove_orphans(tmp_path)
        assert len(hidden(tmp_path)) == 1
        living.communicate("\n")
        assert (tmp_path / "living.npy").read_text() == "whole" and living.returncode == 0
    assert hidden(tmp_path) == [] and not (tmp_path / "killed.npy").exists()


def test_what_this_process_is_writing_stays(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
        remove_orphans(tmp_path)
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_without_locks_only_what_is_a_day_old_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_lock", lambda _handle: None)
    for name, age in ((".tmp-new.npy", 3600), (".tmp-old.npy", 90000)):
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    remove_orphans(tmp_path)
    assert [path.name for path in hidden(tmp_path)] == [".tmp-new.npy"]
    write_text(tmp_path / "a.txt", "written all the same")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_pipes_links_and_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".tmp-link").symlink_to(tmp_path / "precious")
    (tmp_path / ".tmp-folder").mkdir()
    os.mkfifo(tmp_path / ".tmp-pipe")
    remove_orphans(tmp_path)
    remove_orphans(tmp_path / "not there")
    assert (tmp_path / "precious").read_text() == "mine" and (tmp_path / ".tmp-folder").is_dir()
    assert (tmp_path / ".tmp-link").is_symlink() and (tmp_path / ".tmp-pipe").is_fifo()


def test_writers_and_cleaners_at_once_lose_nothing(tmp_path: Path) -> None:
    over = threading.Event()

    def clean() -> None:
        while not over.is_set():
            remove_orphans(tmp_path)

    cleaners = [threading.Thread(target=clean) for _ in range(3)]
    for cleaner in cleaners:
        cleaner.start()
    try:
        for number in range(300):
            write_text(tmp_path / f"{number}.txt", str(number))
    finally:
        over.set()
        for cleaner in cleaners:
            cleaner.join()
    assert {path.read_text() for path in tmp_path.iterdir()} == {str(number) for number in range(300)}
