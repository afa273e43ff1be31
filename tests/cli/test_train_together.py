"""``meduniseg train`` in several processes (Gloo on the CPU): together they train what one trains, and end together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from test_train_command import config_file

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals")


def start(config: Path, size: int, environment: Mapping[str, str], *options: str) -> list[subprocess.Popen[str]]:
    """The processes, as torchrun or srun start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "training_cli", "train", str(config), *options],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**environment, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(size)
    ]


def losses_in(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


def wait_for(path: Path, processes: list[subprocess.Popen[str]]) -> None:
    began = time.monotonic()
    while not path.is_file():
        assert [process.poll() for process in processes] == [None, None], processes[0].communicate(timeout=60)
        assert time.monotonic() - began < 600, f"{path} does not come"
        time.sleep(0.05)


@posix
def test_processes_that_make_room_end_alike_and_one_goes_on_with_what_they_trained(
    meduniseg, tmp_path, process_environment
) -> None:
    config = config_file(tmp_path, 40)
    both = start(config, 2, process_environment, "--progress", "none")
    wait_for(tmp_path / "run" / "checkpoint_last.safetensors", both)
    both[1].send_signal(signal.SIGUSR1)  # a cluster wants the machine back; one of them is told
    answers = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [75, 75], answers
    said = "".join(errors for _, errors in answers).splitlines()
    assert len(said) == 1 and "--resume goes on from the checkpoint" in said[0]
    done = meduniseg("train", config, "--resume")
    assert done.returncode == 0, done.stderr
    (tmp_path / "run").rename(tmp_path / "both")
    assert meduniseg("train", config).returncode == 0
    together, alone = (losses_in(tmp_path / name) for name in ("both", "run"))
    assert len(together) == len(alone) == 40
    # rounding grows with the steps (test_parts.py compares weights)
    assert together[:3] == pytest.approx(alone[:3], abs=1e-5)
    assert together == pytest.approx(alone, abs=0.02)


@posix
def test_a_process_that_is_killed_ends_all_with_one_sentence(tmp_path, process_environment) -> None:
    config = config_file(tmp_path, 100_000)
    both = start(config, 2, process_environment, "--progress", "none")
    wait_for(tmp_path / "run" / "checkpoint_last.safetensors", both)
    os.kill(both[0].pid, signal.SIGKILL)  # the one that holds the store, too
    began = time.monotonic()
    _, errors = both[1].communicate(timeout=120)
    assert time.monotonic() - began < 60  # 30 on a machine that does nothing else
    both[0].communicate()
    assert both[1].returncode == 1
    assert len(errors.splitlines()) == 1 and "ended or cannot be reached" in errors and "--resume" in errors


@pytest.mark.parametrize("variables", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "RANK": "2"}])
def test_an_incomplete_launch_is_refused(meduniseg, tmp_path, monkeypatch, variables) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = meduniseg("train", config_file(tmp_path, 1))
    assert done.returncode == 2 and "torchrun" in done.stderr
    assert not (tmp_path / "run").exists()
