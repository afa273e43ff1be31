"""``meduniseg serve`` as a process of its own: labels equal those of ``segment``, and nothing is left when it ends."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from small_inputs import write_volume

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "dicom_objects"))
from series_making import oblique
from series_making import write_volume as write_series

from meduniseg_core.images import Image, read_labels

pytest.importorskip("uvicorn")
requests = pytest.importorskip("requests")

TOKEN = "a token of the test"


@pytest.fixture
def address(process_environment: dict[str, str], tiny_model: Path, tmp_path: Path) -> Iterator[str]:
    """A server with a token of its own, in a process that is ended by SIGTERM."""
    (tmp_path / "temporary").mkdir()
    environment = {**process_environment, "MEDUNISEG_TOKEN": TOKEN, "TMPDIR": str(tmp_path / "temporary")}
    command = [sys.executable, "-m", "training_cli", "serve", "--port", "0", "--model", str(tiny_model)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert found, said + process.stderr.read()
        yield found.group()
        assert list((tmp_path / "temporary").glob("meduniseg-serve-*"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0, process.stderr.read()
    assert not list((tmp_path / "temporary").glob("meduniseg-serve-*"))


def test_what_is_sent_comes_back_segmented(meduniseg: Any, tiny_model: Path, address: str, tmp_path: Path) -> None:
    session = requests.Session()
    assert session.get(f"{address}/health", timeout=60).status_code == 401
    session.headers["Authorization"] = f"Bearer {TOKEN}"
    assert session.get(f"{address}/health", timeout=60).json()["status"] == "ok"
    tasks = session.get(f"{address}/tasks", timeout=60).json()["tasks"]
    assert {task["task"]: task["classes"] for task in tasks}["vessel"] == ["artery", "vein"]
    assert session.get(f"{address}/models", timeout=60).json()["models"][0]["tasks"] == [one["task"] for one in tasks]

    write_volume(tmp_path / "mr.nii.gz")
    common = ("--model", tiny_model, "-o", tmp_path / "out")
    assert meduniseg("segment", tmp_path / "mr.nii.gz", *common, "--task", "vessel").returncode == 0
    order = {"filename": "mr.nii.gz", "task": "vessel"}
    answer = session.post(f"{address}/segment", params=order, data=(tmp_path / "mr.nii.gz").read_bytes(), timeout=120)
    assert answer.status_code == 200, answer.text
    (tmp_path / "back.nii.gz").write_bytes(answer.content)
    back, expected = read_labels(tmp_path / "back.nii.gz"), read_labels(tmp_path / "out" / "mr.nii.gz")
    assert np.array_equal(back.array, expected.array) and np.array_equal(back.geometry.affine, expected.geometry.affine)

    volume = oblique((20, 36, 40), (2.0, 1.0, 1.0), [[0, 0.1, 1], [0.1, 1, 0], [1, 0, 0.1]])
    values = np.random.default_rng(0).normal(100, 30, (1, 20, 36, 40)).astype(np.int16)
    series = write_series(tmp_path / "ct", Image(values, volume.geometry), Modality="MR")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(series.iterdir()):
            archive.write(path, f"study/{path.name}")
    order = {"filename": "ct.zip", "task": "vessel,organ", "format": "dicom-seg"}
    answer = session.post(f"{address}/segment", params=order, data=packed.getvalue(), timeout=120)
    assert answer.status_code == 200, answer.text
    made = pydicom.dcmread(io.BytesIO(answer.content))
    assert made.Modality == "SEG" and made.PatientID == "4711" and len(made.SegmentSequence) == 3

    refused = session.post(f"{address}/segment", params={**order, "filename": "a.nii"}, data=b"no image", timeout=120)
    assert refused.status_code == 400 and "a.nii" in refused.json()["error"]
    assert str(tmp_path) not in refused.text


def test_other_addresses_need_a_token(meduniseg: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MEDUNISEG_TOKEN", raising=False)
    for host in ("0.0.0.0", "192.0.2.1", "::", "example.org"):
        refused = meduniseg("serve", "--host", host)
        assert refused.returncode == 2 and "which needs a token" in refused.stderr
    (tmp_path / "token").write_text("short\n")
    refused = meduniseg("serve", "--host", "0.0.0.0", "--token-file", tmp_path / "token")
    assert refused.returncode == 2 and "at least 16" in refused.stderr and "short" not in refused.stderr
