"""A DICOM folder is judged by the series that is read: what lies beside it neither spoils it nor goes unsaid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_making import dataset_of, enhanced, frame_item, save, write_slice, write_stack
from pydicom.uid import (
    BasicTextSRStorage,
    RTDoseStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    generate_uid,
)

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image, read_image

HEIGHTS = [0.0, 3.0, 6.0]
UNPLACED = {"ImagePositionPatient": None, "ImageOrientationPatient": None}


def codes(image: Image) -> list[str]:
    return [finding.code for finding in image.findings]


def beside(folder: Path, kind: str, modality: str, **elements: Any) -> Path:
    own = {"SeriesInstanceUID": generate_uid(), "Modality": modality, "SeriesNumber": 300, **elements}
    return save(dataset_of(kind, **own), folder / f"other_{modality}")


@pytest.mark.parametrize(
    ("kind", "modality", "elements"),
    [
        (SegmentationStorage, "SEG", {"NumberOfFrames": 4, "BitsAllocated": 1, "PixelSpacing": None, **UNPLACED}),
        (RTDoseStorage, "RTDOSE", {"NumberOfFrames": 5, "BitsAllocated": 32}),
        (RTStructureSetStorage, "RTSTRUCT", {"Rows": None, "Columns": None, "PixelData": None}),
        (BasicTextSRStorage, "SR", {"Rows": None, "Columns": None, "PixelData": None}),
        (SecondaryCaptureImageStorage, "OT", {"PixelSpacing": [0, 0], **UNPLACED}),
        (SecondaryCaptureImageStorage, "OT", {"NumberOfFrames": 3, **UNPLACED}),
    ],
)
def test_other_objects_do_not_spoil_the_series_and_are_named(
    kind: str, modality: str, elements: dict[str, Any], tmp_path: Path
) -> None:
    folder = write_stack(tmp_path / "ct", HEIGHTS)
    other = beside(folder, kind, modality, **elements)
    image = read_image(folder)
    assert image.geometry.shape == (3, 5, 6)
    assert codes(image) == ["slices_chosen"]
    left_out = other.name if modality == "OT" else f"1 {modality}"
    assert left_out in image.findings[0].text
    assert image.findings[0].text.startswith("ct: series 4 'Thorax' (3 images) is read")
    assert codes(read_image(folder, series="4")) == []
    if modality != "OT":
        with pytest.raises(BadInputError, match=rf"Series '300' of .*ct is not an image \({modality}\)"):
            read_image(folder, series="300")


def test_a_screenshot_can_still_be_chosen_and_then_has_its_fault(tmp_path: Path) -> None:
    folder = write_stack(tmp_path / "ct", HEIGHTS)
    beside(folder, SecondaryCaptureImageStorage, "OT", **UNPLACED)
    assert read_image(folder, series="300").geometry.shape == (1, 5, 6)
    beside(folder, SecondaryCaptureImageStorage, "OT", PixelSpacing=[0, 0], **UNPLACED)
    with pytest.raises(BadInputError, match="other_OT gives a pixel size of 0 x 0"):
        read_image(folder, series="300")


def test_a_second_series_of_images_is_still_a_choice_for_the_user(tmp_path: Path) -> None:
    folder = write_stack(tmp_path / "ct", HEIGHTS)
    beside(folder, SegmentationStorage, "SEG")
    write_slice(folder, "z", (0, 0, 0), SeriesInstanceUID=generate_uid(), SeriesNumber=9, PatientID="B")
    with pytest.raises(BadInputError, match=r"holds 2 series of 2 patients .*#2 number 9"):
        read_image(folder)


@pytest.mark.parametrize(
    "elements",
    [{"PixelSpacing": [0, 1]}, {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, {"ImagePositionPatient": None}],
)
def test_a_damaged_slice_of_the_series_itself_is_never_left_out(elements: dict[str, Any], tmp_path: Path) -> None:
    folder = write_stack(tmp_path / "ct", HEIGHTS)
    write_slice(folder, "odd", (0, 0, 9.0), **elements)
    with pytest.raises(BadInputError, match="odd"):
        read_image(folder)


def test_a_folder_of_other_objects_alone_says_what_it_holds(tmp_path: Path) -> None:
    beside(tmp_path / "x", RTDoseStorage, "RTDOSE")
    beside(tmp_path / "x", SegmentationStorage, "SEG")
    with pytest.raises(BadInputError, match=r"holds no DICOM images \(only 1 RTDOSE, 1 SEG\)"):
        read_image(tmp_path / "x")


def test_noise_in_orientation_and_pixel_size_makes_no_second_series(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tilt = 0.0235 * 3  # rounds both ways at three decimals
    for number in range(12):
        angle = tilt + random.uniform(-3e-5, 3e-5)
        rows = [np.cos(angle), 0, np.sin(angle), 0, 1, 0]
        write_slice(
            tmp_path / "ct",
            f"a{number}",
            (0, 0, 5.0 * number),
            ImageOrientationPatient=[round(float(value), 7) for value in rows],
            PixelSpacing=["0.97655", "0.97665"] if number % 2 else ["0.97664", "0.97656"],
        )
    image = read_image(tmp_path / "ct")
    assert image.geometry.shape[0] == 12
    assert image.geometry.spacing[0] == pytest.approx(5.0)
    assert image.geometry.spacing[1:] == pytest.approx((0.9766, 0.9766), abs=1e-4)


@pytest.mark.parametrize(
    "other", [{"ImageOrientationPatient": [0.99995, 0.01, 0, -0.01, 0.99995, 0]}, {"PixelSpacing": [0.81, 0.6]}]
)
def test_more_than_noise_is_another_series(other: dict[str, Any], tmp_path: Path) -> None:
    folder = write_stack(tmp_path / "ct", HEIGHTS)
    write_slice(folder, "z", (0, 0, 9.0), **other)
    with pytest.raises(BadInputError, match="holds 2 series"):
        read_image(folder)


def numbered(folder: Path, heights: list[float], numbers: list[int | None]) -> Path:
    for height, number in zip(heights, numbers, strict=True):
        extra = {} if number is None else {"InstanceNumber": number}
        write_slice(folder, f"IM{height:05.1f}", (0, 0, height), **extra)
    return folder


NONE = [None] * 30


@pytest.mark.parametrize(
    ("heights", "numbers", "reason"),
    [
        # a head CT: thin below, thick above, nothing lost
        (
            [0, 2.5, 5, 7.5, 10, 15, 20, 25],
            [1, 2, 3, 4, 5, 6, 7, 8],
            r"two slice distances \(2.5 mm .* without a gap\)",
        ),
        ([0, 2.5, 5, 7.5, 10, 15, 20, 25], [8, 7, 6, 5, 4, 3, 2, 1], "two slice distances"),
        ([0, 2.5, 5, 7.5, 10, 15, 20, 25], NONE[:8], "two slice distances"),
        ([0, 5, 10, 15, 20, 22.5, 25, 27.5], list(range(8)), "two slice distances"),
        # the same distances, but every second slice of one part is lost
        ([0, 2.5, 5, 7.5, 10, 15, 20, 25], [1, 2, 3, 4, 5, 7, 9, 11], r"misses about 3 slice\(s\): 5 mm lie between"),
        ([0, 3, 9, 12, 15, 21, 24], [1, 2, 4, 5, 6, 8, 9], r"misses about 2 slice\(s\)"),
        ([0, 3, 9, 12, 15, 21, 24], NONE[:7], r"misses about 2 slice\(s\)"),
        # numbered through, yet one distance is twice the others: no slice is said to be lost
        ([0, 3, 6, 12, 15], [1, 2, 3, 4, 5], "unevenly spaced"),
        # interleaved numbers of a two-echo series say nothing wrong
        ([0, 3, 6, 12, 15], [1, 3, 5, 9, 11], r"misses about 1 slice\(s\)"),
    ],
)
def test_the_stated_cause_of_uneven_slices_is_true(
    heights: list[float], numbers: list[int | None], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match=reason):
        read_image(numbered(tmp_path / "ct", [float(height) for height in heights], numbers))


def test_series_without_orientation_are_read_with_a_warning(tmp_path: Path) -> None:
    with_positions = write_stack(tmp_path / "a", HEIGHTS, ImageOrientationPatient=None)
    with_locations = tmp_path / "b"
    for number, location in enumerate((4.0, 0.0, 2.0)):
        write_slice(with_locations, f"x{number}", (0, 0, 0), 10 * number, SliceLocation=location, **UNPLACED)
    for folder, distance in ((with_positions, 3.0), (with_locations, 2.0)):
        image = read_image(folder)
        assert image.geometry.spacing == (distance, 0.8, 0.6)
        assert codes(image) == ["orientation_unknown"]
        assert image.findings[0].level == "warning"
    assert image.array[0, :, 0, 0].tolist() == [-1014, -1004, -1024]


def test_volumes_in_one_enhanced_file_are_series_to_choose_from(tmp_path: Path) -> None:
    frames, planes = [], []
    for echo in (2.0, 7.5):
        for height in (6.0, 0.0, 3.0):
            frames.append(
                frame_item(PlanePosition={"ImagePositionPatient": [0, 0, height]}, MREcho={"EffectiveEchoTime": echo})
            )
            planes.append(np.full((5, 6), int(100 * echo + height)))
    path = save(enhanced(frames, np.array(planes)), tmp_path / "mr.dcm")
    with pytest.raises(BadInputError, match=r"mr\.dcm holds 2 series .*EffectiveEchoTime 2.*EffectiveEchoTime 7\.5"):
        read_image(path)
    assert read_image(path, series="#2").array[0, :, 0, 0].tolist() == [750, 753, 756]
    assert read_image(path, series="EffectiveEchoTime 2").array[0, :, 0, 0].tolist() == [200, 203, 206]


def test_a_file_that_is_there_twice_counts_once_and_another_slice_at_its_place_is_refused(tmp_path: Path) -> None:
    folder = write_stack(tmp_path / "ct", HEIGHTS)
    first = min(folder.iterdir())
    (folder / "copy (1)").write_bytes(first.read_bytes())
    image = read_image(folder)
    assert image.geometry.shape[0] == 3
    assert codes(image) == ["slices_chosen"] and "1 file(s) that are there twice" in image.findings[0].text
    (folder / "copy (1)").write_bytes(first.read_bytes().replace(b"Thorax", b"thorax"))
    with pytest.raises(BadInputError, match="several slices at one place"):
        read_image(folder)
