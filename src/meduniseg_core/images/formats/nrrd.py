"""NRRD (``.nrrd``, and ``.nhdr`` with a data file beside it).

It is read here and not through SimpleITK, which accepts any file on the disk as detached voxels, trusts the header's
sizes and fills missing data with zeros. Format: https://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import open_regular
from meduniseg_core.images.choices import refuse_time_series
from meduniseg_core.images.findings import header_mended, orientation_unknown
from meduniseg_core.images.formats.decoding import decoded
from meduniseg_core.images.formats.header_text import (
    assemble,
    data_file_beside,
    go_to,
    header_line,
    header_lines,
    numbers,
    read_voxels,
    set_field,
    whole_number,
    whole_numbers,
)
from meduniseg_core.images.formats.raw_data import claimed_bytes
from meduniseg_core.images.formats.slicer_segments import segments_of
from meduniseg_core.images.image import Image

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_DTYPE = {alias: code for code, aliases in _TYPES.items() for alias in aliases}
_ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_LPS_SIGNS = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
_MM_PER_UNIT = {"mm": 1.0, "m": 1000.0, "cm": 10.0, "um": 0.001, "µm": 0.001, "microns": 0.001}
_NO_VECTOR = re.compile(r"none|\(\s*nan\s*(,\s*nan\s*)*\)", flags=re.IGNORECASE)
_SPATIAL_KINDS = {"domain", "space"}
_NO_IMAGE_KINDS = {"complex", "quaternion"}
_ALIASES = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip", "centerings": "centers"}


def read_nrrd(path: Path, frame: int | None = None) -> Image:
    """Read ``.nrrd`` or ``.nhdr`` as ``(C, D, H, W)``: the axis without a direction in space becomes C (at most 4).

    RAS, LAS and LPS spaces become LPS; a file that names no space has the finding "orientation_unknown", and one
    without spacing is not ``physical``. 3D Slicer's description of a segmentation is in ``meta["segments"]``.

    Args:
        path: The file.
        frame: Which channel to read, from 1; None for all.

    Returns:
        The image.

    Raises:
        BadInputError: The header is unreadable, its data file lies outside its folder, data are truncated, the file
            cannot hold its sizes, the encoding is unknown, or the grid is degenerate.
        SeveralImagesError: There are time points, or more than four channels, so they are frames to choose from.
    """
    name = path.name
    data_path = path
    with ExitStack() as stack:
        stream = stack.enter_context(open_regular(path))
        fields, pairs = _parse(stream, name)
        dtype = _dtype(fields, name)
        sizes = whole_numbers(_need(fields, "sizes", name), name, "sizes")
        encoding = fields.get("encoding", "").lower()
        if encoding not in _ENCODINGS:
            raise BadInputError(
                f"{name} stores its voxels as '{encoding}', which is not read; save it with the encoding raw or gzip."
            )
        if len(sizes) != whole_number(fields, "dimension", 0, name):
            raise BadInputError(f"{name} has {len(sizes)} sizes and another dimension in its header; export it again.")
        axes = _axes(fields, sizes, name)  # before any voxel: a header that cannot be costs nothing
        if axes.over_time and frame is None:
            refuse_time_series(sizes[axes.channel or 0], name)
        detached = fields.get("data file")
        if detached is not None:
            if detached.upper().startswith("LIST") or "%" in detached:
                raise BadInputError(f"{name} spreads its voxels over several files; save it as one .nrrd file.")
            data_path = data_file_beside(path, detached)
            stream = stack.enter_context(open_regular(data_path))
            name = data_path.name
        _skip(stream, fields, claimed_bytes(sizes, dtype.itemsize), encoding, name)
        available = os.fstat(stream.fileno()).st_size - stream.tell()
        packed = _ENCODINGS[encoding]
        voxels = decoded(data_path, lambda: read_voxels(stream, sizes, dtype, packed, name, available))
    segments = segments_of(pairs, path.name)
    meta: dict[str, Any] = {"format": "nrrd", "orientation_known": axes.oriented}
    if segments:
        meta["segments"] = segments
    if axes.colour and sizes[axes.channel or 0] == 3:
        meta["colour"] = "rgb"
    findings = []
    if axes.physical and not axes.oriented:
        findings.append(orientation_unknown(path.name, "its header has no known 'space'"))
    if dtype.itemsize > 1 and "endian" not in fields:
        findings.append(header_mended(path.name, ["it has no 'endian', and little is what nearly all files have"]))
    return assemble(
        voxels,
        axes.channel,
        axes.directions,
        axes.origin,
        path,
        meta,
        axes.physical,
        tuple(findings),
        layers=bool(segments),
        frame=frame,
    )


@dataclass(frozen=True)
class _Axes:
    channel: int | None
    directions: list[np.ndarray]
    origin: np.ndarray
    physical: bool
    oriented: bool
    colour: bool
    over_time: bool


def _parse(stream: IO[bytes], name: str) -> tuple[dict[str, str], dict[str, str]]:
    """The format's own fields, and the key/value pairs that programs add."""
    magic = header_line(stream, name) or ""
    if not re.fullmatch(r"NRRD000\d", magic):
        raise BadInputError(f"{name} is not an NRRD file (it does not begin with NRRD); export it again.")
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    for line in header_lines(stream, name):
        if line.startswith("#"):
            continue
        if fields.get("data file", "").upper().startswith("LIST"):
            break  # the names of several files, one a line
        if ":=" in line:
            key, _, value = line.partition(":=")
            pairs[key] = value
            continue
        key, colon, value = line.partition(":")
        if not colon:
            raise BadInputError(f"{name} has an unreadable line in its header ({line[:80]}); export it again.")
        key = key.strip().lower()
        set_field(fields, _ALIASES.get(key, key), value.strip(), name)
    return fields, pairs


