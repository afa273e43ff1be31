"""The pixel values of DICOM frames, in the units of their rescaling (HU for CT)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array
from pydicom.uid import RLELossless

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.checks import brief
from meduniseg_core.images.formats.dicom_codec import FrameDecoder
from meduniseg_core.images.formats.dicom_slices import Slice
from meduniseg_core.images.formats.dicom_source import naming, one_line, pixel_bytes, read_with_pixels

_LOSSLESS_DTYPES = tuple(np.dtype(code) for code in ("u1", "i2", "u2", "i4"))
_SMALL = 1 << 25
_RATIO = 256
"""Compressed pixels above ``_SMALL`` bytes cannot truly unpack to more than this many times their length."""
_LARGEST_FRAME = 100_000_000  # bytes; mammograms have some 40 million
_ROWS_AT_A_TIME = 1 << 20  # pixels
_MEASURED = frozenset({"CT", "MR", "PT", "NM"})
"""Modalities whose values are measurements: their polarity says how they are shown, not what was measured."""


def read_planes(slices: Sequence[Slice], decoder: FrameDecoder) -> list[np.ndarray]:
    """Read the pixels of frames.

    Rescaling by whole numbers keeps an integer dtype (the smallest that holds every possible value: int16 for CT); any
    other rescaling gives float32. Pictures in MONOCHROME1, or whose Presentation LUT Shape is INVERSE, are inverted, so
    that larger is always brighter; measurements (CT, MR, PET) stay what they are however they are shown.

    Args:
        slices: The frames.
        decoder: Decodes compressed frames.

    Returns:
        ``(C, H, W)`` for every frame, in their order: C = 3 for colour, else 1.

    Raises:
        BadInputError: Pixels are missing, fewer than the header promises, or stored in a way that cannot be decoded.
    """
    of_file: dict[Path, list[int]] = {}
    for place, item in enumerate(slices):
        of_file.setdefault(item.path, []).append(place)
    planes: dict[int, np.ndarray] = {}
    for path, places in of_file.items():
        with naming(path):
            dataset = read_with_pixels(path)
            if dataset is None:
                raise BadInputError(f"{path.name} changed while it was read; try again.")
            _check(dataset, path.name)
            packed = _packed_frames(dataset, path.name)
            for place in places:
                item = slices[place]
                stored = _frame(dataset, packed, item.frame or 0, decoder, path.name)
                planes[place] = _values(dataset, stored, item.rescale, path.name)
    return [planes[place] for place in range(len(slices))]


def stored_frames(dataset: Dataset, decoder: FrameDecoder, name: str) -> Iterator[np.ndarray]:
    """Give the stored values of all frames of an object, one after the other.

    Args:
        dataset: The object with its pixels, grey.
        decoder: Decodes compressed frames.
        name: The file's name, for messages.

    Yields:
        ``(H, W)`` for every frame.

    Raises:
        BadInputError: See `read_planes`.
    """
    _check(dataset, name)
    packed = _packed_frames(dataset, name)
    for index in range(_frames(dataset)):
        yield _frame(dataset, packed, index, decoder, name)


def _check(dataset: Dataset, name: str) -> None:
    """Sizes and lengths before anything is decoded; elements that are often missing get their defaults."""
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise BadInputError(
            f"{name} stores floating-point pixels (a parametric map, say), which are not read; convert it to NIfTI."
        )
    if "PixelData" not in dataset:
        raise BadInputError(f"{name} is truncated: its pixels are missing or break off; copy or export it again.")
    bits = int(dataset.get("BitsAllocated") or 0)
    if bits not in (8, 16, 32):
        raise BadInputError(f"{name} stores {bits} bits a pixel; export it with 8, 16 or 32.")
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_transfer_syntax or syntax.keyword.startswith(("MPEG", "HEVC", "SMPTE", "JPIP")):
        raise BadInputError(
            f"{name} is stored in a transfer syntax that is not read ({one_line(syntax.name)}); export it uncompressed "
            "or as JPEG 2000."
        )
    samples = int(dataset.get("SamplesPerPixel") or 1)
    if samples not in (1, 3):
        raise BadInputError(f"{name} has {samples} values a pixel; export it as grey or RGB.")
    defaults = {
        "SamplesPerPixel": samples,
        "PhotometricInterpretation": "MONOCHROME2" if samples == 1 else "RGB",
        "BitsStored": bits,
        "PixelRepresentation": 0,
        "PlanarConfiguration": 0,
    }
    for keyword, value in defaults.items():
        if dataset.get(keyword) in (None, ""):
            setattr(dataset, keyword, value)
    if not 1 <= int(dataset.BitsStored) <= bits:
        raise BadInputError(f"{name} uses {dataset.BitsStored} of {bits} bits; export it again.")
    if dataset.get("HighBit") in (None, ""):
        dataset.HighBit = int(dataset.BitsStored) - 1
    claimed, held = pixel_bytes(dataset), len(dataset.PixelData)
    if not syntax.is_compressed:
        if str(dataset.PhotometricInterpretation) == "YBR_FULL_422":
            claimed = claimed * 2 // 3
        if held < claimed:
            raise BadInputError(
                f"{name} is truncated: {claimed:,} bytes of pixels are promised, {held:,} there; export it again."
            )
    elif claimed > max(_SMALL, _RATIO * held) or claimed // _frames(dataset) > _LARGEST_FRAME:
        raise BadInputError(
            f"{name} claims {claimed:,} bytes of pixels, which its {held:,} cannot hold; export it again."
        )


def _packed_frames(dataset: Dataset, name: str) -> list[bytes] | None:
    """The compressed frames, or None where the pixels are not compressed."""
    if not dataset.file_meta.TransferSyntaxUID.is_compressed:
        return None
    frames = _frames(dataset)
    offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    extended = (offsets[0], offsets[1]) if offsets[0] and offsets[1] else None
    packed = list(generate_frames(dataset.PixelData, number_of_frames=frames, extended_offsets=extended))
    if len(packed) < frames or not all(packed[:frames]):
        raise BadInputError(
            f"{name} is truncated: {frames} compressed frames are promised, {sum(map(bool, packed))} there; "
            "export it again."
        )
    return packed


def _frame(dataset: Dataset, packed: list[bytes] | None, index: int, decoder: FrameDecoder, name: str) -> np.ndarray:
    """Stored values ``(H, W)`` or colours ``(H, W, 3)``."""
    grey = _is_grey(dataset)
    if packed is None and (grey or str(dataset.PhotometricInterpretation) == "RGB"):
        return _through_pydicom(dataset, index, name)
    frame = packed[index] if packed is not None else _native_frame(dataset, index)
    decoded = decoder.decode(dataset, frame, not grey, name)
    palette = str(dataset.PhotometricInterpretation).startswith("PALETTE")
    if decoded is None and dataset.file_meta.TransferSyntaxUID == RLELossless and not palette:
        return _through_pydicom(dataset, index, name)
    if decoded is None:
        raise BadInputError(f"{name} has pixels that cannot be decoded; export it uncompressed.")
    return decoded


def _frames(dataset: Dataset) -> int:
    return max(int(dataset.get("NumberOfFrames") or 1), 1)


def _native_frame(dataset: Dataset, index: int) -> bytes:
    frames = _frames(dataset)
    size = len(dataset.PixelData) // frames
    if str(dataset.PhotometricInterpretation) != "YBR_FULL_422":
        size = pixel_bytes(dataset) // frames
    return bytes(dataset.PixelData[index * size : (index + 1) * size])


def _is_grey(dataset: Dataset) -> bool:
    return int(dataset.SamplesPerPixel) == 1 and str(dataset.PhotometricInterpretation).startswith("MONOCHROME")


def _through_pydicom(dataset: Dataset, index: int, name: str) -> np.ndarray:
    try:
        array = np.asarray(pixel_array(dataset, index=index))  # YBR becomes RGB
    except (ValueError, AttributeError, NotImplementedError, RuntimeError, KeyError) as error:
        if dataset.file_meta.TransferSyntaxUID == RLELossless:  # run lengths have no mark at their end
            raise BadInputError(
                f"{name} is damaged or truncated: its run lengths do not give {dataset.Rows}x{dataset.Columns} pixels; "
                "copy or export it again."
            ) from error
        raise BadInputError(f"{name} cannot be decoded ({brief(error)}); export it uncompressed.") from error
    shape = (int(dataset.Rows), int(dataset.Columns))
    return array.reshape(shape if int(dataset.SamplesPerPixel) == 1 else (*shape, 3))


def _values(dataset: Dataset, stored: np.ndarray, rescale: tuple[float, float] | None, name: str) -> np.ndarray:
    if stored.ndim == 3:
        return np.ascontiguousarray(np.moveaxis(stored, -1, 0))
    slope, intercept = (1.0, 0.0) if rescale is None else rescale
    measured = str(dataset.get("Modality", "")) in _MEASURED
    padding = None if measured else _padding(dataset, stored)
    low, high = _stored_range(dataset)
    if rescale is None and dataset.get("ModalityLUTSequence"):  # stands in place of slope and intercept
        stored, (low, high) = _through_table(dataset, stored, name)
    # values beyond the stated bits (overlays, wrong headers) are kept, not wrapped round
    low, high = min(low, int(stored.min())), max(high, int(stored.max()))
    ends = sorted((low * slope + intercept, high * slope + intercept))
    values = np.empty(stored.shape, dtype=_dtype(slope, intercept, ends))
    shape = str(dataset.get("PresentationLUTShape") or "")  # says it in another way
    inverted = (str(dataset.PhotometricInterpretation) == "MONOCHROME1" or shape == "INVERSE") and not measured
    rows = max(1, _ROWS_AT_A_TIME // stored.shape[1])
    for first in range(0, stored.shape[0], rows):
        block = stored[first : first + rows].astype(np.float64) * slope + intercept
        values[first : first + rows] = ends[0] + ends[1] - block if inverted else block
    if padding is not None:
        values[padding] = values[~padding].min()
    return values[None]


def _padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Where a grey frame shows nothing, by its Pixel Padding Value (PS3.3 C.7.5.1.1.2); None where all is image.

    Such pixels are black on a screen whatever their value, also where small values mean white.
    """
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if not isinstance(value, int):
        return None
    low, high = sorted((value, limit if isinstance(limit, int) else value))
    found = (stored >= low) & (stored <= high)
    return found if found.any() and not found.all() else None


