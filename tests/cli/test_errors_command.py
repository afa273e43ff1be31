"""Errors: one sentence on stderr, the right exit code, a traceback only on request."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest

from meduniseg_core.errors import BadInputError, CancelledError, OutOfMemoryError, UsageError
from training_cli.main import explain_error, main


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x."), 2),
        (BadInputError("x."), 3),
        (OutOfMemoryError("x."), 4),
        (CancelledError("x."), 130),
        (MemoryError(), 4),
        (KeyboardInterrupt(), 130),
        (PermissionError(13, "Permission denied", "/data/a.nii.gz"), 3),
        (RuntimeError("mat1 and mat2 do not fit"), 1),
    ],
)
def test_every_kind_of_error_has_its_exit_code(error, code) -> None:
    sentence, found = explain_error(error)
    assert found == code
    assert sentence.endswith(".")


def test_an_error_of_the_system_names_the_file() -> None:
    assert explain_error(PermissionError(13, "Permission denied", "/data/a.nii.gz"))[0].startswith(
        "/data/a.nii.gz: permission denied"
    )


def test_running_out_of_an_accelerator_s_memory_is_exit_code_4() -> None:
    import torch

    assert explain_error(torch.OutOfMemoryError("CUDA out of memory"))[1] == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ("segmentt",),
        ("segment",),
        ("segment", "a.nii.gz"),
        ("segment", "a.nii.gz", "-o", "out", "--device", "abacus"),
        ("segment", "a.nii.gz", "-o", "out", "--overlap", "2"),
        ("segment", "a.nii.gz", "-o", "out", "--no-such-option"),
        ("segment", "", "-o", "out", "-t", "polyp"),  # as a path it would be the current folder
        ("segment", "a.nii.gz", "-o", ""),
        ("models", "info"),
        ("models", "info", "starter", "--architecture", "meduniseg"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments, capsys) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("meduniseg: ") and printed.err.count("\n") == 1


def test_a_missing_file_is_named_with_exit_code_3(capsys, tmp_path) -> None:
    missing = tmp_path / "missing.nii.gz"
    assert main(("segment", str(missing), "-o", str(tmp_path / "out"))) == 3
    printed = capsys.readouterr().err
    assert str(missing) in printed and "Traceback" not in printed and printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_was_removed_is_said(capsys, monkeypatch) -> None:
    """MKL ends the process there: "Intel oneMKL FATAL ERROR"."""

    def gone() -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "getcwd", gone)
    assert main(("models", "list")) == 2
    assert "The current folder cannot be used (no such file or directory); change" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="a shell closes the streams")
@pytest.mark.parametrize("closed", ["<&- >&-", "2>&-"])
def test_closed_streams_are_no_error_and_no_file_takes_their_place(closed, process_environment, tmp_path) -> None:
    script = f'exec "$0" -m training_cli models export starter -o "$1" {closed}'
    command = ["sh", "-c", script, sys.executable, str(tmp_path / "copy.safetensors")]
    done = subprocess.run(command, capture_output=True, env=process_environment, check=False, timeout=300)
    assert done.returncode == 0 and done.stderr == b""
    assert main(("models", "info", str(tmp_path / "copy.safetensors"), "--json")) == 0


def test_debug_shows_the_traceback_wherever_it_stands(capsys, tmp_path) -> None:
    for arguments in (("--debug", "evaluate", "a", "b"), ("evaluate", "a", "--debug", "b")):
        assert main([str(tmp_path / part) if part in "ab" else part for part in arguments]) == 3
        assert "Traceback" in capsys.readouterr().err


def test_with_json_progress_errors_are_json_too(capsys, tmp_path) -> None:
    missing = tmp_path / "missing.nii.gz"
    assert main(("segment", str(missing), "-o", str(tmp_path / "out"), "--progress", "json")) == 3
    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["exit_code"]) == ("error", 3)
    assert str(missing) in event["message"]


def test_without_a_command_the_help_is_shown(capsys) -> None:
    assert main(()) == 2
    printed = capsys.readouterr()
    assert "Usage: meduniseg" in printed.out
    assert printed.err == "meduniseg: Name a command; see 'meduniseg --help'.\n"


def test_a_reader_that_goes_away_is_no_fault_of_the_program(process_environment) -> None:
    command = f"{shlex.quote(sys.executable)} -m training_cli models info starter | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, env=process_environment, check=False)
    assert done.returncode in (0, 128 + signal.SIGPIPE) and done.stderr == b""
