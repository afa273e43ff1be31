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


# A new process's peak begins with that of the one that starts it, and pytest's is large: a small one stands between.
_MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as peak:
    peak.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""


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
        measured = [sys.executable, "-c", _MEASURE, str(tmp_path / "peak"), *command, "--json"]
        done = subprocess.run(measured, stdout=subprocess.PIPE, stderr=said)
    answer = json.loads(done.stdout)
    text = (tmp_path / "said").read_text("utf-8")
    assert done.returncode == 3, text
    assert int((tmp_path / "peak").read_text()) < 2_000_000  # kB, torch and the model included
    good = {stem_of(Path(item.name)) for item in items if item.verdict == "read"} - _NOT_FOR_THE_TASK
    assert {result["case"] for result in answer["results"]} == good
    written = {path.name for path in results.iterdir() if not path.name.startswith(".")}
    assert {stem_of(Path(name)) for name in written if not name.endswith(".json")} == good
    assert {name.removesuffix(".json") for name in written if name.endswith(".json")} == good
    assert not [path for path in results.iterdir() if path.name.startswith(".tmp")]
    assert "Traceback" not in text
    assert "pipe" in text.splitlines()[-1]
