"""PET as SUV, films by their presentation LUT, a disc's DICOMDIR, and which of several series is proposed."""

from __future__ import annotations

import datetime
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_making import dataset_of, save, write_slice, write_stack
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import read_image
from meduniseg_core.images.choices import SeveralImagesError


def dose(**elements: Any) -> list[Dataset]:
    item = Dataset()
    given = {
        "RadionuclideTotalDose": 350e6,
        "RadionuclideHalfLife": 6586.2,
        "RadiopharmaceuticalStartTime": "230000",
        **elements,
    }
    for keyword, value in given.items():
        if value is not None:
            setattr(item, keyword, value)
    return [item]


PET: dict[str, Any] = {
    "Modality": "PT",
    "Units": "BQML",
    "DecayCorrection": "START",
    "PatientWeight": 70,
    "SeriesTime": "003000.5",  # 90 minutes after the injection, past midnight
    "RescaleIntercept": 0,
    "RescaleSlope": 100,
    "RadiopharmaceuticalInformationSequence": dose(),
}


def test_pet_is_read_as_suv_and_says_so(tmp_path: Path) -> None:
    image = read_image(write_stack(tmp_path / "pet", [0, 3, 6], **PET))
    plain = read_image(write_stack(tmp_path / "plain", [0, 3, 6], RescaleIntercept=0, RescaleSlope=100))
    decayed = 350e6 * 2.0 ** (-5400.5 / 6586.2)
    np.testing.assert_allclose(image.array, plain.array * 70_000 / decayed, rtol=1e-5)
    assert image.array.dtype == np.float32 and image.meta["suv"]
    (said,) = [finding for finding in image.findings if finding.code.startswith("pet")]
    assert said.level == "info" and "SUV by body weight" in said.text


def test_pet_that_is_suv_already_stays(tmp_path: Path) -> None:
    image = read_image(write_stack(tmp_path / "pet", [0, 3, 6], **{**PET, "Units": "GML", "PatientWeight": None}))
    assert image.meta["suv"] and int(image.array.max()) == 100 * (60 + 29)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"PatientWeight": None}, "PatientWeight"),
        ({"PatientWeight": 0}, "not positive"),
        ({"Units": "CNTS"}, "CNTS"),
        ({"Units": None}, "Units"),
        ({"RadiopharmaceuticalInformationSequence": None}, "RadiopharmaceuticalInformationSequence"),
        ({"RadiopharmaceuticalInformationSequence": dose(RadionuclideHalfLife=None)}, "RadionuclideHalfLife"),
        ({"RadiopharmaceuticalInformationSequence": dose(RadiopharmaceuticalStartTime="100000")}, "14.5 hours"),
        ({"RadiopharmaceuticalInformationSequence": dose() + dose()}, "2 radiopharmaceuticals"),
    ],
)
def test_pet_that_cannot_be_suv_keeps_its_values_and_says_why(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    image = read_image(write_stack(tmp_path / "pet", [0, 3, 6], **{**PET, **changes}))
    assert int(image.array.max()) == 100 * (60 + 29) and not image.meta.get("suv")
    (said,) = [finding for finding in image.findings if finding.code.startswith("pet")]
    assert said.level == "warning" and reason in said.text and str(tmp_path) not in said.text


FILM: dict[str, Any] = {"Modality": "DX", "RescaleIntercept": 0, "ImageOrientationPatient": None, "PixelSpacing": None}


@pytest.mark.parametrize(
    ("interpretation", "shape", "first"),
    [
        ("MONOCHROME2", None, 0),
        ("MONOCHROME2", "IDENTITY", 0),
        ("MONOCHROME1", None, 4095),
        ("MONOCHROME1", "INVERSE", 4095),
        ("MONOCHROME2", "INVERSE", 4095),
    ],
)
def test_films_are_bright_where_they_are_shown_bright(
    interpretation: str, shape: str | None, first: int, tmp_path: Path
) -> None:
    elements = {**FILM, "PhotometricInterpretation": interpretation, "PresentationLUTShape": shape}
    assert read_image(write_slice(tmp_path, "x.dcm", (0, 0, 0), **elements)).array[0, 0, 0, 0] == first


def disc(folder: Path, *series: list[float]) -> Path:
    files = FileSet()
    for number, heights in enumerate(series):
        for height in heights:
            one = dataset_of(
                ImagePositionPatient=[0, 0, height],
                SeriesInstanceUID=f"1.2.{number + 1}",
                StudyInstanceUID="1.3",
                PatientID="7",
                PatientName="n",
                StudyDate="20200102",
                StudyTime="10",
                StudyID="1",
                SeriesNumber=number + 1,
                InstanceNumber=round(height),
            )
            files.add(one)
    files.write(folder)
    return folder / "DICOMDIR"


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # pydicom's FileSet leaves its folder to the collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_directory_of_a_disc_stands_for_its_image(tmp_path: Path) -> None:
    directory = disc(tmp_path / "disc", [0, 3, 6])
    assert directory.is_file()
    for path in (directory, directory.parent):
        assert read_image(path).array.shape == (1, 3, 5, 6)
    with pytest.raises(BadInputError, match="holds 2 DICOM images in folders below it"):
        read_image(disc(tmp_path / "two", [0, 3, 6], [0, 3]))
    write_stack(tmp_path / "flat", [0, 3, 6])
    (tmp_path / "flat" / "DICOMDIR").write_bytes(directory.read_bytes())
    assert read_image(tmp_path / "flat" / "DICOMDIR").array.shape == (1, 3, 5, 6)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "DICOMDIR").write_bytes(directory.read_bytes())
    with pytest.raises(BadInputError, match="holds no DICOM images"):
        read_image(tmp_path / "bare" / "DICOMDIR")
    gc.collect()


