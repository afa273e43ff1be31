"""Which cases the arguments of ``segment`` name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from small_inputs import write_photograph, write_volume

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.images import Case
from training_cli.inputs import cases_for, collect_cases, one_case


def touched(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return [folder / name for name in names]


def write_slice(path: Path, height: float, patient: str) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.Modality, dataset.SeriesInstanceUID = CTImageStorage, "CT", "1.2.3"
    dataset.PatientID, dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = patient, 4, 5, 1
    dataset.PixelSpacing, dataset.ImageOrientationPatient = [1, 1], [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [0, 0, height]
    dataset.save_as(path, enforce_file_format=True)


def test_channels_of_different_folders_are_different_cases(tmp_path) -> None:
    files = touched(tmp_path / "x", "a_0000.nii.gz") + touched(tmp_path / "y", "a_0001.nii.gz")
    assert [case.name for case in collect_cases(files)] == ["a", "a_0001"]


def test_a_missing_channel_costs_its_own_case_and_is_named(tmp_path) -> None:
    files = touched(tmp_path, "a_0000.nii.gz", "a_0002.nii.gz", "b.nii.gz")
    broken, sound = collect_cases(files)
    assert "a_0001.nii.gz is missing" in str(broken.fault)
    assert sound == Case("b", (files[2],)) and sound.fault is None


@pytest.mark.parametrize("channels", [None, 1, 2, 3])
def test_a_folder_and_a_wildcard_give_the_same_cases(tmp_path, channels) -> None:
    files = touched(
        tmp_path / "in", "amos_0001.nii.gz", "amos_0005.nii.gz", "pat_0000.nii.gz", "pat_0001.nii.gz", "z.nii.gz",
        "one_0000.nii.gz", "gap_0000.nii.gz", "gap_0002.nii.gz",
    )  # fmt: skip
    folder, wildcard = collect_cases([tmp_path / "in"], channels), collect_cases(sorted(files), channels)
    assert sorted(folder, key=lambda case: case.name) == sorted(wildcard, key=lambda case: case.name)
    faults = [[(case.name, str(case.fault)) for case in cases if case.fault] for cases in (folder, wildcard)]
    assert sorted(faults[0]) == sorted(faults[1])


def test_tasks_that_would_read_the_names_differently_are_not_asked_at_once(tmp_path) -> None:
    touched(tmp_path / "in", "pat_0000.nii.gz", "pat_0001.nii.gz")
    with pytest.raises(UsageError, match=r"pat_0000\.nii\.gz to pat_0001\.nii\.gz are one case .* of 2 channels"):
        cases_for([tmp_path / "in"], [1, 2])
    assert [case.name for case in cases_for([tmp_path / "in"], [1, 1])] == ["pat_0000", "pat_0001"]
    touched(tmp_path / "other", "a_0000.nii.gz", "amos_0001.nii.gz")
    assert [case.name for case in cases_for([tmp_path / "other"], [1, 2])] == ["a", "amos_0001"]


def test_a_file_given_twice_is_one_case(tmp_path) -> None:
    (path,) = touched(tmp_path, "a.nii.gz")
    assert collect_cases([path, path]) == [Case("a", (path,))]


def test_a_folder_of_cases_gives_all_of_them(tmp_path) -> None:
    first, second = write_volume(tmp_path / "a_0000.nii.gz"), write_photograph(tmp_path / "b.png")
    assert collect_cases([tmp_path]) == [Case("a", (first,)), Case("b", (second,))]


@pytest.mark.parametrize(
    "names",
    [("a.nii.gz", "a.png"), ("a.nii.gz", "A.nrrd"), ("a.nii.gz", "a_0000.nii.gz"), ("\u00e9.nii", "e\u0301.nrrd")],
)
def test_two_inputs_that_would_write_the_same_result_cost_that_case_alone(tmp_path, names) -> None:
    files = touched(tmp_path / "in", *names)
    (other,) = touched(tmp_path / "in", "other.nii.gz")
    for arguments in ([tmp_path / "in"], [*files, other]):  # a folder, and what a shell makes of folder/*
        cases = {case.name: case for case in collect_cases(arguments)}
        assert cases.pop("other") == Case("other", (other,))
        (broken,) = cases.values()
        assert sorted(broken.paths) == sorted(files)
        assert all(path.name in str(broken.fault) for path in files)


def test_cases_of_one_name_in_several_folders_are_named_with_their_folders(tmp_path) -> None:
    files = [*touched(tmp_path / "x", "ct.nii.gz"), *touched(tmp_path / "y", "ct.nii.gz")]
    (case,) = collect_cases(files)
    assert all(str(path) in str(case.fault) for path in files)
    assert "segment them into different folders" in str(case.fault)


def test_a_batch_goes_on_past_cases_of_one_name_and_one_alone_is_refused(tmp_path, meduniseg, tiny_model) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.nii.gz", "a_0000.nrrd", "b.nii.gz"):
        write_volume(folder / name)
    model = ("--model", tiny_model, "--task", "organ", "--json")
    done = meduniseg("segment", *sorted(folder.iterdir()), "-o", tmp_path / "out", *model)
    assert done.returncode == 3 and "Case a is there more than once (a.nii.gz, a_0000.nrrd)" in done.stderr
    report = json.loads(done.stdout)
    assert [result["case"] for result in report["results"]] == ["b"]
    assert [failed["case"] for failed in report["failed"]] == ["a"]
    alone = meduniseg("segment", folder / "a.nii.gz", folder / "a_0000.nrrd", "-o", tmp_path / "alone", *model)
    assert alone.returncode == 3 and not (tmp_path / "alone").exists()


def test_a_wildcard_passes_over_results_as_a_folder_does(tmp_path, meduniseg, tiny_model) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        write_volume(folder / name)
    model = ("--model", tiny_model, "--task", "organ", "--format", "nrrd", "--json")
    assert meduniseg("segment", folder, "-o", folder, *model).returncode == 0
    results = [folder / f"{case}.{ending}" for case in "ab" for ending in ("nrrd", "json")]
    assert all(path.is_file() for path in results)
    again = meduniseg("segment", *sorted(folder.iterdir()), "-o", tmp_path / "out", *model)
    assert again.returncode == 0 and [entry["case"] for entry in json.loads(again.stdout)["results"]] == ["a", "b"]
    assert all(f"{path} is a result of this program" in again.stderr for path in results)
    for path in results[:2]:
        alone = meduniseg("segment", path, "-o", tmp_path / "alone", *model)
        assert alone.returncode == 3 and "is a result of this program, not an image" in alone.stderr
    copied = tmp_path / "copied.nrrd"  # nothing says any more what it is
    copied.write_bytes(results[0].read_bytes())
    assert meduniseg("segment", copied, "-o", tmp_path / "copy", *model).returncode == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are Unix's")
def test_a_pipe_is_refused_at_once(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.nii.gz")
    with pytest.raises(BadInputError, match=r"pipe\.nii\.gz is not an ordinary file"):
        collect_cases([tmp_path / "pipe.nii.gz"])


def test_a_path_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(BadInputError, match=r"nowhere\.nii\.gz does not exist"):
        collect_cases([tmp_path / "nowhere.nii.gz"])


def test_series_of_one_name_in_several_folders_get_the_folders_names_too(tmp_path) -> None:
    for patient in ("P001", "P002", "P003"):
        (tmp_path / patient / "CT").mkdir(parents=True)
        # a DICOM file as far as finding goes: the mark, then a header that breaks off
        (tmp_path / patient / "CT" / "IM0001").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00UI")
    cases = collect_cases(sorted(tmp_path.iterdir()))
    assert [case.name for case in cases] == ["P001_CT", "P002_CT", "P003_CT"]
    assert [case.paths[0].parent.name for case in cases] == ["P001", "P002", "P003"]


def test_the_files_of_one_corrected_case_go_by_the_same_rule(tmp_path) -> None:
    first, second = touched(tmp_path, "pat_0000.nii.gz", "pat_0001.nii.gz")
    assert one_case([second, first], ["CT", "PET"]) == one_case([first, second], None) == [first, second]
    with pytest.raises(UsageError, match=r"2 cases by their names \(pat_0000, pat_0001\)"):
        one_case([first, second], ["CT"])
    (alone,) = touched(tmp_path, "amos_0001.nii.gz")
    assert one_case([alone], ["CT"]) == [alone]
    with pytest.raises(UsageError, match="2 cases"):
        one_case([alone, *touched(tmp_path, "amos_0002.nii.gz")], ["CT", "PET"])
    with pytest.raises(BadInputError, match=r"pat_0002\.nii\.gz is missing"):
        one_case([first, second], ["T1", "T2", "FLAIR"])
    pet, ct = touched(tmp_path, "pet.nii.gz", "ct.nii.gz")
    assert one_case([pet, ct], ["CT", "PET"]) == [pet, ct]  # as they are given
    with pytest.raises(BadInputError, match="does not exist"):
        one_case([tmp_path / "nowhere.nii.gz"], None)


def test_folders_of_one_series_given_one_by_one_are_one_case(tmp_path) -> None:
    for folder, heights in (("a", (0, 3, 6)), ("b", (9, 12)), ("c", (30, 33))):
        (tmp_path / folder).mkdir()
        for height in heights:
            write_slice(tmp_path / folder / f"{height}.dcm", height, patient="X" if folder == "c" else "P")
    first, other = collect_cases([tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert first.paths == (tmp_path / "a", tmp_path / "b") and first.name == "a"
    assert other.paths == (tmp_path / "c",)


def test_one_case_of_a_folder_is_named_and_its_choices_stand_in_the_event(tmp_path, meduniseg, tiny_model) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_volume(folder / "a.nii.gz")
    frames = np.random.default_rng(0).normal(size=(40, 36, 20, 6)).astype(np.float32)
    nib.Nifti1Image(frames, np.diag([2.0, 2, 2, 1])).to_filename(folder / "film.nii.gz")
    common = ("-o", tmp_path / "out", "--model", tiny_model, "--task", "organ", "--json", "--progress", "json")

    def errors(done: Any) -> list[dict[str, Any]]:
        events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        return [event for event in events if event["event"] == "error"]

    done = meduniseg("segment", folder, *common)
    of_case, of_all = errors(done)
    assert of_case["case"] == "film" and "choices" not in of_all
    assert of_case["choices"][4] == {"title": "frame 5 of 6", "series": None, "frame": 5}
    alone = meduniseg("segment", folder, *common, "--case", "film")
    assert alone.returncode == 3 and len(errors(alone)[0]["choices"]) == 6
    chosen = meduniseg("segment", folder, *common, "--case", "film", "--frame", "5")
    assert chosen.returncode == 0 and [one["case"] for one in json.loads(chosen.stdout)["results"]] == ["film"]
    wrong = meduniseg("segment", folder, *common, "--case", "b")
    assert wrong.returncode == 2 and "There is no case 'b'; there are: a, film." in wrong.stderr


def test_a_series_is_for_dicom_alone(meduniseg, tiny_model, tmp_path) -> None:
    scan = write_volume(tmp_path / "scan.nii.gz")
    done = meduniseg("segment", scan, "-o", tmp_path / "out", "-t", "organ", "-m", tiny_model, "--series", "3")
    assert done.returncode == 3 and "nothing else has series; leave --series out" in done.stderr


def test_an_orientation_that_is_not_used_is_said(meduniseg, tiny_model, tmp_path) -> None:
    scan = write_volume(tmp_path / "scan.nii.gz")
    arguments = ("-o", tmp_path / "out", "-t", "organ", "-m", tiny_model, "--assume-orientation", "RAI")
    assert meduniseg("segment", scan, *arguments).returncode == 0
    (said,) = [
        warning
        for warning in json.loads((tmp_path / "out" / "scan.json").read_text())["warnings"]
        if warning["code"] == "orientation_assumed"
    ]
    assert "states its orientation, so the one that was given is not used" in said["text"] and said["level"] == "info"


@pytest.mark.parametrize("more", [(), ("--retries", "1")])
def test_a_single_case_that_fails_is_one_sentence_and_one_json_object(meduniseg, tiny_model, tmp_path, more) -> None:
    (tmp_path / "bad.png").write_bytes(b"x")
    words = ("segment", tmp_path / "bad.png", "-o", tmp_path / "out", "-m", tiny_model, "-t", "disc_cup", *more)
    done = meduniseg(*words, "--json")
    assert done.returncode == 3
    report = json.loads(done.stdout)
    (failed,) = report["failed"]
    assert failed["case"] == "bad" and report["results"] == []
    assert done.stderr == f"meduniseg: {failed['error']}\n"
    done = meduniseg(*words)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", f"meduniseg: {failed['error']}\n")


@pytest.mark.parametrize("ending", ["png", "bmp"])
def test_a_volume_is_refused_for_a_picture_format_before_it_is_segmented(
    meduniseg, tiny_model, tmp_path, ending
) -> None:
    volume = write_volume(tmp_path / "v.nii.gz", (16, 32, 32))
    words = ("segment", volume, "-o", tmp_path / "out", "-m", tiny_model, "-t", "organ", "--format", ending)
    done = meduniseg(*words, "--progress", "lines")
    assert done.returncode == 3 and f"slices and a {ending} file holds one; use nii.gz" in done.stderr
    assert "segment:" not in done.stderr


def test_all_tasks_cannot_be_named_with_others(meduniseg, tmp_path) -> None:
    volume = write_volume(tmp_path / "v.nii.gz", (16, 32, 32))
    done = meduniseg("segment", volume, "-o", tmp_path / "out", "-t", "all,polyp")
    assert done.returncode == 2 and "'all' stands for every task; give it alone" in done.stderr
