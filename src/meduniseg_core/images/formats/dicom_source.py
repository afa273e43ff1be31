"""Opening DICOM files: recognised by content, read in bounded pieces, with errors that name the file."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.values import converters

from meduniseg_core.errors import BadInputError, MedUniSegError
from meduniseg_core.files import open_regular
from meduniseg_core.images.checks import brief
from meduniseg_core.images.formats.raw_data import Bounded

VOLUME_MARKS = (
    *("TemporalPositionIdentifier", "TemporalPositionIndex", "NominalPercentageOfCardiacPhase", "TriggerTime"),
    *("FrameReferenceTime", "DiffusionBValue", "EchoTime", "EchoNumbers", "InversionTime", "FlipAngle"),
    *("RepetitionTime", "ImageType", "AcquisitionNumber", "AcquisitionTime", "ContentTime", "InstanceNumber"),
)
"""Elements that can tell slices at one place apart (time points, phases, echoes), the most distinctive first."""

HEADER = (
    *("SOPClassUID", "SOPInstanceUID", "ImageType", "Modality", "PatientID", "SpecificCharacterSet"),
    *("SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "InstanceNumber", "ConcatenationUID"),
    *("StudyInstanceUID", "FrameOfReferenceUID", "StudyDate", "SeriesDate"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept"),
    *("ImageOrientationPatient", "ImagePositionPatient", "SliceLocation", "SliceThickness", "SpacingBetweenSlices"),
    *("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelSpacingCalibrationType"),
    "PixelAspectRatio",
    *("SequenceOfUltrasoundRegions", "FrameTime", "FrameTimeVector", "FrameIncrementPointer", "CineRate"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", *VOLUME_MARKS),
)
"""The elements that are read to place a file's frames; all others stay unread."""

_PIXELS = (
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor"),
    *("BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData"),
    *("SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData"),
    "SegmentedBluePaletteColorLookupTableData",
    *("ModalityLUTSequence", "PresentationLUTShape", "PixelPaddingValue", "PixelPaddingRangeLimit"),
)
_HEADER_TAGS = [Tag(keyword) for keyword in HEADER]
_PIXEL_TAGS = [*_HEADER_TAGS, *(Tag(keyword) for keyword in _PIXELS)]
_PIXEL_GROUP = 0x7FE00000
_MARK = 132  # bytes up to the end of DICM
_FIRST_GROUPS = (0x0002, 0x0008)
_DEFLATED_HEADER = 1 << 23  # how much of a deflated file is unpacked to read its header
_DEFLATED_RATIO = 64  # real images pack far less


def is_dicom(path: Path) -> bool:
    """Say whether a file is DICOM by its content.

    Args:
        path: The file.

    Returns:
        True where it has DICM at byte 128, or begins with a data set's first element.

    Raises:
        BadInputError: The file cannot be opened.
    """
    with open_regular(path) as stream:
        return _looks_like_dicom(stream.read(_MARK), path.stat().st_size)


def read_header(path: Path) -> Dataset | None:
    """Read the elements of `HEADER` that a file has.

    Args:
        path: The file.

    Returns:
        The elements; None where the file is not DICOM.

    Raises:
        BadInputError: The file is damaged.
    """
    return _read(path, _HEADER_TAGS, pixels=False)


def read_with_pixels(path: Path) -> Dataset | None:
    """Read a file's header and pixel data.

    Args:
        path: The file.

    Returns:
        The elements, always with ``file_meta.TransferSyntaxUID``; None where the file is not DICOM.

    Raises:
        BadInputError: The file is damaged.
    """
    return _with_syntax(_read(path, _PIXEL_TAGS, pixels=True))


def read_object(path: Path) -> Dataset:
    """Read all elements of a file (a segmentation, contours, the header of a PET slice), with its pixels.

    Args:
        path: The file.

    Returns:
        The elements.

    Raises:
        BadInputError: The file is not DICOM, or damaged.
    """
    dataset = _with_syntax(_read(path, None, pixels=True))
    if dataset is None:
        raise BadInputError(f"{path.name} is not a DICOM file; convert it or pass another file.")
    return dataset


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn whatever pydicom raises into an error that names the file. It interprets elements only when they are used.

    Its warnings about values outside the standard, of which real files are full, are dropped.

    Args:
        path: The file.

    Yields:
        Nothing.

    Raises:
        BadInputError: The file is damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (MedUniSegError, MemoryError):
            raise
        except Exception as error:  # a parser of foreign bytes fails in every way that Python has
            reason = one_line(brief(error))
            raise BadInputError(f"{path.name} is truncated or damaged ({reason}); copy it again.") from error