def _need(fields: dict[str, str], field: str, name: str) -> str:
    if not fields.get(field):
        raise BadInputError(f"{name} has no '{field}' in its header; export the file again.")
    return fields[field]


def _dtype(fields: dict[str, str], name: str) -> np.dtype[Any]:
    stored = _need(fields, "type", name).lower()
    code = _DTYPE.get(stored)
    if code is None:
        raise BadInputError(f"{name} holds voxels of type '{stored}'; save it with integer or float values.")
    dtype = np.dtype(code)
    if dtype.itemsize == 1:
        return dtype
    endian = fields.get("endian", "little").lower()
    return dtype.newbyteorder(">" if endian == "big" else "<")


def _skip(stream: IO[bytes], fields: dict[str, str], size: int, encoding: str, name: str) -> None:
    lines = whole_number(fields, "line skip", 0, name)
    count = whole_number(fields, "byte skip", 0, name)
    if not 0 <= lines <= 10_000 or count < -1 or (count and encoding != "raw"):
        raise BadInputError(
            f"{name} skips bytes in a way that is not read; save it without 'byte skip' and 'line skip'."
        )
    for _ in range(lines):
        if header_line(stream, name) is None:
            break
    if count == -1:  # the voxels are the file's last bytes
        go_to(stream, max(os.fstat(stream.fileno()).st_size - size, stream.tell()), name)
    elif count:
        go_to(stream, stream.tell() + count, name)


def _axes(fields: dict[str, str], sizes: list[int], name: str) -> _Axes:
    """Which axis is C, and where the others run in LPS mm, fastest axis first."""
    rank = len(sizes)
    kinds = fields.get("kinds", "").lower().split()
    vectors = _vectors(fields, rank, name)
    if vectors is None:
        stated = fields.get("spacings", "1 " * rank).split()
        if len(stated) != rank:
            raise BadInputError(f"{name} has {len(stated)} spacings for {rank} axes; export the file again.")
        spatial = [n for n in range(rank) if len(kinds) != rank or kinds[n] in _SPATIAL_KINDS]
        if len(kinds) != rank:
            spatial = spatial[:3]
        steps = {n: numbers(stated[n], name, "spacings")[0] for n in spatial}  # Teem writes NaN for that of colours
        unit = np.eye(3)
        units = _axis_units(fields, rank)
        scale = _scale([units[n] for n in spatial[:3]], name)
        directions = [unit[position] * steps[n] * scale for position, n in enumerate(spatial[:3])]
        origin = np.zeros(3)
        physical, oriented = "spacings" in fields, False
    else:
        spatial = [n for n in range(rank) if vectors[n] is not None]
        found = [vector for vector in vectors if vector is not None]
        if len(spatial) == 4:  # ITK's 4D image: the fourth axis is not of space
            spatial, found = spatial[:3], found[:3]
        signs, oriented = _signs(fields)
        scale = _scale(_quoted(fields, "space units"), name)
        directions = [_three(vector) * signs * scale for vector in found]
        origin = _three(_tuple(fields.get("space origin", "(0,0,0)"), name, "space origin")) * signs * scale
        physical = True
    others = [n for n in range(rank) if n not in spatial]
    if len(spatial) not in (2, 3) or len(others) > 1:
        raise BadInputError(f"{name} has {rank} axes, {len(spatial)} of them in space; save it as a 2D or 3D image.")
    channel = others[0] if others else None
    kind = kinds[channel] if channel is not None and len(kinds) == rank else ""
    if kind in _NO_IMAGE_KINDS or "matrix" in kind:
        raise BadInputError(f"{name} holds one {kind} a voxel; save the wanted part as an image of its own.")
    colour = kind in ("rgb-color", "3-color")
    return _Axes(channel, directions, origin, physical, oriented, colour, over_time=kind == "time")


def _vectors(fields: dict[str, str], rank: int, name: str) -> list[np.ndarray | None] | None:
    text = fields.get("space directions")
    if text is None:
        return None
    items = re.findall(r"none|\([^)]*\)", text, flags=re.IGNORECASE)
    if len(items) != rank:
        raise BadInputError(f"{name} has {len(items)} space directions for {rank} axes; export the file again.")
    return [None if _NO_VECTOR.fullmatch(item) else _tuple(item, name) for item in items]


def _tuple(text: str, name: str, field: str = "space directions") -> np.ndarray:
    return np.array(numbers(text.strip().strip("()").replace(",", " "), name, field))


def _three(vector: np.ndarray) -> np.ndarray:
    return np.concatenate([vector, np.zeros(3)])[:3]


def _signs(fields: dict[str, str]) -> tuple[np.ndarray, bool]:
    """Factors to LPS; an unnamed space is taken for LPS, as ITK does, and said not to be known."""
    space = fields.get("space", "").lower().removesuffix("-time")
    return np.array(_LPS_SIGNS.get(space, (1, 1, 1)), dtype=np.float64), space in _LPS_SIGNS


def _quoted(fields: dict[str, str], field: str) -> list[str]:
    return re.findall(r'"([^"]*)"', fields.get(field, ""))


def _axis_units(fields: dict[str, str], rank: int) -> list[str]:
    """The unit of each axis, where spacings stand alone; none where the header gives no units."""
    units = _quoted(fields, "units")
    return units if len(units) == rank else [""] * rank


def _scale(stated: Sequence[str], name: str) -> float:
    units = {unit.strip().lower() for unit in stated} - {""}
    if not units:
        return 1.0
    if len(units) > 1 or not units <= _MM_PER_UNIT.keys():
        raise BadInputError(f"{name} measures space in {', '.join(sorted(units))}; save it with its units in mm.")
    return _MM_PER_UNIT[units.pop()]
