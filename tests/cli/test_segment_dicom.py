"""``segment --format dicom-seg|rtstruct|dicom-sr`` and ``corrections add --labels`` of what comes back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "dicom_objects"))
from series_making import oblique
from series_making import write_volume as write_series
from small_inputs import write_volume

from meduniseg_core.images import Image, place_labels, read_image, read_labels

pytest.importorskip("highdicom")


@pytest.fixture
def series(tmp_path: Path) -> Path:
    volume = oblique((20, 36, 40), (2.0, 1.0, 1.0), [[0, 0.1, 1], [0.1, 1, 0], [1, 0, 0.1]])
    values = np.random.default_rng(0).normal(100, 30, (1, 20, 36, 40)).astype(np.int16)
    return write_series(tmp_path / "cohort" / "ct", Image(values, volume.geometry), Modality="MR")


def test_every_object_holds_what_nifti_holds_and_goes_into_a_ledger(
    meduniseg: Any, tiny_model: Path, series: Path, tmp_path: Path
) -> None:
    common = ("segment", series, "--model", tiny_model, "--task", "vessel", "--json", "-o")
    assert meduniseg(*common, tmp_path / "nifti").returncode == 0
    image = read_image(series)
    expected = read_labels(tmp_path / "nifti" / "ct.nii.gz").array
    assert len(np.unique(expected)) > 1
    for name, ending in (("dicom-seg", ".seg.dcm"), ("rtstruct", ".rtstruct.dcm"), ("dicom-sr", ".sr.dcm")):
        done = meduniseg(*common, tmp_path / name, "--format", name)
        assert done.returncode == 0, done.stderr
        path = tmp_path / name / f"ct{ending}"
        assert json.loads(done.stdout)["results"][0]["labels"] == str(path)
        made = pydicom.dcmread(path)
        assert made.PatientID == "4711" and made.Modality in ("SEG", "RTSTRUCT", "SR")
        record = json.loads((tmp_path / name / "ct.json").read_text())
        held = {".sr.dcm": {"ct.sr.dcm", "ct.seg.dcm"}}.get(ending, {path.name})
        assert set(record["files"]) == held
        labels = tmp_path / name / "ct.seg.dcm" if ending == ".sr.dcm" else path
        assert np.array_equal(place_labels(read_labels(labels, like=image), image).array, expected)
        assert meduniseg(*common, tmp_path / name, "--format", name).returncode == 0  # again: replaced
        added = meduniseg(
            *("corrections", "add", tmp_path / f"ledger-{name}", series, "--labels", labels, "--json"),
            *("--task", "vessel", "--modality", "mri", "--predicted", tmp_path / "nifti" / "ct.nii.gz"),
        )
        assert added.returncode == 0, added.stderr
        changes = json.loads(added.stdout)["entry"]["classes"]
        assert [(one["name"], one["added"], one["removed"]) for one in changes] == [("artery", 0, 0), ("vein", 0, 0)]


def test_what_is_no_dicom_is_refused_before_it_is_segmented(meduniseg: Any, tiny_model: Path, tmp_path: Path) -> None:
    write_volume(tmp_path / "mr.nii.gz")
    run = ("segment", tmp_path / "mr.nii.gz", "-o", tmp_path / "out", "--model", tiny_model, "--task", "vessel")
    done = meduniseg(*run, "--format", "dicom-seg")
    assert done.returncode == 3
    assert done.stderr.strip().splitlines()[-1] == (
        "meduniseg: mr.nii.gz was not read from DICOM, so no DICOM object can refer to it; "
        "give the DICOM series itself, or save as nii.gz."
    )
    assert not (tmp_path / "out").exists()


def test_without_the_extra_one_sentence_says_what_to_install(
    meduniseg: Any, tiny_model: Path, series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meduniseg_core.dicom_objects import extra

    monkeypatch.setattr(extra, "find_spec", lambda _name: None)
    run = ("segment", series, "-o", tmp_path / "out", "--model", tiny_model, "--task", "vessel", "--format")
    for name in ("dicom-seg", "dicom-sr"):
        done = meduniseg(*run, name)
        assert done.returncode == 2
        assert done.stderr.strip().endswith(
            "is written by the library highdicom, which is not installed; run: pip install 'napari-meduniseg[dicom]'."
        )
    assert meduniseg(*run, "rtstruct").returncode == 0  # needs nothing but pydicom


def test_several_tasks_are_one_object_for_each_case(
    meduniseg: Any, tiny_model: Path, series: Path, tmp_path: Path
) -> None:
    out, run = tmp_path / "out", ("segment", series, "--model", tiny_model, "--json")
    assert meduniseg(*run, "--task", "vessel,organ", "-o", tmp_path / "nifti").returncode == 0
    ledger = ("--manifest", tmp_path / "run.jsonl")
    done = meduniseg(*run, "--task", "vessel,organ", "--format", "dicom-seg", "-o", out, *ledger)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == ["ct.json", "ct.seg.dcm"]
    results = json.loads(done.stdout)["results"]
    assert [(one["task"], one["labels"]) for one in results] == [
        (task, str(out / "ct.seg.dcm")) for task in ("vessel", "organ")
    ]
    made = pydicom.dcmread(out / "ct.seg.dcm")
    record = json.loads((out / "ct.json").read_text())
    assert record["task"] == "vessel,organ" and set(record["tasks"]) == {"vessel", "organ"}
    assert list(record["classes"].values()) == [item.SegmentLabel for item in made.SegmentSequence]
    own = [measure for task in ("vessel", "organ") for measure in record["tasks"][task]["measurements"].values()]
    assert list(record["measurements"].values()) == own and set(record["measurements"]) == set(record["classes"])
    read = pytest.importorskip("highdicom").seg.segread(out / "ct.seg.dcm")
    uids = [frame.instance_uid for frame in read_image(series).meta["dicom_origin"].frames]
    pixels = read.get_pixels_by_source_instance(
        uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    number = 0
    for task in ("vessel", "organ"):
        labels = read_labels(tmp_path / "nifti" / task / "ct.nii.gz")
        placed = place_labels(labels, read_image(series)).array[0]
        for label in range(1, len(record["tasks"][task]["classes"]) + 1):
            assert np.array_equal(pixels[..., number] > 0, placed == label), (task, label)
            number += 1
    verified = meduniseg("runs", "verify", tmp_path / "run.jsonl", "--json")
    assert json.loads(verified.stdout)["complete"] and json.loads(verified.stdout)["results"] == 2
    again = meduniseg(*run, "--task", "vessel,organ", "--format", "dicom-sr", "-o", out)
    assert again.returncode == 0 and (out / "ct.sr.dcm").is_file(), again.stderr
    other = meduniseg(*run, "--task", "organ", "-o", out)  # another run's result is not replaced
    assert other.returncode == 2 and "belongs to the result of task 'vessel,organ'" in other.stderr
    refused = meduniseg(*run, "--task", "vessel,organ", "--format", "rtstruct", "--probabilities", "-o", tmp_path / "p")
    assert refused.returncode == 2 and "is for one task at a time" in refused.stderr
