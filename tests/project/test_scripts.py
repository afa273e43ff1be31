"""The scripts that a newcomer runs first: what they show of an installation."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

NOISE = (
    "Looking in indexes: https://someone:secret@registry.example/simple",
    "Looking in links: /mirror, https://mirror.example/files",
    "WARNING: Location 'https://mirror.example/files' is ignored: it is either a non-existing path or lacks a scheme.",
)


def install(tmp_path: Path, said: tuple[str, ...], status: int) -> subprocess.CompletedProcess[str]:
    """``pip_install`` of bootstrap.sh, with a Python whose pip says these lines and ends so."""
    python = tmp_path / "python"
    lines = "\n".join(f"echo {shlex.quote(line)}" for line in said)
    python.write_text(f"#!/bin/sh\n{lines}\nexit {status}\n")
    python.chmod(0o755)
    script = f'set -euo pipefail; . scripts/bootstrap.sh; PYTHON="{python}"; pip_install something; echo installed'
    return subprocess.run(
        ["bash", "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("line", NOISE)
def test_what_pip_says_about_its_indexes_is_not_shown(line: str, tmp_path: Path) -> None:
    done = install(tmp_path, (line, "Successfully installed"), 0)
    assert (done.returncode, done.stdout) == (0, "installed\n")
    assert done.stderr == "Successfully installed\n"


def test_what_pip_says_of_a_failure_is_shown_and_ends_it(tmp_path: Path) -> None:
    done = install(tmp_path, (*NOISE, "ERROR: No matching distribution found for something"), 1)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "ERROR: No matching distribution found for something\n"
