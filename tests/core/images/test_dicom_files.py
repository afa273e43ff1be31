"""DICOM folders: found by content, sorted by position, refused where slices are missing or mixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from dicom_making import COLUMNS, ROWS, write_slice, write_stack
from pydicom.uid import generate_uid

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import find_cases, read_image, write_labels
from meduniseg_core.images.resample_grid import resample_to_orthonormal


def test_slices_are_sorted_by_position_and_in_hounsfield_units(tmp_path: Path) -> None:
    folder = write_stack(tmp_path / "ct", [6.0, 0.0, 3.0, 9.0])
    (folder / "readme.txt").write_text("not an image")
    (folder / ".hidden").write_bytes(b"\0" * 200)
    image = read_image(folder)
    assert image.array.shape == (1, 4, ROWS, COLUMNS)
    assert image.array.dtype == np.int16
    assert image.array[0, :, 0, 0].tolist() == [-1024, -994, -964, -934]
    assert image.geometry.spacing == (3.0, 0.8, 0.6)
    assert image.geometry.origin == (-100.5, -50.25, 0.0)
    assert image.physical
    assert image.meta["series_description"] == "Thorax"


def test_labels_of_a_series_open_on_its_grid_in_simpleitk(tmp_path: Path) -> None:
    folder = write_stack(tmp_path / "ct", [0.0, 3.0, 6.0], ImageOrientationPatient=[0.8, 0.6, 0, -0.6, 0.8, 0])
    image = read_image(folder)
    write_labels(image.with_array((image.array > -1000).astype(np.uint8)), tmp_path / "l.nii.gz", like=image)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    source, labels = reader.Execute(), sitk.ReadImage(str(tmp_path / "l.nii.gz"))
    np.testing.assert_allclose(labels.GetOrigin(), source.GetOrigin(), atol=1e-5)
    np.testing.assert_allclose(labels.GetSpacing(), source.GetSpacing(), atol=1e-5)
    np.testing.assert_allclose(labels.GetDirection(), source.GetDirection(), atol=1e-5)
    assert np.array_equal(sitk.GetArrayFromImage(labels), sitk.GetArrayFromImage(source) > -1000)


def test_several_series_are_named_and_one_can_be_picked(tmp_path: Path) -> None:
    other = generate_uid()
    folder = write_stack(tmp_path / "ct", [0.0, 3.0, 6.0])
    for number in range(2):
        write_slice(
            folder, f"x{number}", (0, 0, number), 7, SeriesInstanceUID=other, SeriesDescription="Lung", SeriesNumber=5
        )
    with pytest.raises(BadInputError, match=r"holds 2 series .*'Thorax', 3 images.*'Lung', 2 images.*--series"):
        read_image(folder)
    for pick in (other, "5", "Lung", "#2"):
        assert read_image(folder, series=pick).geometry.shape[0] == 2
    assert read_image(folder, series="Thorax").geometry.shape[0] == 3
    with pytest.raises(BadInputError, match="holds no series 'Liver'"):
        read_image(folder, series="Liver")


def test_a_localiser_within_the_series_counts_as_a_series_of_its_own(tmp_path: Path) -> None:
    folder = write_stack(tmp_path / "ct", [0.0, 3.0])
    write_slice(folder, "scout", (0, 0, 0), ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    with pytest.raises(BadInputError, match="holds 2 series"):
        read_image(folder)


@pytest.mark.parametrize(
    ("heights", "reason"),
    [
        ([0, 3, 6, 12, 15], r"misses about 1 slice\(s\): 6 mm lie between"),
        ([0, 3, 12, 15, 18], r"misses about 2 slice\(s\)"),
        ([0, 3, 6.9, 9, 12], "unevenly spaced"),
        ([0, 3, 3, 6], "several slices at one place"),
        ([0, 3, 6, 0, 3, 6], "several slices at one place"),
    ],
)
def test_stacks_that_are_no_grid_are_refused(heights: list[float], reason: str, tmp_path: Path) -> None:
    folder = write_stack(tmp_path / "bad", [float(height) for height in heights])
    with pytest.raises(BadInputError, match=rf"bad .*{reason}"):
        read_image(folder)


def test_rounded_positions_are_no_reason_to_refuse(tmp_path: Path) -> None:
    image = read_image(write_stack(tmp_path / "ct", [0.0, 1.3, 2.5, 3.8, 5.0]))
    assert image.geometry.spacing[0] == pytest.approx(1.25)


def test_a_tilted_gantry_gives_a_sheared_grid_that_can_be_straightened(tmp_path: Path) -> None:
    image = read_image(write_stack(tmp_path / "ct", [0.0, 3.0, 6.0, 9.0], shift=0.3))
    assert image.meta["sheared"]
    np.testing.assert_allclose(image.geometry.affine @ [3, 0, 0, 1], [-100.5, -50.25 + 2.7, 9, 1], atol=1e-9)
    straight, resampled = resample_to_orthonormal(image)
    assert resampled
    assert straight.geometry.is_orthonormal(1e-9)


def test_scaling_that_differs_between_slices_gives_float32(tmp_path: Path) -> None:
    folder = tmp_path / "pet"
    write_slice(folder, "a", (0, 0, 0), RescaleSlope="0.5", RescaleIntercept="0")
    write_slice(folder, "b", (0, 0, 3), RescaleSlope="0.25", RescaleIntercept="0")
    image = read_image(folder)
    assert image.array.dtype == np.float32
    np.testing.assert_array_equal(image.array[0, :, 0, 2], [1.0, 0.5])


def test_a_single_xray_is_read_with_its_polarity(tmp_path: Path) -> None:
    path = write_slice(
        tmp_path,
        "x.dcm",
        (0, 0, 0),
        Modality="DX",
        PhotometricInterpretation="MONOCHROME1",
        RescaleIntercept=0,
        ImageOrientationPatient=None,
        ImagePositionPatient=None,
        PixelSpacing=None,
        ImagerPixelSpacing=[0.2, 0.1],
    )
    image = read_image(path)
    assert image.array.shape == (1, 1, ROWS, COLUMNS)
    assert image.array[0, 0, 0, :3].tolist() == [4095, 4094, 4093]
    assert image.geometry.spacing[1:] == (0.2, 0.1)
    no_size = write_slice(tmp_path, "y.dcm", (0, 0, 0), PixelSpacing=None, ImageOrientationPatient=None)
    assert not read_image(no_size).physical


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_measurements_stay_what_they_are_however_they_are_shown(modality: str, tmp_path: Path) -> None:
    write_stack(tmp_path / "usual", [0, 3, 6], Modality=modality)
    write_stack(tmp_path / "inverse", [0, 3, 6], Modality=modality, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(read_image(tmp_path / "inverse").array, read_image(tmp_path / "usual").array)


def test_floating_point_pixels_are_called_that(tmp_path: Path) -> None:
    floats = np.zeros((ROWS, COLUMNS), np.float32).tobytes()
    path = write_slice(tmp_path, "map.dcm", (0, 0, 0), BitsAllocated=32, PixelData=None, FloatPixelData=floats)
    with pytest.raises(BadInputError, match="floating-point pixels"):
        read_image(path)


def test_a_colour_picture_has_three_channels(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (ROWS, COLUMNS, 3), dtype=np.uint8)
    path = write_slice(
        tmp_path,
        "rgb.dcm",
        (0, 0, 0),
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        PhotometricInterpretation="RGB",
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        RescaleSlope=None,
        RescaleIntercept=None,
        PixelData=rgb.tobytes(),
    )
    image = read_image(path)
    assert np.array_equal(image.array[:, 0], np.moveaxis(rgb, -1, 0))
    assert image.meta["colour"] == "rgb"


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_truncated_slice_is_named(keep: float, tmp_path: Path) -> None:
    folder = write_stack(tmp_path / "ct", [0.0, 3.0])
    damaged = next(iter(sorted(folder.iterdir())))
    damaged.write_bytes(damaged.read_bytes()[: int(damaged.stat().st_size * keep)])
    with pytest.raises(BadInputError, match=rf"{damaged.name} is truncated"):
        read_image(folder)


def test_an_empty_slice_is_named_and_a_report_passed_over(tmp_path: Path) -> None:
    folder = write_stack(tmp_path / "ct", [0.0, 3.0])
    report = pydicom.dcmread(write_slice(folder, "report", (0, 0, 0), Rows=None, Columns=None, PixelData=None))
    report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID = pydicom.uid.BasicTextSRStorage
    report.save_as(folder / "report")
    assert read_image(folder).geometry.shape[0] == 2
    (folder / "empty").touch()
    with pytest.raises(BadInputError, match="empty is empty"):
        read_image(folder)


def test_pixels_that_cannot_be_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"big\.dcm is truncated: 8,589,672,450 bytes"):
        read_image(write_slice(tmp_path, "big.dcm", (0, 0, 0), Rows=65535, Columns=65535))
    with pytest.raises(BadInputError, match=r"f\.dcm is truncated: 720 bytes of pixels are promised, 60 there"):
        read_image(write_slice(tmp_path, "f.dcm", (0, 0, 0), NumberOfFrames=12))
    with pytest.raises(BadInputError, match="pixel size of 0"):
        read_image(write_slice(tmp_path, "z.dcm", (0, 0, 0), PixelSpacing=[0, 1]))
    with pytest.raises(BadInputError, match="impossible orientation"):
        read_image(write_slice(tmp_path, "o.dcm", (0, 0, 0), ImageOrientationPatient=[1, 0, 0, 1, 0, 0]))
    (tmp_path / "t.dcm").write_text("hello")
    with pytest.raises(BadInputError, match=r"t\.dcm is not a DICOM image"):
        read_image(tmp_path / "t.dcm")


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="holds no DICOM images"):
        read_image(tmp_path)


def test_a_folder_of_dicom_is_one_case(tmp_path: Path) -> None:
    folder = write_stack(tmp_path / "patient1", [0.0, 3.0])
    assert find_cases(folder) == {"patient1": (folder,)}
    assert find_cases(tmp_path) == {"patient1": (folder,)}


def test_compressed_slices_equal_uncompressed_ones(tmp_path: Path) -> None:
    plain = write_slice(tmp_path, "p.dcm", (0, 0, 0))
    dataset = pydicom.dcmread(plain)
    dataset.compress(pydicom.uid.RLELossless)
    dataset.save_as(tmp_path / "r.dcm")
    first, second = read_image(plain), read_image(tmp_path / "r.dcm")
    assert first.array.dtype == second.array.dtype == np.int16
    assert np.array_equal(first.array, second.array)


def test_flipped_bytes_and_cuts_never_raise_anything_else(tmp_path: Path) -> None:
    raw = write_slice(tmp_path, "x.dcm", (0, 0, 0)).read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for trial in range(300):
        damaged = bytearray(raw)
        for place in random.integers(132, len(raw), 1 + trial % 4):
            damaged[place] = int(random.integers(0, 256))
        if trial % 5 == 0:
            damaged = damaged[: int(random.integers(0, len(raw)))]
        (tmp_path / "x.dcm").write_bytes(damaged)
        try:
            image = read_image(tmp_path / "x.dcm")
        except BadInputError as error:
            refused += 1
            assert "x.dcm" in str(error)
        else:
            assert np.isfinite(image.geometry.affine).all()
    assert refused > 50


@pytest.mark.parametrize(("interpretation", "value"), [("MONOCHROME1", 0), ("MONOCHROME2", 4000)])
def test_padding_of_a_film_is_black_whatever_its_value(interpretation: str, value: int, tmp_path: Path) -> None:
    path = write_slice(tmp_path, "x.dcm", (0, 0, 0), Modality="DX", PhotometricInterpretation=interpretation)
    film = pydicom.dcmread(path)
    film.PixelRepresentation = 0
    pixels = np.arange(100, 100 + film.Rows * film.Columns, dtype=np.uint16).reshape(film.Rows, film.Columns)
    plain = pixels.copy()
    pixels[:, 0] = value
    read = {}
    for name, stored in (("plain", plain), ("padded", pixels)):
        film.PixelData = stored.tobytes()
        film.add_new("PixelPaddingValue", "US", value)
        film.save_as(tmp_path / f"{name}.dcm")
        read[name] = read_image(tmp_path / f"{name}.dcm").array[0, 0]
    assert np.array_equal(read["padded"][:, 1:], read["plain"][:, 1:])
    assert (read["padded"][:, 0] == read["plain"][:, 1:].min()).all()
