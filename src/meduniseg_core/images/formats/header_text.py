"""What NRRD and MetaImage share: a text header, voxels behind it or in a file beside it, and ITK's axis order."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.checks import check_affine, check_channel_count, check_finite, check_numeric
from meduniseg_core.images.choices import take_frame
from meduniseg_core.images.findings import Finding
from meduniseg_core.images.formats.raw_data import check_claim, claimed_bytes, read_exactly, read_to_end, unpacked
from meduniseg_core.images.geometry import Geometry
from meduniseg_core.images.image import Image

_LINE_LIMIT = 1 << 20
_LINES_LIMIT = 10_000
_LARGEST = 1e15


def header_line(stream: IO[bytes], name: str) -> str | None:
    """The next line without its end, or None at the end of the file; lines beyond 1 MiB are no header."""
    line = stream.readline(_LINE_LIMIT)
    if not line:
        return None
    if len(line) == _LINE_LIMIT:
        raise BadInputError(f"{name} has no readable header; export the file again.")
    return line.decode("utf-8", errors="replace").rstrip("\r\n")


def header_lines(stream: IO[bytes], name: str) -> list[str]:
    """Lines up to the first empty one, or to the end of the file."""
    lines: list[str] = []
    while line := header_line(stream, name):
        lines.append(line)
        if len(lines) > _LINES_LIMIT:
            raise BadInputError(f"{name} has no readable header; export the file again.")
    return lines


def numbers(text: str, name: str, field: str) -> list[float]:
    """The floats of a header field, separated by blanks; NaN, infinity and what overflows when squared are refused."""
    try:
        values = [float(item) for item in text.split()]
    except ValueError as error:
        raise _unreadable(text, name, field) from error
    if any(not math.isfinite(value) for value in values):
        raise BadInputError(f"{name} has NaN or infinity in its '{field}'; correct its header and save it again.")
    if any(abs(value) > _LARGEST for value in values):
        raise _unreadable(text, name, field)
    return values


def whole_numbers(text: str, name: str, field: str) -> list[int]:
    """The integers of a header field, separated by blanks."""
    try:
        return [int(item) for item in text.split()]
    except ValueError as error:
        raise _unreadable(text, name, field) from error


def whole_number(fields: dict[str, str], field: str, default: int, name: str, title: str | None = None) -> int:
    """The one integer in ``fields[field]``, or the default where there is no such field (an empty one is refused)."""
    text = fields.get(field, str(default))
    values = whole_numbers(text, name, title or field)
    if len(values) != 1:
        raise _unreadable(text, name, title or field)
    return values[0]


def _unreadable(text: str, name: str, field: str) -> BadInputError:
    return BadInputError(f"{name} has an unreadable '{field}' in its header ({text[:80]}); export it again.")


def go_to(stream: IO[bytes], place: int, name: str) -> None:
    """Seek to byte ``place``, which must lie within the file."""
    size = os.fstat(stream.fileno()).st_size
    if not 0 <= place <= size:
        raise BadInputError(
            f"{name} is truncated or its header is wrong: its voxels should begin at byte {place:,} of {size:,}; copy "
            "or export the file again."
        )
    stream.seek(place)


def data_file_beside(header: Path, named: str) -> Path:
    """The detached data file ``named`` in a header: it must lie in the header's own folder, links followed."""
    plain = named.strip().removeprefix("./").removeprefix(".\\")
    candidate = header.parent / plain
    if not plain or plain in (".", "..") or any(mark in plain for mark in "/\\:\0"):
        raise BadInputError(
            f"{header.name} keeps its voxels in '{named}', which is outside its folder; put both files into one "
            "folder and name the data file without a path."
        )
    if not candidate.is_file():
        raise BadInputError(f"{header.name} keeps its voxels in '{plain}', which is missing; put that file beside it.")
    if candidate.samefile(header):
        raise BadInputError(
            f"{header.name} names itself as the file of its voxels; name the file that holds them, or export it again."
        )
    if candidate.resolve().parent != header.resolve().parent:
        raise BadInputError(
            f"{header.name} keeps its voxels in '{plain}', a link out of its folder; copy the file itself."
        )
    return candidate


def read_voxels(
    stream: IO[bytes], sizes: Sequence[int], dtype: np.dtype[Any], encoding: str, name: str, available: int
) -> np.ndarray:
    """Voxels from the stream's position; ``sizes`` are fastest first, the result's shape is the reverse of them.

    ``available`` is how many bytes the file has from here: claims beyond what they can hold are refused unallocated.
    """
    if not sizes or any(size < 1 for size in sizes):
        raise BadInputError(f"{name} has impossible sizes in its header ({list(sizes)}); export the file again.")
    size = claimed_bytes(sizes, dtype.itemsize)
    source, limit = unpacked(stream, encoding)
    check_claim(name, size, available, limit)
    voxels = read_exactly(source, size, name).view(dtype).reshape(tuple(reversed(sizes)))
    if encoding != "raw":
        read_to_end(source, size + (1 << 20), name)  # makes the decoder compare its checksum
    return voxels


def assemble(
    voxels: np.ndarray,
    channel_axis: int | None,
    directions: Sequence[np.ndarray],
    origin: np.ndarray,
    path: Path,
    meta: dict[str, Any],
    physical: bool,
    findings: tuple[Finding, ...] = (),
    layers: bool = False,
    frame: int | None = None,
) -> Image:
    """An Image from ``voxels`` (slowest axis first) and the LPS step vectors of its spatial axes (fastest first).

    ``channel_axis`` counts fastest first, too. ``layers``: its entries are layers of a segmentation, however many.
    ``frame`` (from 1): the one of them that is wanted.
    """
    name = path.name
    array = voxels[None] if channel_axis is None else np.moveaxis(voxels, voxels.ndim - 1 - channel_axis, 0)
    array, chosen = take_frame(array, frame, name, colour=meta.get("colour") == "rgb")
    findings = (*findings, *chosen)
    if not layers:
        check_channel_count(array.shape[0], name)
    columns = list(directions)
    if array.ndim == 3:
        array = array[:, None]
        normal = np.cross(columns[0], columns[1])
        columns.append(normal / (np.linalg.norm(normal) or 1.0))
    array = np.ascontiguousarray(check_numeric(array, name))
    check_finite(array, name)
    affine = np.eye(4)
    affine[:3, :3] = np.stack(columns[::-1], axis=1)
    affine[:3, 3] = origin
    check_affine(affine, name)
    geometry = Geometry.from_affine(affine, (array.shape[1], array.shape[2], array.shape[3]))
    return Image(
        array, geometry, physical=physical, source=path, meta={**meta, "dtype": str(array.dtype)}, findings=findings
    )
