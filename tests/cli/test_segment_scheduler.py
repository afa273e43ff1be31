"""``segment --scheduler``: the workers of a dask scheduler make what one run makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dask_cluster import local_cluster
from small_inputs import save_tiny_model, write_volume

from meduniseg_core.archive import read_manifest
from meduniseg_core.files import sha256_of
from training_cli import remote

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A scheduler with a worker in this process."""
    with local_cluster() as made:
        yield made.scheduler_address


@pytest.fixture
def images(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(remote, "_teams", {})
    (tmp_path / "in").mkdir()
    for number in range(4):
        write_volume(tmp_path / "in" / f"case{number}.nii.gz", (16, 32, 32), seed=number)
    (tmp_path / "in" / "broken.nii.gz").write_bytes(b"\x1f\x8b")
    return tmp_path / "in"


def test_workers_make_what_one_run_makes(meduniseg, tiny_model, images, address, tmp_path, monkeypatch) -> None:
    common = ["-m", tiny_model, "-t", "organ", "--precision", "fp32"]
    monkeypatch.chdir(tmp_path)  # workers are elsewhere: paths reach them whole
    assert meduniseg("segment", "in", "-o", "plain", *common).returncode == 3
    manifest = ["--manifest", "D.jsonl", "--scheduler", address]
    done = meduniseg("segment", "in", "-o", "out", *common, *manifest)
    assert done.returncode == 3 and "broken: " in done.stderr and "1 of 5 cases failed" in done.stderr
    labels = {path.name: sha256_of(path) for path in (tmp_path / "plain").glob("*.nii.gz")}
    assert len(labels) == 4
    assert {path.name: sha256_of(path) for path in (tmp_path / "out").glob("*.nii.gz")} == labels
    states = {line.case: line.status for line in read_manifest(tmp_path / "D.jsonl").records}
    assert states == {"broken": "failed", **{f"case{number}": "done" for number in range(4)}}
    write_volume(images / "broken.nii.gz", (16, 32, 32), seed=9)
    assert meduniseg("segment", "in", "-o", "out", *common, *manifest).returncode == 0
    assert meduniseg("runs", "verify", "D.jsonl", "--inputs").returncode == 0


def test_a_worker_with_another_model_is_refused(meduniseg, tiny_model, images, address, tmp_path, monkeypatch) -> None:
    whole = remote.make_team
    other = save_tiny_model(tmp_path / "other.safetensors", name="other")

    def make_team(order):
        return whole(remote.replace(order, model=str(other)))

    monkeypatch.setattr(remote, "make_team", make_team)
    (images / "broken.nii.gz").unlink()
    done = meduniseg("segment", images, "-o", tmp_path / "out", "-m", tiny_model, "-t", "organ", "--scheduler", address)
    assert done.returncode == 3 and "has another model" in done.stderr and not (tmp_path / "out").exists()
