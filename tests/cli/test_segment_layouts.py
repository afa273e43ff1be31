"""``segment --layout bids`` and ``--label-descriptions``: results where other programs look for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_inputs import write_volume

from meduniseg_core.files import sha256_of
from meduniseg_core.images import read_labels


@pytest.fixture
def bids(tmp_path: Path) -> list[Path]:
    paths = []
    for seed, (subject, suffix) in enumerate((("01", "T1w"), ("01", "T2w"), ("02", "T1w"))):
        path = tmp_path / "raw" / f"sub-{subject}" / "anat" / f"sub-{subject}_{suffix}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        paths.append(write_volume(path, (16, 32, 32), seed=seed))
    return paths


def test_results_are_a_bids_derivative_with_names_and_colours(meduniseg, tiny_model, bids, tmp_path) -> None:
    out = tmp_path / "out"
    common = ["-m", tiny_model, "-t", "organ,vessel", "--precision", "fp32", "--layout", "bids"]
    manifest = tmp_path / "B.jsonl"
    done = meduniseg("segment", *bids, "-o", out, *common, "--manifest", manifest)
    assert done.returncode == 0, done.stderr
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    stems = [
        f"sub-{subject}/anat/sub-{subject}_seg-{task}_desc-{suffix}_dseg"
        for subject, suffix in (("01", "T1w"), ("01", "T2w"), ("02", "T1w"))
        for task in ("organ", "vessel")
    ]
    wanted = ["dataset_description.json", *(f"{stem}{end}" for stem in stems for end in (".json", ".nii.gz", ".tsv"))]
    assert found == sorted(wanted)
    sidecar = json.loads((out / f"{stems[1]}.json").read_text())
    assert sorted(sidecar["files"]) == [f"{Path(stems[1]).name}.nii.gz", f"{Path(stems[1]).name}.tsv"]
    read = read_labels(out / f"{stems[1]}.nii.gz")
    assert read.meta["class_names"] == {1: "artery", 2: "vein"}
    assert {str(label): list(rgb) for label, rgb in read.meta["class_colours"].items()} == sidecar["colours"]
    assert meduniseg("runs", "verify", manifest).returncode == 0
    assert meduniseg("segment", *bids, "-o", out, *common).returncode == 0  # former results are replaced


def test_a_raw_data_set_and_other_formats_are_refused(meduniseg, tiny_model, bids, tmp_path) -> None:
    common = ["-m", tiny_model, "-t", "organ", "--layout", "bids"]
    (tmp_path / "raw" / "dataset_description.json").write_text('{"Name": "raw", "BIDSVersion": "1.9.0"}')
    done = meduniseg("segment", bids[0], "-o", tmp_path / "raw", *common)
    assert done.returncode == 2 and "not a derivative" in done.stderr
    for option in (("--format", "nrrd"), ("--probabilities",)):
        done = meduniseg("segment", bids[0], "-o", tmp_path / "out", *common, *option)
        assert done.returncode == 2 and "exclude each other" in done.stderr
    assert not (tmp_path / "out").exists()


def test_names_that_become_one_are_refused(meduniseg, tiny_model, tmp_path) -> None:
    scans = [write_volume(tmp_path / f"{name}.nii.gz", (16, 32, 32)) for name in ("a-b", "a_b")]
    done = meduniseg("segment", *scans, "-o", tmp_path / "out", "-m", tiny_model, "-t", "organ", "--layout", "bids")
    assert done.returncode == 2 and "would both be called" in done.stderr


def test_label_descriptions_are_part_of_the_result(meduniseg, tiny_model, bids, tmp_path) -> None:
    out = tmp_path / "out"
    options = ["-m", tiny_model, "-t", "vessel", "--label-descriptions"]
    assert meduniseg("segment", bids[0], "-o", out, *options).returncode == 0
    files = json.loads((out / "sub-01_T1w.json").read_text())["files"]
    assert files["sub-01_T1w_labels.txt"] == sha256_of(out / "sub-01_T1w_labels.txt")
    assert read_labels(out / "sub-01_T1w.nii.gz").meta["class_names"] == {1: "artery", 2: "vein"}
    other = ["--task", "vessel", "--modality", "mri"]
    done = meduniseg("corrections", "add", tmp_path / "ledger", bids[0], "--labels", out / "sub-01_T1w.nii.gz", *other)
    assert done.returncode == 0, done.stderr
    listed = json.loads(meduniseg("corrections", "list", tmp_path / "ledger", "--json").stdout)
    assert listed["classes"] == ["artery", "vein"]
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "sub-01_T1w_labels.txt").write_text("mine")
    done = meduniseg("segment", bids[0], "-o", tmp_path / "theirs", *options)
    assert done.returncode == 2 and (tmp_path / "theirs" / "sub-01_T1w_labels.txt").read_text() == "mine"
