"""The command as users meet it, with its own data folder, and a tiny model to run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from small_inputs import save_tiny_model

from training_cli.main import main

Completed = subprocess.CompletedProcess[str]
RunCommand = Callable[..., Completed]


@dataclass(frozen=True)
class Interrupted:
    """How a command ended that got a signal, and how many seconds after it."""

    returncode: int
    stdout: str
    error: dict[str, Any]
    seconds: float


Interrupt = Callable[..., Interrupted]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's data folder of all tests: the CPU's probe is made once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def meduniseg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path) -> RunCommand:
    """Run ``meduniseg ARGUMENTS...`` in this process (which has torch loaded already)."""
    monkeypatch.setenv("MEDUNISEG_HOME", str(home))
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: object) -> Completed:
        words = [str(argument) for argument in arguments]
        capsys.readouterr()
        code = main(words)
        printed = capsys.readouterr()
        return Completed(words, code, printed.out, printed.err)

    return run


@pytest.fixture
def process_environment(home: Path) -> dict[str, str]:
    """For commands in processes of their own."""
    return {**os.environ, "MEDUNISEG_HOME": str(home), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"}


@pytest.fixture
def meduniseg_process(process_environment: dict[str, str], tmp_path: Path) -> RunCommand:
    """Run ``meduniseg ARGUMENTS...`` in a process of its own."""

    def run(*arguments: object) -> Completed:
        command = [sys.executable, "-m", "training_cli", *map(str, arguments)]
        return subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
            cwd=tmp_path,
            env=process_environment,
            check=False,
        )

    return run


@pytest.fixture
def interrupt(process_environment: dict[str, str]) -> Interrupt:
    """Run ``meduniseg ARGUMENTS...`` in a process of its own, and send a signal at the event that is awaited."""

    def run(
        *arguments: object, at: Callable[[dict[str, Any]], bool], number: signal.Signals = signal.SIGINT
    ) -> Interrupted:
        process = subprocess.Popen(
            [sys.executable, "-m", "training_cli", *map(str, arguments), "--progress", "json"],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=process_environment,
        )
        assert process.stderr is not None
        for line in process.stderr:
            event = json.loads(line)
            if event["event"] == "progress" and at(event):
                break
        process.send_signal(number)
        begin = time.monotonic()
        printed, errors = process.communicate(timeout=60)
        seconds = time.monotonic() - begin
        return Interrupted(process.returncode, printed, json.loads(errors.splitlines()[-1]), seconds)

    return run


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a tiny model with random weights."""
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")