def _with_syntax(dataset: Dataset | None) -> Dataset | None:
    """The data set, which names its transfer syntax afterwards."""
    if dataset is not None and "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        uncompressed = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else uncompressed
    return dataset


def _looks_like_dicom(start: bytes, size: int) -> bool:
    if start[128:] == b"DICM":
        return True
    if len(start) < 16:
        return False
    group, element, vr, length = struct.unpack_from("<HH2sH", start)
    if group not in _FIRST_GROUPS or element > 0x1000:
        return False
    if vr.isalpha():
        return vr.decode("latin-1") in converters and length <= 0xFF
    return bool(struct.unpack_from("<I", start, 4)[0] < min(size, 1 << 10))


def _read(path: Path, tags: Sequence[int] | None, pixels: bool) -> Dataset | None:
    with naming(path), open_regular(path) as stream:
        size = path.stat().st_size
        if not _looks_like_dicom(stream.read(_MARK), size):
            return None
        stream.seek(0)
        bounded = cast(BinaryIO, Bounded(stream, size))
        # the meta group first: pydicom would inflate a deflated file whole
        read_preamble(bounded, force=True)
        meta = FileMetaDataset(read_dataset(bounded, False, True, stop_when=lambda tag, *_: tag >> 16 != 2))
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            return _read_deflated(bounded.read(), meta, tags, pixels, path.name)
        bounded.seek(0)
        wanted = None if tags is None else list(tags)
        return pydicom.dcmread(bounded, stop_before_pixels=not pixels, force=True, specific_tags=wanted)


def _read_deflated(
    packed: bytes, meta: FileMetaDataset, tags: Sequence[int] | None, pixels: bool, name: str
) -> Dataset:
    """Unpack the header, then no more than the pixels that it promises."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    data = inflate.decompress(packed, _DEFLATED_HEADER)
    dataset = _parsed(data, meta, tags, pixels=False)
    if pixels:
        claimed = pixel_bytes(dataset)
        if claimed > max(_DEFLATED_HEADER, _DEFLATED_RATIO * len(packed)):
            raise BadInputError(
                f"{name} claims {claimed:,} bytes of pixels, which its {len(packed):,} cannot hold; export it again."
            )
        data += inflate.decompress(inflate.unconsumed_tail, claimed + 1)
        dataset = _parsed(data, meta, tags, pixels=True)
    return dataset


def _parsed(data: bytes, meta: FileMetaDataset, tags: Sequence[int] | None, pixels: bool) -> Dataset:
    stop = None if pixels else (lambda tag, *_: tag >= _PIXEL_GROUP)
    wanted = None if tags is None else list(tags)
    dataset = read_dataset(io.BytesIO(data), False, True, stop_when=stop, specific_tags=wanted)
    dataset.file_meta = FileMetaDataset(meta)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian  # as it lies now
    return dataset


def one_line(text: str) -> str:
    """Make a header's text fit for a message.

    Args:
        text: Any text.

    Returns:
        The text with spaces in place of line breaks and control characters, and none at its ends.
    """
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()


def pixel_bytes(dataset: Dataset) -> int:
    """Compute how many bytes a file's frames take, unpacked.

    Args:
        dataset: The file's header.

    Returns:
        Bytes of all frames, by the header's sizes.
    """
    frames = int(dataset.get("NumberOfFrames") or 1)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    bits = int(dataset.get("BitsAllocated") or 8)
    return int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0) * samples * max(frames, 1) * -(-bits // 8)


def class_of(dataset: Dataset) -> UID | None:
    """Find a file's SOP class, in its meta group or its data set.

    Args:
        dataset: The file's header.

    Returns:
        The UID; None where the file gives none.
    """
    kind = dataset.file_meta.get("MediaStorageSOPClassUID") or dataset.get("SOPClassUID")
    return UID(str(kind), validation_mode=pydicom.config.IGNORE) if kind else None
