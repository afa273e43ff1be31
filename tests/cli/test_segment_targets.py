"""Nothing that belongs to something else is overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meduniseg_core.errors import UsageError
from meduniseg_core.images import Case
from training_cli.targets import chosen_ending, recorded_task, refuse_strangers, target_folder

CASES = [Case("a", (Path("a.nii.gz"),))]


def former_result(folder: Path, task: str) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "a.nii.gz").touch()
    (folder / "a.json").write_text(json.dumps({"task": task, "model_sha256": "0"}))


def test_a_new_folder_is_fine_and_is_not_made_yet(tmp_path) -> None:
    refuse_strangers(CASES, ["spleen"], tmp_path / "new", None)
    assert not (tmp_path / "new").exists()


def test_a_former_result_of_the_same_task_is_replaced(tmp_path) -> None:
    former_result(tmp_path, "spleen")
    refuse_strangers(CASES, ["spleen"], tmp_path, None)


def test_another_task_s_result_is_not_overwritten(tmp_path) -> None:
    former_result(tmp_path, "liver")
    with pytest.raises(UsageError, match="'liver'"):
        refuse_strangers(CASES, ["spleen"], tmp_path, None)


def test_several_tasks_have_folders_of_their_own(tmp_path) -> None:
    former_result(tmp_path, "liver")
    refuse_strangers(CASES, ["spleen", "liver"], tmp_path, None)
    assert target_folder(tmp_path, "liver", 2) == tmp_path / "liver"
    former_result(tmp_path / "liver", "spleen")
    with pytest.raises(UsageError, match="'spleen'"):
        refuse_strangers(CASES, ["spleen", "liver"], tmp_path, None)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.png", "a.json"])
def test_the_input_itself_or_any_other_file_is_not_overwritten(tmp_path, name) -> None:
    (tmp_path / name).write_text("[1, 2]")
    with pytest.raises(UsageError, match="no result of this program"):
        refuse_strangers(CASES, ["spleen"], tmp_path, None)


def test_an_output_that_is_a_file_is_refused(tmp_path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match="is a file"):
        refuse_strangers(CASES, ["spleen"], tmp_path / "out", None)


@pytest.mark.parametrize(("text", "ending"), [(None, None), ("nrrd", ".nrrd"), (".NII.GZ", ".nii.gz")])
def test_formats_are_taken_with_and_without_a_dot(text, ending) -> None:
    assert chosen_ending(text) == ending


def test_a_format_that_would_change_labels_is_refused() -> None:
    with pytest.raises(UsageError, match="jpg"):
        chosen_ending("jpg")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"task": "a"}', '{"model_sha256": "0", "task": 3}'])
def test_a_strange_record_belongs_to_no_task(tmp_path, content) -> None:
    (tmp_path / "a.json").write_text(content)
    assert recorded_task(tmp_path / "a.json") is None
