"""``segment --manifest``: every case once, whatever happens, and ``runs verify`` proves it."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_inputs import write_volume

from meduniseg_core import json_lines
from meduniseg_core.archive import read_manifest
from meduniseg_core.files import sha256_of
from training_cli import case_work


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number in range(3):
        write_volume(tmp_path / "in" / f"case{number}.nii.gz", (16, 32, 32), seed=number)
    return tmp_path / "in"


@pytest.fixture
def run(meduniseg, tiny_model, images, tmp_path):
    """Segment the folder with a manifest, one case after the other: tests count on the order."""

    def go(*options, out: Path = tmp_path / "out", manifest: Path = tmp_path / "RUN.jsonl"):
        common = ["-m", tiny_model, "-t", "organ", "--precision", "fp32", "--manifest", manifest, "--at-once", "1"]
        return meduniseg("segment", images, "-o", out, *common, *options)

    return go


def labels_in(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.glob("*.nii.gz"))}


def test_a_run_writes_a_line_a_case_and_a_second_one_has_nothing_to_do(run, meduniseg, images, tmp_path) -> None:
    assert run().returncode == 0
    records = read_manifest(tmp_path / "RUN.jsonl").records
    assert [record.case for record in records] == ["case0", "case1", "case2"]
    for record in records:
        beside = json.loads((tmp_path / "out" / f"{record.case}.json").read_text())
        (task,) = record.tasks
        assert record.input.sha256 == beside["image_sha256"] and task.model_sha256 == beside["model_sha256"]
        assert task.files == {
            f"{record.case}.nii.gz": beside["files"][f"{record.case}.nii.gz"],
            f"{record.case}.json": sha256_of(tmp_path / "out" / f"{record.case}.json"),
        }
        assert task.quality == beside["quality"] and task.seconds == beside["seconds"]
    verified = meduniseg("runs", "verify", tmp_path / "RUN.jsonl", "--inputs", "--json")
    assert verified.returncode == 0 and json.loads(verified.stdout)["complete"] is True
    before = (tmp_path / "RUN.jsonl").read_bytes()
    again = run("--json")
    assert again.returncode == 0 and json.loads(again.stdout)["results"] == []
    assert "3 of 3 cases are done already" in again.stderr and (tmp_path / "RUN.jsonl").read_bytes() == before
    write_volume(images / "case1.nii.gz", (16, 32, 32), seed=99)
    verified = meduniseg("runs", "verify", tmp_path / "RUN.jsonl", "--inputs")
    assert verified.returncode == 3 and "case1" in verified.stdout


def test_a_failed_case_is_named_and_taken_up_once_its_file_is_mended(run, meduniseg, images, tmp_path) -> None:
    whole = (images / "case1.nii.gz").read_bytes()
    (images / "case1.nii.gz").write_bytes(whole[:1000])
    assert run("--retries", "2").returncode == 3
    said = meduniseg("runs", "verify", tmp_path / "RUN.jsonl")
    assert said.returncode == 3 and "cases failed: 1 (case1)" in said.stdout
    lines = [(record.case, record.status) for record in read_manifest(tmp_path / "RUN.jsonl").records]
    assert lines.count(("case1", "failed")) == 3 and lines.count(("case0", "done")) == 1
    (images / "case1.nii.gz").write_bytes(whole)
    done = run("--json")
    assert done.returncode == 0 and [result["case"] for result in json.loads(done.stdout)["results"]] == ["case1"]
    assert meduniseg("runs", "verify", tmp_path / "RUN.jsonl").returncode == 0


def test_a_case_that_fails_once_is_done_by_a_retry(run, monkeypatch, tmp_path) -> None:
    whole, failed = case_work.CaseWork.read, list[str]()

    def read(self, case):
        if case.name == "case0" and not failed:
            failed.append(case.name)
            raise OSError(errno.EIO, "Input/output error", str(case.paths[0]))
        return whole(self, case)

    monkeypatch.setattr(case_work.CaseWork, "read", read)
    done = run("--retries", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert sorted(result["case"] for result in json.loads(done.stdout)["results"]) == ["case0", "case1", "case2"]
    states = [(record.case, record.status) for record in read_manifest(tmp_path / "RUN.jsonl").records]
    assert states[0] == ("case0", "failed") and states[-1] == ("case0", "done")


def test_a_full_disk_stops_the_run_and_the_next_one_completes_it(run, meduniseg, monkeypatch, tmp_path) -> None:
    """Where the second case's line should go there is room for half of it."""
    whole, seen = json_lines.append_json_line, list[str]()

    def append(path, at, record):
        seen.append(record.case)
        if len(seen) == 2:
            with path.open("ab") as stream:
                stream.write(record.model_dump_json().encode()[:40])
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(path, at, record)

    with monkeypatch.context() as full:
        full.setattr("meduniseg_core.archive.manifest.append_json_line", append)
        done = run()
    assert done.returncode == 3 and "no space left" in done.stderr and "1 were not begun" in done.stderr
    assert "cases missing: 2 (case1, case2)" in meduniseg("runs", "verify", tmp_path / "RUN.jsonl").stdout
    assert run().returncode == 0
    assert [record.case for record in read_manifest(tmp_path / "RUN.jsonl").records] == ["case0", "case1", "case2"]
    assert meduniseg("runs", "verify", tmp_path / "RUN.jsonl").returncode == 0


