"""Nothing that belongs to something else is overwritten."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from small_inputs import write_photograph

from meduniseg_core.errors import UsageError
from meduniseg_core.former_results import Standing, read_record
from meduniseg_core.images import Case, Geometry, Image, write_labels
from meduniseg_core.provenance import recorded_task
from training_cli.targets import chosen_ending, targets_of, with_name_faults

CASES = [Case("a", (Path("a.nii.gz"),))]


def survey(
    cases: Sequence[Case], tasks: Sequence[str], output: Path, ending: str | None = None, probabilities: bool = False
) -> dict[tuple[str, str], Standing]:
    return targets_of(cases, tasks, output, ending, probabilities).survey(cases)


def former_result(folder: Path, task: str, name: str = "a.nii.gz") -> Path:
    """As it was written before a JSON listed its files."""
    folder.mkdir(exist_ok=True, parents=True)
    labels = np.zeros((1, 2, 3, 4), np.uint8)
    labels[0, 0, 0, 0] = 1
    write_labels(Image(labels, Geometry((2, 3, 4), (1.0, 1.0, 1.0))), folder / name)
    (folder / "a.json").write_text(json.dumps({"task": task, "model_sha256": "0", "classes": {"1": task}}))
    return folder / name


def test_a_new_folder_is_fine_and_is_not_made_yet(tmp_path) -> None:
    survey(CASES, ["spleen"], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_below_a_file_is_found_before_the_work(tmp_path) -> None:
    (tmp_path / "note").write_text("mine")
    for folder in (tmp_path / "note", tmp_path / "note" / "x" / "y"):
        with pytest.raises(UsageError, match="note is a file; give a folder"):
            survey(CASES, ["spleen"], folder)


def test_a_former_result_of_the_same_task_is_replaced(tmp_path) -> None:
    former_result(tmp_path, "spleen")
    assert survey(CASES, ["spleen"], tmp_path)["a", "spleen"].edited() == []


def test_a_former_result_without_hash_that_is_younger_than_its_json_counts_as_edited(tmp_path) -> None:
    labels = former_result(tmp_path, "spleen")
    os.utime(tmp_path / "a.json", (1e9, 1e9))
    assert survey(CASES, ["spleen"], tmp_path)["a", "spleen"].edited() == [labels.name]


def test_a_json_without_hashes_vouches_for_no_picture_of_its_name(tmp_path) -> None:
    former_result(tmp_path, "spleen").unlink()
    write_photograph(tmp_path / "a.png")
    with pytest.raises(UsageError, match="not a result of this program"):
        survey([Case("a", (tmp_path / "x" / "a.jpg",))], ["spleen"], tmp_path)


def test_a_json_without_hashes_vouches_for_one_file_only(tmp_path) -> None:
    former_result(tmp_path, "spleen")
    former_result(tmp_path, "spleen", "a.nrrd")
    with pytest.raises(UsageError, match="not a result of this program"):
        survey(CASES, ["spleen"], tmp_path)


def test_another_task_s_result_is_not_overwritten(tmp_path) -> None:
    former_result(tmp_path, "liver")
    with pytest.raises(UsageError, match="'liver'"):
        survey(CASES, ["spleen"], tmp_path)


def test_several_tasks_have_folders_of_their_own(tmp_path) -> None:
    former_result(tmp_path, "liver")
    targets = targets_of(CASES, ["spleen", "liver"], tmp_path)
    targets.survey(CASES)
    assert targets.labels("a", "liver", is_2d=False) == tmp_path / "liver" / "a.nii.gz"
    former_result(tmp_path / "liver", "spleen")
    with pytest.raises(UsageError, match="'spleen'"):
        targets.survey(CASES)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.png", "a.json"])
def test_the_input_itself_or_any_other_file_is_not_overwritten(tmp_path, name) -> None:
    (tmp_path / name).write_text("[1, 2]")
    with pytest.raises(UsageError, match="not a result of this program"):
        survey(CASES, ["spleen"], tmp_path)


@pytest.mark.parametrize(("ending", "name"), [(None, "a_probabilities.npy"), ("nrrd", "a_probabilities.nrrd")])
def test_a_stranger_in_the_place_of_the_probabilities_is_not_overwritten(tmp_path, ending, name) -> None:
    (tmp_path / name).write_text("mine")
    survey(CASES, ["spleen"], tmp_path, chosen_ending(ending))
    with pytest.raises(UsageError, match="not a result of this program"):
        survey(CASES, ["spleen"], tmp_path, chosen_ending(ending), probabilities=True)


def test_a_case_called_as_another_s_probabilities_is_refused(tmp_path) -> None:
    cases = [*CASES, Case("a_probabilities", (Path("a_probabilities.nii.gz"),))]
    survey(cases, ["spleen"], tmp_path)
    with pytest.raises(UsageError, match="would both be called"):
        survey(cases, ["spleen"], tmp_path, probabilities=True)


def test_an_output_that_is_a_file_is_refused(tmp_path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match="is a file"):
        survey(CASES, ["spleen"], tmp_path / "out")


def test_names_that_are_too_long_or_empty_are_faults_of_their_cases(tmp_path) -> None:
    cases = [Case("a", (Path("a.nii"),)), Case("x" * 251, (Path("x" * 251 + ".png"),)), Case("", (Path("/"),))]
    found = with_name_faults(cases, targets_of(cases, ["spleen"], tmp_path))
    assert [case.fault is None for case in found] == [True, False, False]
    assert "256 bytes long" in str(found[1].fault)
    short = [Case("x" * 244, (Path("x" * 244 + ".nii.gz"),))]  # 251 bytes with its ending
    assert with_name_faults(short, targets_of(short, ["spleen"], tmp_path))[0].fault is None
    assert with_name_faults(short, targets_of(short, ["spleen"], tmp_path, ".nii.gz", True))[0].fault is not None


@pytest.mark.parametrize(("text", "ending"), [(None, None), ("nrrd", ".nrrd"), (".NII.GZ", ".nii.gz")])
def test_formats_are_taken_with_and_without_a_dot(text, ending) -> None:
    assert chosen_ending(text) == ending


def test_a_format_that_would_change_labels_is_refused() -> None:
    with pytest.raises(UsageError, match="jpg"):
        chosen_ending("jpg")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"task": "a"}', '{"model_sha256": "0", "task": 3}'])
def test_a_strange_record_belongs_to_no_task(tmp_path, content) -> None:
    (tmp_path / "a.json").write_text(content)
    assert recorded_task(read_record(tmp_path / "a.json")) is None
