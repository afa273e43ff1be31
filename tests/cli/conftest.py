"""The command as users meet it: a process of its own, with its own data folder, and a tiny model to run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_inputs import save_tiny_model

Completed = subprocess.CompletedProcess[str]
RunCommand = Callable[..., Completed]


@pytest.fixture(scope="session")
def command_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An empty data folder (where the CPU's probe is kept between tests), one thread, no colours."""
    home = tmp_path_factory.mktemp("home")
    return {**os.environ, "MEDUNISEG_HOME": str(home), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"}


@pytest.fixture(scope="session")
def meduniseg(command_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> RunCommand:
    """Run ``meduniseg ARGUMENTS...`` and return the completed process."""
    folder = tmp_path_factory.mktemp("working_folder")

    def run(*arguments: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> Completed:
        return subprocess.run(
            [sys.executable, "-m", "training_cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=cwd or folder,
            env={**command_environment, **(env or {})},
        )

    return run


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a tiny model with random weights."""
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")
