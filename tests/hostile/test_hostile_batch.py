"""One batch over the whole corpus: bad files cost their own case, the run goes on, and nothing half-written is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile.corpus import corpus

from meduniseg_core.images.formats import stem_of

_NOT_FOR_THE_TASK = {"nrrd_nan_vector"}  # two channels


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="memory is measured by the operating system")
def test_a_batch_over_all_of_them_ends_with_its_count(tmp_path: Path) -> None:
    folder, results = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    items = [item for item in corpus() if not item.labels and not item.name.startswith("any_")]
    for item in items:
        for name, content in {item.name: item.content, **item.beside}.items():
            (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe.nii.gz")
    command = [
        sys.executable,
        "-m",
        "training_cli",
        "segment",
        str(folder),
        "-o",
        str(results),
        "--task",
        "skin_lesion",
    ]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=said)
        assert process.stdout is not None
        with process.stdout as stream:
            answer = json.loads(stream.read())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    text = (tmp_path / "said").read_text("utf-8")
    assert process.returncode == 3, text
    assert usage.ru_maxrss < 2_000_000  # kB, torch and the model included
    good = {stem_of(Path(item.name)) for item in items if item.verdict == "read"} - _NOT_FOR_THE_TASK
    assert {result["case"] for result in answer["results"]} == good
    written = {path.name for path in results.iterdir() if not path.name.startswith(".")}
    assert {stem_of(Path(name)) for name in written if not name.endswith(".json")} == good
    assert {name.removesuffix(".json") for name in written if name.endswith(".json")} == good
    assert not [path for path in results.iterdir() if path.name.startswith(".tmp")]
    assert "Traceback" not in text
    assert "pipe" in text.splitlines()[-1]
