"""A series whose slices lie in several folders is one image, or it is said that they are parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_making import write_stack

from meduniseg_core.images import find_cases, read_image
from meduniseg_core.images.cases import folder_cases

FIRST, SECOND = [20.0, 23.0, 26.0], [29.0, 32.0]


def spread(cd: Path, second: list[float] = SECOND, **elements: object) -> Path:
    write_stack(cd / "SE0", FIRST, **elements)
    write_stack(cd / "SE1", second, **elements)
    return cd


@pytest.mark.parametrize("second", [SECOND, [17.0, 14.0, 11.0]])
def test_halves_are_joined(second: list[float], tmp_path: Path) -> None:
    cd = spread(tmp_path / "cd", second, PatientID="P1")
    whole = read_image(write_stack(tmp_path / "whole", FIRST + second, PatientID="P1"))
    ((name, paths),) = find_cases(cd).items()
    assert name == "cd" and paths == (cd / "SE0", cd / "SE1")
    for image in (read_image(paths), read_image(cd)):
        assert image.geometry == whole.geometry and np.array_equal(image.array, whole.array)
        assert [finding.text for finding in image.findings] == [
            "One series lies in the folders cd/SE0 and cd/SE1; it is read as one."
        ]
        assert image.files == paths


def test_slices_that_alternate_between_folders_are_joined(tmp_path: Path) -> None:
    write_stack(tmp_path / "cd" / "odd", [3.0, 9.0, 15.0])
    write_stack(tmp_path / "cd" / "even", [0.0, 6.0, 12.0])
    write_stack(tmp_path / "cd" / "other", FIRST, SeriesInstanceUID="1.2.3")
    cases = find_cases(tmp_path / "cd")
    assert list(cases) == ["cd", "other"]
    assert read_image(cases["cd"]).geometry.shape[0] == 6
    spread(tmp_path / "cohort" / "P1")
    write_stack(tmp_path / "cohort" / "P2", FIRST)
    assert list(find_cases(tmp_path / "cohort")) == ["P1", "P2"]


def test_copies_and_other_patients_stay_apart(tmp_path: Path) -> None:
    write_stack(tmp_path / "a" / "P1", FIRST)
    write_stack(tmp_path / "a" / "P2", FIRST)  # an anonymiser gave both one UID
    assert [(case.name, case.findings) for case in folder_cases(tmp_path / "a")] == [("P1", ()), ("P2", ())]
    write_stack(tmp_path / "b" / "P1", FIRST, PatientID="P1")
    write_stack(tmp_path / "b" / "P2", SECOND, PatientID="P2")
    assert [(case.name, case.findings) for case in folder_cases(tmp_path / "b")] == [("P1", ()), ("P2", ())]


def test_parts_with_a_gap_between_them_are_named(tmp_path: Path) -> None:
    cases = folder_cases(spread(tmp_path / "cd", [35.0, 38.0], PatientID="P1"))
    assert [case.name for case in cases] == ["SE0", "SE1"]
    for case in cases:
        (finding,) = case.findings
        assert finding.level == "warning" and "cd/SE0 and cd/SE1" in finding.text and "no even stack" in finding.text
