"""MetaImage (``.mha``, and ``.mhd`` with a data file beside it).

It is read here and not through SimpleITK, for the reasons given in `nrrd`. A TransformMatrix lists, axis after axis,
the unit vector (LPS) along which the axis runs.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import open_regular
from meduniseg_core.images.checks import check_channel_count, check_finite, check_spacing
from meduniseg_core.images.findings import Finding, orientation_unknown
from meduniseg_core.images.formats.decoding import decoded
from meduniseg_core.images.formats.header_text import (
    assemble,
    data_file_beside,
    go_to,
    header_line,
    numbers,
    read_voxels,
    set_field,
    whole_number,
    whole_numbers,
)
from meduniseg_core.images.formats.raw_data import claimed_bytes
from meduniseg_core.images.image import Image

_DTYPE = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",  # MetaIO writes 4 bytes for it on every machine
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_ALIASES = {
    "position": "offset",
    "origin": "offset",
    "rotation": "transformmatrix",
    "orientation": "transformmatrix",
    "elementbyteordermsb": "binarydatabyteordermsb",
}
_FREE_TEXT = frozenset({"comment", "name"})
_FIELD_LIMIT = 10_000
_MM_PER_UNIT = {"": 1.0, "?": 1.0, "mm": 1.0, "cm": 10.0, "um": 0.001}


def read_metaimage(path: Path, frame: int | None = None) -> Image:
    """Read ``.mha`` or ``.mhd`` as ``(C, D, H, W)``; the elements of a voxel, or a fourth axis, become C (at most 4).

    A file without ElementSpacing is not ``physical``; one without TransformMatrix has the finding
    "orientation_unknown".

    Args:
        path: The file.
        frame: Which channel to read, from 1; None for all.

    Returns:
        The image.

    Raises:
        BadInputError: The header is unreadable, its data file lies outside its folder, data are truncated, the file
            cannot hold its sizes, voxels are stored as text, or the grid is degenerate.
        SeveralImagesError: There are more than four channels, so they are frames to choose from.
    """
    name = path.name
    data_path = path
    with ExitStack() as stack:
        stream = stack.enter_context(open_regular(path))
        fields = _parse(stream, name)
        rank = whole_number(fields, "ndims", 0, name, "NDims")
        sizes = whole_numbers(fields.get("dimsize", ""), name, "DimSize")
        if len(sizes) != rank or rank not in (2, 3, 4):
            raise BadInputError(f"{name} has sizes {sizes[:9]} that do not fit its NDims; save it as a 2D or 3D image.")
        dtype = _dtype(fields, name)
        elements = whole_number(fields, "elementnumberofchannels", 1, name, "ElementNumberOfChannels")
        if frame is None:
            check_channel_count(elements if elements > 1 or len(sizes) < 4 else sizes[3], name)
        if elements > 1 and len(sizes) == 4:
            raise BadInputError(f"{name} holds several volumes of several channels; save the wanted one as a 3D file.")
        if not _yes(fields, "binarydata", default=True):
            raise BadInputError(f"{name} has its voxels as text; save it with BinaryData = True.")
        stored = [elements, *sizes] if elements != 1 else sizes
        directions, origin = _grid(fields, rank, name)  # before any voxel: a header that cannot be costs nothing
        encoding = "gzip" if _yes(fields, "compresseddata") else "raw"
        data_file = fields["elementdatafile"]
        if data_file.upper() != "LOCAL":
            if data_file.upper().startswith("LIST") or "%" in data_file:
                raise BadInputError(f"{name} spreads its voxels over several files; save it as one .mha file.")
            data_path = data_file_beside(path, data_file)
            stream = stack.enter_context(open_regular(data_path))
            name = data_path.name
        _skip(stream, fields, claimed_bytes(stored, dtype.itemsize), name)
        available = os.fstat(stream.fileno()).st_size - stream.tell()
        voxels = decoded(data_path, lambda: read_voxels(stream, stored, dtype, encoding, name, available))
    channel = 0 if elements != 1 else (3 if len(sizes) == 4 else None)
    known = "transformmatrix" in fields
    physical = "elementspacing" in fields or "elementsize" in fields
    meta: dict[str, Any] = {"format": "metaimage", "orientation_known": known}
    findings = () if known or not physical else (orientation_unknown(path.name, "its header has no TransformMatrix"),)
    image = assemble(voxels, channel, directions, origin, path, meta, physical, findings, frame=frame)
    return _scaled(image, fields)


def _scaled(image: Image, fields: dict[str, str]) -> Image:
    """An image with the header's scaling of its values, which few programs write and fewer read."""
    slope, offset = (
        numbers(fields.get(title.lower(), default), image.name, title)
        for title, default in (
            ("ElementToIntensityFunctionSlope", "1"),
            ("ElementToIntensityFunctionOffset", "0"),
        )
    )
    if (slope, offset) == ([1.0], [0.0]):
        return image
    if len(slope) != 1 or len(offset) != 1 or slope[0] == 0:
        raise BadInputError(
            f"{image.name} scales its voxels by an impossible function; correct its ElementToIntensityFunction."
        )
    with np.errstate(over="ignore"):
        array = (image.array * slope[0] + offset[0]).astype(np.float32)
    check_finite(array, image.name)
    text = (
        f"{image.name}: values are scaled by {slope[0]:g} and {offset[0]:g} is added, as its header says "
        "(ElementToIntensityFunction), which many programs do not read."
    )
    meta = {**image.meta, "dtype": str(array.dtype)}
    return replace(image.with_array(array), meta=meta).with_findings(Finding("intensity_scaled", text, "info"))


