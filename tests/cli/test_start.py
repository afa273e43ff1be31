"""Starting: fast, and without anything heavy."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "monai", "nibabel", "SimpleITK", "scipy", "skimage", "safetensors")
LISTED = ("segment", "tasks", "modalities", "models", "dataset", "train", "finetune", "corrections", "evaluate")


def test_importing_the_command_imports_nothing_heavy() -> None:
    program = "import json, sys, training_cli.main; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(
        subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True).stdout
    )
    assert [name for name in HEAVY if name in loaded] == []


def test_help_imports_nothing_heavy_either() -> None:
    program = (
        "import sys; from training_cli.main import main; main(['segment', '--help']); print(*sys.modules, sep='\\n')"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True).stdout
    assert "--overlap" in printed
    assert [name for name in HEAVY if name in printed.splitlines()] == []


def test_help_answers_in_under_half_a_second(meduniseg_process) -> None:
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert meduniseg_process("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # of the processor: beside other tests a process may have half a core
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(seconds) < 0.5


def test_help_lists_the_commands_and_only_those(meduniseg_process) -> None:
    printed = meduniseg_process("--help").stdout
    for name in LISTED:
        assert f" {name} " in printed
    for name in ("napari", "doctor"):
        assert f" {name} " in printed
    assert meduniseg_process("refine").returncode == 2


@pytest.mark.parametrize("arguments", [("segment",), ("serve",)])
def test_help_names_the_extras_that_it_speaks_of(meduniseg_process, arguments) -> None:
    said = " ".join(meduniseg_process(*arguments, "--help").stdout.replace("│", " ").split())
    assert re.search(r"needs the extra '\w+'", said)


@pytest.mark.parametrize(
    "arguments", [("--version",), ("segment", "-h"), ("models", "--help"), ("dataset", "plan", "--help")]
)
def test_asking_for_information_is_no_error(meduniseg_process, arguments) -> None:
    done = meduniseg_process(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