def test_the_likeliest_of_several_series_is_proposed(tmp_path: Path) -> None:
    day = datetime.date(2024, 5, 17).strftime("%Y%m%d")
    for name, uid, heights, kind, description in (
        ("a", "1.2.1", range(12), ["ORIGINAL", "PRIMARY", "LOCALIZER"], "Scout"),
        ("b", "1.2.2", range(5), ["ORIGINAL", "PRIMARY", "AXIAL"], "Thorax"),
        ("c", "1.2.3", range(9), ["DERIVED", "SECONDARY", "MPR"], "MPR"),
        ("d", "1.2.4", range(3), ["ORIGINAL", "PRIMARY", "AXIAL"], "Thin"),
    ):
        for height in heights:
            write_slice(
                tmp_path / "study",
                f"{name}{height}",
                (0, 0, 3 * height),
                SeriesInstanceUID=uid,
                ImageType=kind,
                SeriesDescription=description,
                SeriesDate=day,
            )
    with pytest.raises(SeveralImagesError, match="likeliest") as caught:
        read_image(tmp_path / "study")
    (proposed,) = [choice for choice in caught.value.choices if choice.proposed]
    assert proposed.title == "series 4 'Thorax' (5 images of 5x6, 2024-05-17)"
    assert f"{proposed.series} is the likeliest" in str(caught.value)
    assert read_image(tmp_path / "study", series=proposed.series).array.shape[1] == 5


def test_series_that_tie_are_not_told_apart(tmp_path: Path) -> None:
    for uid in ("1.2.1", "1.2.2"):
        for height in range(3):
            write_slice(tmp_path / "study", f"{uid}_{height}", (0, 0, 3 * height), SeriesInstanceUID=uid)
    with pytest.raises(SeveralImagesError) as caught:
        read_image(tmp_path / "study")
    assert not any(choice.proposed for choice in caught.value.choices) and "likeliest" not in str(caught.value)


def test_more_kinds_of_pictures_are_read(tmp_path: Path) -> None:
    """Secondary capture, photographs, ultrasound: grey and colour, RGB and YBR."""
    random = np.random.default_rng(5)
    grey = random.integers(0, 255, (5, 6)).astype(np.uint8)
    colour = random.integers(0, 255, (5, 6, 3)).astype(np.uint8)
    one = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "RescaleSlope": None, "RescaleIntercept": None}
    gone = dict.fromkeys(("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SliceThickness"))
    kinds = {
        "OT": "1.2.840.10008.5.1.4.1.1.7",
        "XC": "1.2.840.10008.5.1.4.1.1.77.1.4",
        "ES": "1.2.840.10008.5.1.4.1.1.77.1.1",
        "OP": "1.2.840.10008.5.1.4.1.1.77.1.5.1",
        "US": "1.2.840.10008.5.1.4.1.1.6.1",
    }
    for modality, storage in kinds.items():
        common = {**one, **gone, "Modality": modality}
        plain = dataset_of(storage, **common, PixelData=grey.tobytes())
        assert np.array_equal(read_image(save(plain, tmp_path / f"{modality}.dcm")).array[0, 0], grey), modality
        rgb = dataset_of(
            storage,
            **common,
            SamplesPerPixel=3,
            PlanarConfiguration=0,
            PhotometricInterpretation="RGB",
            PixelData=colour.tobytes(),
        )
        image = read_image(save(rgb, tmp_path / f"{modality}_rgb.dcm"))
        assert np.array_equal(np.moveaxis(image.array[:, 0], 0, -1), colour) and image.meta["colour"] == "rgb"
        assert not image.physical