def _through_table(dataset: Dataset, stored: np.ndarray, name: str) -> tuple[np.ndarray, tuple[int, int]]:
    """What the file's table (Modality LUT) gives for the stored values, and the range of what it can give."""
    item = dataset.ModalityLUTSequence[0]
    count, first, bits = (int(value) for value in item.LUTDescriptor)
    count = count or 1 << 16
    data = item.get("LUTData") or b""
    word = np.dtype("<u2" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">u2")
    table = np.frombuffer(data, word) if isinstance(data, bytes) else np.asarray(data, word).reshape(-1)
    if bits == 8 and table.size < count:  # two to a word
        table = table.view(np.uint8)
    if not 1 <= bits <= 16 or table.size < count:
        raise BadInputError(f"{name} has an invalid table of values (Modality LUT); export it again.")
    if int(dataset.PixelRepresentation) == 1 and first >= 1 << 15:
        first -= 1 << 16
    places = np.clip(stored.astype(np.int64) - first, 0, count - 1)
    return table[:count].astype(np.uint16)[places], (0, (1 << bits) - 1)


def _stored_range(dataset: Dataset) -> tuple[int, int]:
    """The least and the largest stored value that the header allows."""
    bits = int(dataset.BitsStored)
    if int(dataset.PixelRepresentation) == 1:
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1


def _dtype(slope: float, intercept: float, ends: Sequence[float]) -> np.dtype[np.generic]:
    if math.isfinite(sum(ends)) and slope == int(slope) and intercept == int(intercept):
        for dtype in _LOSSLESS_DTYPES:
            if np.iinfo(dtype).min <= ends[0] and ends[1] <= np.iinfo(dtype).max:
                return dtype
    return np.dtype(np.float32)
