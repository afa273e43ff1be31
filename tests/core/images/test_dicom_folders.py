"""DICOM in folders: found by content and below, one image per series, per X-ray, per multi-frame file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_making import dataset_of, enhanced, frame_item, save, write_slice, write_stack
from PIL import Image as PillowImage
from pydicom.uid import DigitalXRayImageStorageForPresentation, SecondaryCaptureImageStorage, generate_uid

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import find_cases, read_image

HEIGHTS = [0.0, 3.0, 6.0]


def found(folder: Path) -> dict[str, str]:
    return {name: str(paths[0].relative_to(folder)) for name, paths in find_cases(folder).items()}


def write_xray(folder: Path, name: str, **elements: Any) -> Path:
    own = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "Modality": "DX", **elements}
    own.setdefault("SeriesInstanceUID", generate_uid())
    return save(dataset_of(DigitalXRayImageStorageForPresentation, **own), folder / name)


def write_volume(path: Path) -> Path:
    frames = [frame_item(PlanePosition={"ImagePositionPatient": [0, 0, 2.0 * n]}) for n in range(4)]
    return save(enhanced(frames, np.zeros((4, 5, 6))), path)


def test_radiographs_of_a_folder_are_cases_of_their_own(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.IMA", "c"):
        write_xray(tmp_path / "xrays", name)
    assert found(tmp_path / "xrays") == {"a": "a.dcm", "b.IMA": "b.IMA", "c": "c"}
    assert all(read_image(paths).is_2d for paths in find_cases(tmp_path / "xrays").values())
    # two views of one study share their series
    for view in ("ap", "lateral"):
        write_xray(tmp_path / "views", view, SeriesInstanceUID="1.2.3", Modality="CR")
    assert list(found(tmp_path / "views")) == ["ap", "lateral"]
    # a damaged one costs itself
    (tmp_path / "xrays" / "d.dcm").write_bytes((tmp_path / "xrays" / "a.dcm").read_bytes()[:400])
    assert list(found(tmp_path / "xrays")) == ["a", "b.IMA", "c", "d"]


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"version https://git-lfs.github.com/spec/v1\n" * 9])
def test_what_is_named_as_dicom_and_is_not_costs_itself_and_no_slice_vanishes(content: bytes, tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm"):
        write_xray(tmp_path / "xrays", name)
    (tmp_path / "xrays" / "c.dcm").write_bytes(content)
    assert list(found(tmp_path / "xrays")) == ["a", "b", "c"]
    with pytest.raises(BadInputError, match=r"c\.dcm is (empty|not a DICOM image, though it is named as one)"):
        read_image(tmp_path / "xrays" / "c.dcm")
    write_stack(tmp_path / "ct", HEIGHTS)
    (tmp_path / "ct" / "IM99.dcm").write_bytes(content)  # the last slice, say: no gap would tell that it is lost
    with pytest.raises(BadInputError, match=r"IM99\.dcm is"):
        read_image(tmp_path / "ct")


def test_photographs_and_ultrasound_are_cases_of_their_own(tmp_path: Path) -> None:
    kinds = {"XC": SecondaryCaptureImageStorage, "US": "1.2.840.10008.5.1.4.1.1.6.1"}
    for modality, kind in kinds.items():
        for name in ("p1", "p2"):
            dataset = dataset_of(kind, Modality=modality, ImagePositionPatient=None, ImageOrientationPatient=None)
            save(dataset, tmp_path / modality / name)
        assert list(found(tmp_path / modality)) == ["p1", "p2"]


def test_pictures_and_radiographs_stand_side_by_side(tmp_path: Path) -> None:
    write_xray(tmp_path, "x1.dcm")
    write_xray(tmp_path, "x2.dcm")
    PillowImage.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "y.png")
    assert found(tmp_path) == {"x1": "x1.dcm", "x2": "x2.dcm", "y": "y.png"}


def test_slices_without_position_are_no_cases_of_their_own(tmp_path: Path) -> None:
    write_stack(tmp_path / "ct", HEIGHTS, ImagePositionPatient=None)
    assert found(tmp_path / "ct") == {"ct": "."}
    with pytest.raises(BadInputError, match="has no position in space"):
        read_image(tmp_path / "ct")


def test_multi_frame_files_are_one_case_each(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.dcm")
    assert found(tmp_path) == {tmp_path.name: "."}
    # a screenshot beside it is left out, another volume is not
    place = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
    save(dataset_of(SecondaryCaptureImageStorage, **place, SeriesInstanceUID="1.2"), tmp_path / "shot")
    assert found(tmp_path) == {tmp_path.name: "."}
    image = read_image(tmp_path)
    assert image.geometry.shape[0] == 4
    assert [finding.code for finding in image.findings] == ["slices_chosen"]
    write_volume(tmp_path / "b.dcm")
    assert set(found(tmp_path)) == {"a", "b", "shot"}


def test_series_of_a_cd_and_of_a_cohort_are_found_below(tmp_path: Path) -> None:
    write_stack(tmp_path / "cd" / "DICOM" / "PA0" / "ST0" / "SE0", HEIGHTS)
    assert found(tmp_path / "cd") == {"cd": "DICOM/PA0/ST0/SE0"}
    image = read_image(tmp_path / "cd")
    assert image.geometry.shape[0] == 3
    assert "DICOM/PA0/ST0/SE0" in image.findings[0].text
    write_stack(tmp_path / "cd" / "DICOM" / "PA0" / "ST0" / "SE1", HEIGHTS)
    assert list(found(tmp_path / "cd")) == ["SE0", "SE1"]
    with pytest.raises(BadInputError, match=r"2 DICOM images in folders below it \(DICOM/PA0/ST0/SE0, .*SE1\)"):
        read_image(tmp_path / "cd")
    write_stack(tmp_path / "cd" / "DICOM" / "PA1" / "ST0" / "SE0", HEIGHTS)
    assert list(found(tmp_path / "cd")) == ["PA0_SE0", "PA0_SE1", "PA1"]

    cohort = tmp_path / "cohort"
    for patient in ("P001", "P002"):
        write_stack(cohort / patient / "CT", HEIGHTS, SeriesInstanceUID="1.2.3")  # equal UIDs: still two patients
    write_stack(cohort / "P002" / "MR" / "T1", HEIGHTS, Modality="MR")
    write_stack(cohort / "P003", HEIGHTS)
    assert found(cohort) == {"P001": "P001/CT", "P002_CT": "P002/CT", "P002_MR": "P002/MR/T1", "P003": "P003"}


def test_names_that_would_meet_are_told_apart(tmp_path: Path) -> None:
    for place in ("a_b/c", "a_b/d", "a/b_c", "a/b_d"):
        write_stack(tmp_path / place, HEIGHTS)
    cases = find_cases(tmp_path / "a")
    assert list(cases) == ["b_c", "b_d"]
    with pytest.raises(BadInputError, match="Case a_b_c is there more than once"):
        find_cases(tmp_path)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    write_stack(tmp_path / "x" / "ct", HEIGHTS)
    (tmp_path / "x" / "ct" / "again").symlink_to(tmp_path / "x", target_is_directory=True)
    assert found(tmp_path / "x") == {"ct": "ct"}


def test_a_folder_without_images_says_where_was_looked(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "notes").write_text("no image, but long enough to be looked into for the mark of DICOM " * 4)
    with pytest.raises(BadInputError, match="no known image files, and no DICOM in it or below it"):
        find_cases(tmp_path)
    with pytest.raises(BadInputError, match="nor does a folder below it"):
        read_image(tmp_path)


@pytest.mark.parametrize("strip", ["preamble", "meta", "all", "syntax"])
def test_dicom_without_preamble_or_meta_is_read(strip: str, tmp_path: Path) -> None:
    whole = write_slice(tmp_path / "ct", "IM0001", (0, 0, 0))
    expected = read_image(whole).array
    raw = whole.read_bytes()
    meta_length = 132 + 12 + int.from_bytes(raw[140:144], "little")
    if strip == "preamble":
        raw = raw[132:]
    elif strip == "meta":
        raw = raw[:132] + raw[meta_length:]
    elif strip == "all":
        raw = raw[meta_length:]
    else:
        place = raw.index(b"\x02\x00\x10\x00UI")
        length = int.from_bytes(raw[place + 6 : place + 8], "little")
        raw = raw[:place] + raw[place + 8 + length :]
    whole.write_bytes(raw)
    assert np.array_equal(read_image(whole).array, expected)
    assert np.array_equal(read_image(whole.parent).array, expected)
    assert found(tmp_path) == {"ct": "ct"}


def test_an_implicit_data_set_alone_is_read(tmp_path: Path) -> None:
    dataset = dataset_of()
    expected = read_image(save(dataset, tmp_path / "x.dcm")).array
    import pydicom

    pydicom.dcmwrite(tmp_path / "y", pydicom.Dataset(dataset), implicit_vr=True, little_endian=True)
    assert (tmp_path / "y").read_bytes()[:2] == b"\x08\x00"
    assert np.array_equal(read_image(tmp_path / "y").array, expected)


@pytest.mark.parametrize("content", [b"", b"\x08\x00", b"\x02\x00" * 100, b"PK\x03\x04" * 50, bytes(range(256))])
def test_files_without_ending_that_are_no_dicom_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "IM0001").write_bytes(content)
    with pytest.raises(BadInputError, match="IM0001"):
        read_image(tmp_path / "IM0001")
