"""What NRRD and MetaImage share: a text header, voxels after it or in a separate file, and ITK's axis order."""

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
    """Read one line of a text header.

    Args:
        stream: The open file.
        name: The file's name, for the message.

    Returns:
        The line without its end; None at the end of the file.

    Raises:
        BadInputError: The line is 1 MiB or longer, so this is not a header.
    """
    line = stream.readline(_LINE_LIMIT)
    if not line:
        return None
    if len(line) == _LINE_LIMIT:
        raise BadInputError(f"{name} has no readable header; export the file again.")
    return line.decode("utf-8", errors="replace").rstrip("\r\n")


def header_lines(stream: IO[bytes], name: str) -> list[str]:
    """Read lines up to the first empty one, or to the end of the file.

    Args:
        stream: The open file.
        name: The file's name, for the message.

    Returns:
        The lines.

    Raises:
        BadInputError: There are too many lines, or too long ones.
    """
    lines: list[str] = []
    while line := header_line(stream, name):
        lines.append(line)
        if len(lines) > _LINES_LIMIT:
            raise BadInputError(f"{name} has no readable header; export the file again.")
    return lines


def set_field(fields: dict[str, str], key: str, value: str, name: str) -> None:
    """Add a field of a text header to the others.

    Args:
        fields: The fields so far.
        key: The field's key.
        value: Its value.
        name: The file's name, for the message.

    Raises:
        BadInputError: The header has the field already, with another value: which one holds is not known.
    """
    known = fields.setdefault(key, value)
    if known != value and _plain(known) != _plain(value):
        raise BadInputError(
            f"{name} says '{key}' twice and differently ({known[:40]}; {value[:40]}); correct its header."
        )


def _plain(value: str) -> list[float] | str:
    """The value's numbers, where it consists of numbers: "0" is "0.0"."""
    try:
        return [float(item) for item in value.split()]
    except ValueError:
        return value


def numbers(text: str, name: str, field: str) -> list[float]:
    """Read the numbers of a header field.

    Args:
        text: The field's value, numbers separated by blanks.
        name: The file's name, for the message.
        field: The field's name, for the message.

    Returns:
        The numbers.

    Raises:
        BadInputError: One is not a number, is NaN or infinite, or overflows when squared.
    """
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
    """Read the whole numbers of a header field.

    Args:
        text: The field's value, numbers separated by blanks.
        name: The file's name, for the message.
        field: The field's name, for the message.

    Returns:
        The numbers.

    Raises:
        BadInputError: One is not a whole number.
    """
    try:
        return [int(item) for item in text.split()]
    except ValueError as error:
        raise _unreadable(text, name, field) from error


def whole_number(fields: dict[str, str], field: str, default: int, name: str, title: str | None = None) -> int:
    """Read the one whole number of a header field.

    Args:
        fields: All fields of the header.
        field: The field's key.
        default: The value where there is no such field.
        name: The file's name, for the message.
        title: The field's name, for the message; by default its key.

    Returns:
        The number.

    Raises:
        BadInputError: The field is empty, or does not hold one whole number.
    """
    text = fields.get(field, str(default))
    values = whole_numbers(text, name, title or field)
    if len(values) != 1:
        raise _unreadable(text, name, title or field)
    return values[0]


def _unreadable(text: str, name: str, field: str) -> BadInputError:
    return BadInputError(f"{name} has an unreadable '{field}' in its header ({text[:80]}); export it again.")


def go_to(stream: IO[bytes], place: int, name: str) -> None:
    """Move to a byte of a file.

    Args:
        stream: The open file.
        place: The byte to go to.
        name: The file's name, for the message.

    Raises:
        BadInputError: The file has no such byte.
    """
    size = os.fstat(stream.fileno()).st_size
    if not 0 <= place <= size:
        raise BadInputError(
            f"{name} is truncated or its header is wrong: its voxels should begin at byte {place:,} of {size:,}; copy "
            "or export the file again."
        )
    stream.seek(place)


def data_file_beside(header: Path, named: str) -> Path:
    """Find the file that a header keeps its voxels in.

    Args:
        header: The header's path.
        named: The file that it names.

    Returns:
        That file's path.

    Raises:
        BadInputError: The file is missing, is the header itself, or does not lie in the header's folder (links
            followed).
    """
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
    """Read voxels from where a stream stands.

    Args:
        stream: The open file.
        sizes: Voxels along each axis, fastest axis first.
        dtype: The stored type.
        encoding: ``raw``, ``gzip`` or ``bzip2``.
        name: The file's name, for messages.
        available: Bytes that the file has from here on.

    Returns:
        An array whose shape is ``sizes`` reversed.

    Raises:
        BadInputError: The sizes are impossible, the file cannot hold them (nothing is allocated then), or its data
            break off.
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
    """Make an image from voxels and the step vectors of their axes.

    Args:
        voxels: The array, slowest axis first.
        channel_axis: The axis that becomes C, counted fastest first; None where there is none.
        directions: The step vectors (LPS, mm) of the two or three spatial axes, fastest first.
        origin: The centre of the first voxel, in LPS mm.
        path: The image's file.
        meta: What the image's ``meta`` holds; the dtype is added.
        physical: Whether the image has a size in mm.
        findings: What the reader noticed.
        layers: Whether the channels are layers of a segmentation, of which there may be any number.
        frame: Which channel to keep, from 1; None for all.

    Returns:
        The image, ``(C, D, H, W)``.

    Raises:
        BadInputError: The image is empty, its values or its grid are impossible, or the frame does not exist.
        SeveralImagesError: There are more than four channels, so they are frames to choose from.
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