def test_images_of_the_folder_that_are_no_cases_stand_in_json_and_manifest(run, images, tmp_path) -> None:
    (images / "photo.webp").write_bytes(b"x")
    done = run("--json")
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)["left_out"]
    assert told["level"] == "warning" and "photo.webp" in told["text"] and told["text"] in done.stderr
    assert read_manifest(tmp_path / "RUN.jsonl").header.left_out == (told["text"],)


def test_shards_make_what_one_run_makes(run, meduniseg, tmp_path) -> None:
    assert run().returncode == 0
    manifest = tmp_path / "parts" / "S.jsonl"
    for number in (1, 2):
        assert run("--shard", f"{number}/2", out=tmp_path / "shards", manifest=manifest).returncode == 0
    assert labels_in(tmp_path / "shards") == labels_in(tmp_path / "out")
    assert meduniseg("runs", "verify", manifest).returncode == 0
    assert run("--shard", "3/2").returncode == 2


def test_a_result_that_was_corrected_counts_as_altered_and_is_kept(run, meduniseg, tmp_path) -> None:
    assert run().returncode == 0
    (tmp_path / "out" / "case1.nii.gz").write_bytes((tmp_path / "out" / "case2.nii.gz").read_bytes())
    assert run().returncode == 0
    verified = meduniseg("runs", "verify", tmp_path / "RUN.jsonl")
    assert verified.returncode == 3 and "altered since they were written: 1 (case1.nii.gz)" in verified.stdout
    other = tmp_path / "SECOND.jsonl"
    assert run(manifest=other).returncode == 0
    (kept,) = [task for record in read_manifest(other).records for task in record.tasks if task.status == "kept"]
    assert kept.files["case1.nii.gz"] == sha256_of(tmp_path / "out" / "case1.nii.gz")
    assert run("--overwrite-edited").returncode == 0
    assert meduniseg("runs", "verify", tmp_path / "RUN.jsonl").returncode == 0


def test_a_run_killed_at_any_moment_goes_on_to_the_same_files(
    run, meduniseg, tiny_model, images, process_environment, tmp_path
) -> None:
    """`benchmarks/archive_kills.py` kills at 20 random moments; here once, between two cases."""
    assert run().returncode == 0
    command = [sys.executable, "-m", "training_cli", "segment", str(images), "-o", str(tmp_path / "killed")]
    command += ["-m", str(tiny_model), "-t", "organ", "--precision", "fp32", "--manifest", str(tmp_path / "K.jsonl")]
    process = subprocess.Popen(command, env=process_environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not any((tmp_path / "killed").glob("*.nii.gz")):
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert run(out=tmp_path / "killed", manifest=tmp_path / "K.jsonl").returncode == 0
    assert meduniseg("runs", "verify", tmp_path / "K.jsonl").returncode == 0
    assert labels_in(tmp_path / "killed") == labels_in(tmp_path / "out")