def _parse(stream: IO[bytes], name: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for _ in range(_FIELD_LIMIT):
        line = header_line(stream, name)
        if line is None:
            break
        key, equals, value = line.partition("=")
        if not equals:
            if line.strip():
                break
            continue
        key = key.strip().lower()
        if key not in _FREE_TEXT:
            set_field(fields, _ALIASES.get(key, key), value.strip(), name)
        if key == "elementdatafile":  # by definition the last: the voxels follow
            if fields.get("objecttype", "image").lower() != "image":
                break
            return fields
    raise BadInputError(
        f"{name} is not a MetaImage file (its header has no ElementDataFile of an image); export it again."
    )


def _dtype(fields: dict[str, str], name: str) -> np.dtype[Any]:
    stored = fields.get("elementtype", "").upper()
    code = _DTYPE.get(stored.removesuffix("_ARRAY"))
    if code is None:
        raise BadInputError(f"{name} holds voxels of type '{stored}'; save it with integer or float values.")
    return np.dtype(code).newbyteorder(">" if _yes(fields, "binarydatabyteordermsb") else "<")


def _yes(fields: dict[str, str], field: str, default: bool = False) -> bool:
    value = fields.get(field)
    return default if value is None else value[:1].lower() in ("t", "y", "1")


def _skip(stream: IO[bytes], fields: dict[str, str], size: int, name: str) -> None:
    count = whole_number(fields, "headersize", 0, name, "HeaderSize")
    if count == -1:  # the voxels are the file's last bytes
        go_to(stream, max(os.fstat(stream.fileno()).st_size - size, stream.tell()), name)
    elif count:
        go_to(stream, count, name)


def _grid(fields: dict[str, str], rank: int, name: str) -> tuple[list[np.ndarray], np.ndarray]:
    spacing = numbers(fields.get("elementspacing", fields.get("elementsize", "1 " * rank)), name, "ElementSpacing")
    matrix = numbers(fields.get("transformmatrix", ""), name, "TransformMatrix") or np.eye(rank).ravel().tolist()
    offset = numbers(fields.get("offset", "0 " * rank), name, "Offset")
    if len(spacing) != rank or len(matrix) != rank * rank or len(offset) != rank:
        raise BadInputError(f"{name} has a grid that does not fit its {rank} axes; export the file again.")
    unit = fields.get("distanceunits", "").lower()
    if unit not in _MM_PER_UNIT:
        raise BadInputError(f"{name} measures space in '{unit}'; save it with its units in mm.")
    spacing = [size * _MM_PER_UNIT[unit] for size in spacing]
    offset = [place * _MM_PER_UNIT[unit] for place in offset]
    check_spacing(tuple(spacing[:3]), name)
    space = min(rank, 3)
    directions = []
    for axis in range(space):
        vector = np.zeros(3)
        vector[:space] = matrix[axis * rank : axis * rank + space]
        directions.append(vector * spacing[axis])
    origin = np.zeros(3)
    origin[:space] = offset[:space]
    return directions, origin
