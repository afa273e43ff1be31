"""A command that writes into a folder does not take a file's name for it."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("segment", "scan.nii.gz", "--task", "t"), "out.nii.gz"),
        (("segment", "scan.nii.gz", "--task", "t"), "OUT.PNG"),
        (("evaluate", "found", "references"), "report.json"),
        (("explain", "data"), "page.html"),
        (("dataset", "preprocess", "data"), "cache.npz"),
        (("dataset", "convert", "all", "downloads"), "data.nii"),
        (("dicom", "pull", "http://localhost", "--study", "1.2"), "1.2.dcm"),
        (("worklist", "folder"), "results.seg.nrrd"),
    ],
)
def test_the_name_of_a_file_is_no_output_folder(meduniseg, tmp_path, arguments, name) -> None:
    done = meduniseg(*arguments, "--output", tmp_path / name)
    assert done.returncode == 2
    assert f"{name}' is the name of a file; give a folder" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "made"), [("out.v2", False), ("cases.nii.gz", True)])
def test_a_folder_may_have_a_point_in_its_name_and_any_if_it_is_there(meduniseg, tmp_path, name, made) -> None:
    if made:
        (tmp_path / name).mkdir()
    done = meduniseg("evaluate", tmp_path / "found", tmp_path / "references", "--output", tmp_path / name)
    assert "is the name of a file" not in done.stderr and "found" in done.stderr
