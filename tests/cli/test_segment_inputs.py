"""Which cases the arguments of ``segment`` name."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_inputs import write_photograph, write_volume

from meduniseg_core.errors import BadInputError, UsageError
from training_cli.inputs import Case, collect_cases, group_channels


def touched(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return [folder / name for name in names]


def test_numbered_files_from_0000_on_are_the_channels_of_one_case(tmp_path) -> None:
    files = touched(tmp_path, "a_0001.nii.gz", "b_0000.nii.gz", "a_0000.nii.gz")
    assert group_channels(files) == [Case("a", (files[2], files[0])), Case("b", (files[1],))]


def test_numbered_files_without_0000_are_cases_of_their_own(tmp_path) -> None:
    files = touched(tmp_path, "IMG_0041.jpg", "IMG_0042.jpg")
    assert [case.name for case in group_channels(files)] == ["IMG_0041", "IMG_0042"]


def test_channels_of_different_folders_are_different_cases(tmp_path) -> None:
    files = touched(tmp_path / "x", "a_0000.nii.gz") + touched(tmp_path / "y", "a_0001.nii.gz")
    assert [case.name for case in group_channels(files)] == ["a", "a_0001"]


def test_a_missing_channel_is_named(tmp_path) -> None:
    files = touched(tmp_path, "a_0000.nii.gz", "a_0002.nii.gz")
    with pytest.raises(BadInputError, match=r"a_0001\.nii\.gz is missing"):
        group_channels(files)


def test_a_file_given_twice_is_one_case(tmp_path) -> None:
    (path,) = touched(tmp_path, "a.nii.gz")
    assert collect_cases([path, path]) == [Case("a", (path,))]


def test_a_folder_of_cases_gives_all_of_them(tmp_path) -> None:
    first, second = write_volume(tmp_path / "a_0000.nii.gz"), write_photograph(tmp_path / "b.png")
    assert collect_cases([tmp_path]) == [Case("a", (first,)), Case("b", (second,))]


@pytest.mark.parametrize("names", [("a.nii.gz", "a.png"), ("a.nii.gz", "A.nrrd"), ("a.nii.gz", "a_0000.nii.gz")])
def test_two_inputs_that_would_write_the_same_result_are_refused(tmp_path, names) -> None:
    files = touched(tmp_path, *names)
    with pytest.raises(UsageError) as caught:
        collect_cases(files)
    assert all(str(path) in str(caught.value) for path in files)


def test_a_path_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(BadInputError, match=r"nowhere\.nii\.gz does not exist"):
        collect_cases([tmp_path / "nowhere.nii.gz"])
