"""Pixels that are not square where no size in mm is used: shapes are wrong on the network's grid, and that is said."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from dicom_making import dataset_of, save
from PIL import Image as PillowImage
from PIL import TiffImagePlugin
from pydicom.uid import SecondaryCaptureImageStorage, UltrasoundImageStorage

from meduniseg_core.images import Image, read_image, read_labels

ROWS = np.random.default_rng(0).integers(0, 255, (6, 8), dtype=np.uint8)


def said(image: Image) -> list[str]:
    return [finding.text for finding in image.findings if finding.code == "pixels_not_square"]


def picture(path: Path, across: float, down: float, **options: Any) -> Path:
    PillowImage.fromarray(ROWS).save(path, dpi=(across, down), **options)
    return path


def png_without_a_unit(path: Path, across: int, down: int) -> Path:
    content = picture(path, 75, 75).read_bytes()
    at = content.index(b"pHYs")
    chunk = b"pHYs" + struct.pack(">IIB", across, down, 0)
    path.write_bytes(content[:at] + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[at + len(chunk) + 4 :])
    return path


def jpeg_without_a_unit(path: Path, across: int, down: int) -> Path:
    content = bytearray(picture(path, across, down).read_bytes())
    content[content.index(b"JFIF\0") + 7] = 0  # the densities are now a ratio
    path.write_bytes(content)
    return path


def jpeg_of_a_camera(path: Path, across: int, down: int) -> Path:
    """EXIF alone, as cameras write it: without JFIF's header."""
    exif = PillowImage.Exif()
    exif[0x011A], exif[0x011B] = (TiffImagePlugin.IFDRational(value) for value in (across, down))
    PillowImage.fromarray(ROWS).save(path, exif=exif)
    content = path.read_bytes()
    at = content.index(b"\xff\xe0")
    path.write_bytes(content[:at] + content[at + 2 + int.from_bytes(content[at + 2 : at + 4], "big") :])
    return path


def tiff(path: Path, across: int, down: int, **options: Any) -> Path:
    tifffile.imwrite(path, ROWS, resolution=(across, down), **options)
    return path


def secondary_capture(path: Path, vertical: int, horizontal: int, kind: str = SecondaryCaptureImageStorage) -> Path:
    dataset = dataset_of(kind, Modality="US")
    for keyword in ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"):
        delattr(dataset, keyword)
    dataset.PixelAspectRatio = [vertical, horizontal]
    return save(dataset, path)


MAKERS = {
    "dpi.png": lambda path, *ratio: picture(path, *ratio),
    "ratio.png": png_without_a_unit,
    "dpi.bmp": lambda path, *ratio: picture(path, *ratio),
    "dpi.jpg": lambda path, *ratio: picture(path, *ratio),
    "ratio.jpg": jpeg_without_a_unit,
    "exif.jpg": jpeg_of_a_camera,
    "dpi.tif": tiff,
    "ratio.tif": lambda path, *ratio: tiff(path, *ratio, resolutionunit=1),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_header_that_says_so_is_a_finding(name: str, tmp_path: Path) -> None:
    wide = read_image(MAKERS[name](tmp_path / name, 75, 150))  # half as many pixels per inch across as down
    assert ["2 times as wide as high" in text and name in text for text in said(wide)] == [True]
    high = read_image(MAKERS[name](tmp_path / name, 160, 100))
    assert ["1.6 times as high as wide" in text for text in said(high)] == [True]
    assert not high.physical


@pytest.mark.parametrize("name", MAKERS)
def test_square_pixels_are_not_talked_about(name: str, tmp_path: Path) -> None:
    assert said(read_image(MAKERS[name](tmp_path / name, 96, 96))) == []
    assert said(read_image(MAKERS[name](tmp_path / name, 118, 119))) == []  # rounded to whole numbers


def test_a_resolution_that_is_none_says_nothing(tmp_path: Path) -> None:
    assert said(read_image(png_without_a_unit(tmp_path / "zero.png", 0, 3))) == []
    assert said(read_image(tiff(tmp_path / "zero.tif", 0, 3))) == []


def test_labels_are_not_talked_about(tmp_path: Path) -> None:
    assert read_labels(picture(tmp_path / "mask.png", 75, 150)).findings == ()


@pytest.mark.parametrize("kind", [SecondaryCaptureImageStorage, UltrasoundImageStorage])
def test_dicom_says_the_ratio_where_there_is_no_size(kind: str, tmp_path: Path) -> None:
    image = read_image(secondary_capture(tmp_path / "shot.dcm", 6, 5, kind))
    assert not image.physical
    assert ["1.2 times as high as wide" in text for text in said(image)] == [True]
    assert said(read_image(secondary_capture(tmp_path / "even.dcm", 1, 1, kind))) == []


def test_a_size_in_mm_speaks_for_itself(tmp_path: Path) -> None:
    size = {"axes": "YX", "unit": "mm"}
    path = tmp_path / "sized.tif"
    tifffile.imwrite(path, ROWS, imagej=True, resolution=(5, 10), metadata=size)
    image = read_image(path)
    assert image.physical
    assert image.geometry.spacing[1:] == pytest.approx((0.1, 0.2))
    assert said(image) == []
