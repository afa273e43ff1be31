"""Compressed DICOM from a real CT slice: lossless is voxel-identical, lossy keeps its range, a cut stream is refused.

JPEG-LS is encoded by pyjpegls, RLE by pydicom, JPEG 2000 by Pillow, lossless JPEG by GDCM. All but the last are
independent of what decodes here.
"""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from PIL import Image as PillowImage
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import read_image

AIR, PADDING = -1024, -2000
NEAR = 3  # the most that a value of near-lossless JPEG-LS may be off


@pytest.fixture(scope="module")
def source(shared_data: Path) -> FileDataset:
    """A slice in the middle of the abdomen, as the scanner's archive packed it: JPEG 2000, 12 bits, unsigned."""
    files = sorted((shared_data / "Dataset301_Geometry" / "ct_dicom_series").iterdir())
    dataset = pydicom.dcmread(files[len(files) // 2])
    assert dataset.file_meta.TransferSyntaxUID == JPEG2000Lossless and dataset.BitsStored == 12
    return dataset


@pytest.fixture(scope="module")
def hounsfield(source: FileDataset) -> np.ndarray:
    """Its values by another decoder (Pillow, which scales 12 bits to 16)."""
    frame = next(generate_frames(source.PixelData, number_of_frames=1))
    values: np.ndarray = (np.asarray(PillowImage.open(io.BytesIO(frame))) >> 4).astype(np.int32) + AIR
    assert (values.min(), values.max() > 500, len(np.unique(values)) > 1000) == (AIR, True, True)
    return values


def stored_as(source: FileDataset, values: np.ndarray, signed: bool, bits: int) -> FileDataset:
    """The slice uncompressed: signed as it is (a scanner's padding in a corner), or unsigned from -1024."""
    dataset = copy.deepcopy(source)
    dataset.PixelRepresentation, dataset.RescaleIntercept = int(signed), 0 if signed else AIR
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stored = values.astype(np.int16) if signed else (values - AIR).astype(np.uint16)
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OW", False
    return dataset


def repacked(dataset: FileDataset, frame: bytes, syntax: str) -> FileDataset:
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def by_pydicom(syntax: str, **options: Any) -> Callable[[FileDataset], FileDataset]:
    def pack(dataset: FileDataset) -> FileDataset:
        if syntax != RLELossless:
            pytest.importorskip("jpeg_ls", reason="no encoder of JPEG-LS (pyjpegls) is installed")
        dataset.compress(syntax, **options)
        return dataset

    return pack


def by_pillow(syntax: str, **options: Any) -> Callable[[FileDataset], FileDataset]:
    def pack(dataset: FileDataset) -> FileDataset:
        values = np.frombuffer(dataset.PixelData, np.uint16).reshape(dataset.Rows, dataset.Columns)
        buffer = io.BytesIO()
        signed = bool(dataset.PixelRepresentation)
        PillowImage.fromarray(values).save(buffer, "JPEG2000", no_jp2=True, signed=signed, **options)
        return repacked(dataset, buffer.getvalue(), syntax)

    return pack


def by_gdcm(dataset: FileDataset) -> FileDataset:
    kind = np.int16 if dataset.PixelRepresentation else np.uint16
    values = np.frombuffer(dataset.PixelData, kind).reshape(dataset.Rows, dataset.Columns)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG")
    writer.SetFileName("by_gdcm.dcm")  # in the test's folder
    writer.Execute(sitk.GetImageFromArray(values))
    made = pydicom.dcmread("by_gdcm.dcm")
    assert made.file_meta.TransferSyntaxUID == JPEGLosslessSV1
    return repacked(dataset, next(generate_frames(made.PixelData, number_of_frames=1)), JPEGLosslessSV1)


# how it is packed, the bits that its encoder takes for unsigned values, how far a value may be off
PACKINGS: dict[str, tuple[Callable[[FileDataset], FileDataset], int, int]] = {
    "JPEG-LS": (by_pydicom(JPEGLSLossless), 12, 0),
    "JPEG-LS near-lossless": (by_pydicom(JPEGLSNearLossless, jls_error=NEAR), 12, NEAR),
    "RLE": (by_pydicom(RLELossless), 12, 0),
    "JPEG lossless": (by_gdcm, 16, 0),
    "JPEG 2000": (by_pillow(JPEG2000Lossless), 16, 0),
    "JPEG 2000 lossy": (by_pillow(JPEG2000, irreversible=True, quality_mode="rates", quality_layers=[10]), 16, 60),
}


@pytest.mark.real
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("packing", PACKINGS)
def test_a_compressed_slice_has_the_values_of_the_plain_one(
    packing: str,
    signed: bool,
    source: FileDataset,
    hounsfield: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    pack, bits, most = PACKINGS[packing]
    values = hounsfield.copy()
    if signed:
        values[:40, :40] = PADDING
    plain = stored_as(source, values, signed, 16 if signed else bits)
    plain.save_as(tmp_path / "plain.dcm")
    read = read_image(tmp_path / "plain.dcm")
    assert np.array_equal(read.array[0, 0], values)

    packed = pack(plain)
    path = tmp_path / "packed.dcm"
    packed.save_as(path)
    image = read_image(path)
    off = np.abs(image.array[0, 0].astype(np.int32) - values)
    assert off.max() <= most and off.mean() <= most * 0.6
    assert image.geometry == read.geometry and image.array.dtype == read.array.dtype
    if most:
        assert packed.file_meta.TransferSyntaxUID in (JPEGLSNearLossless, JPEG2000) and off.any()

    frame = next(generate_frames(packed.PixelData, number_of_frames=1))
    for part in (0.1, 0.6, 0.98):
        cut = repacked(packed, frame[: int(len(frame) * part) // 2 * 2], packed.file_meta.TransferSyntaxUID)
        cut.save_as(path)
        with pytest.raises(BadInputError) as caught:
            read_image(path)
        said = str(caught.value)
        assert re.fullmatch(r"packed\.dcm is (damaged or )?truncated: [^:\n]+; copy or export it again\.", said), said


@pytest.mark.real
def test_the_archives_own_stream_is_read_by_two_decoders_alike(
    source: FileDataset, hounsfield: np.ndarray, tmp_path: Path
) -> None:
    source.save_as(tmp_path / "own.dcm")
    image = read_image(tmp_path / "own.dcm")
    assert np.array_equal(image.array[0, 0], hounsfield) and image.array.dtype == np.int16
