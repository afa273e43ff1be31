"""The pixel values of one DICOM file, in the units its rescaling names (HU for CT)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.checks import brief

_LOSSLESS_DTYPES = tuple(np.dtype(code) for code in ("u1", "i2", "u2", "i4"))
_SMALL = 1 << 26


def read_pixels(dataset: Dataset, path: Path) -> np.ndarray:
    """``(C, H, W)`` of a single-frame data set: C = 3 for colour, else 1.

    Whole-number rescaling keeps an integer dtype (the smallest that holds every possible value: int16 for CT), any
    other gives float32. MONOCHROME1 is inverted, so that more is always brighter. Raises BadInputError where pixels are
    missing, or fewer than the header promises.
    """
    name = path.name
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None or syntax == DeflatedExplicitVRLittleEndian:
        raise BadInputError(
            f"{name} is stored in a transfer syntax that is not read; export it uncompressed or as JPEG 2000."
        )
    if "PixelData" not in dataset:
        raise BadInputError(f"{name} is truncated: its pixels are missing or break off; copy or export it again.")
    samples = int(dataset.get("SamplesPerPixel", 1) or 1)
    bits = int(dataset.get("BitsAllocated", 0) or 0)
    if bits not in (8, 16, 32):
        raise BadInputError(f"{name} stores {bits} bits a pixel; export it with 8, 16 or 32.")
    claimed = int(dataset.Rows) * int(dataset.Columns) * samples * (bits // 8)
    held = len(dataset.PixelData)
    photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    grey = samples == 1 and photometric in ("MONOCHROME1", "MONOCHROME2")
    if not syntax.is_compressed and held < claimed:
        raise BadInputError(
            f"{name} is truncated: {claimed:,} bytes of pixels are promised, {held:,} there; export it again."
        )
    if syntax.is_compressed and claimed > max(_SMALL, 1100 * held):
        raise BadInputError(
            f"{name} claims {claimed:,} bytes of pixels, which its {held:,} cannot hold; export it again."
        )
    if not grey:
        colours = _through_gdcm(path, colour=True)
        if colours is None:
            raise BadInputError(f"{name} has colours that cannot be decoded; export it uncompressed.")
        return colours
    slope, intercept = _rescale(dataset, name)
    low, high = _stored_range(dataset, name)
    if syntax.is_compressed:
        decoded = _through_gdcm(path, colour=False)  # rescaled by GDCM
        if decoded is None:
            decoded = _stored(dataset, name).astype(np.float64)[None] * slope + intercept
        values = decoded[0].astype(np.float64)
    else:
        values = _stored(dataset, name).astype(np.float64) * slope + intercept
    ends = sorted((low * slope + intercept, high * slope + intercept))
    if photometric == "MONOCHROME1":
        values = ends[0] + ends[1] - values
    return np.asarray(values.astype(_dtype(slope, intercept, ends))[None])


def _rescale(dataset: Dataset, name: str) -> tuple[float, float]:
    try:
        slope = float(dataset.get("RescaleSlope", 1) if dataset.get("RescaleSlope") is not None else 1)
        intercept = float(dataset.get("RescaleIntercept", 0) if dataset.get("RescaleIntercept") is not None else 0)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{name} has an unreadable rescaling in its header; export it again.") from error
    if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
        raise BadInputError(f"{name} rescales its pixels by {slope:g} and adds {intercept:g}; export it again.")
    return slope, intercept


def _stored_range(dataset: Dataset, name: str) -> tuple[int, int]:
    """The least and the largest stored value that the header allows."""
    bits = int(dataset.get("BitsStored", 0) or dataset.BitsAllocated)
    if not 1 <= bits <= int(dataset.BitsAllocated):
        raise BadInputError(f"{name} uses {bits} of {dataset.BitsAllocated} bits; export it again.")
    if int(dataset.get("PixelRepresentation", 0) or 0) == 1:
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1


def _stored(dataset: Dataset, name: str) -> np.ndarray:
    try:
        return np.asarray(dataset.pixel_array)
    except (ValueError, AttributeError, NotImplementedError, RuntimeError, KeyError) as error:
        raise BadInputError(f"{name} cannot be decoded ({brief(error)}); export it uncompressed.") from error


def _dtype(slope: float, intercept: float, ends: list[float]) -> np.dtype[np.generic]:
    if slope == int(slope) and intercept == int(intercept):
        for dtype in _LOSSLESS_DTYPES:
            if np.iinfo(dtype).min <= ends[0] and ends[1] <= np.iinfo(dtype).max:
                return dtype
    return np.dtype(np.float32)


def _through_gdcm(path: Path, colour: bool) -> np.ndarray | None:
    """Compressed and colour pixels ``(C, H, W)``, or None where GDCM cannot (some RLE, which pydicom can).

    GDCM (in SimpleITK) decodes every JPEG family, palettes and YBR; pydicom alone would need further packages.
    """
    import SimpleITK as sitk  # noqa: N813 - its usual name; imported late, it is large

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        array = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError:
        return None
    array = array.reshape(array.shape[-3:] if colour and array.shape[-1] == 3 else (*array.shape[-2:], 1))
    return np.ascontiguousarray(np.moveaxis(array, -1, 0))
