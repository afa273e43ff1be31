"""NumPy files: ``.npy``, and ``.npz`` with one array. Nothing is unpickled."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import atomic_path, open_regular
from meduniseg_core.images.checks import brief, check_channel_count, check_finite, check_numeric
from meduniseg_core.images.choices import take_frame
from meduniseg_core.images.findings import Finding
from meduniseg_core.images.formats.decoding import decoded
from meduniseg_core.images.formats.raw_data import DEFLATE_LIMIT, check_claim, claimed_bytes, read_exactly
from meduniseg_core.images.geometry import Geometry
from meduniseg_core.images.image import Image

_FEW = 16  # voxels: a volume that is 3 or 4 voxels wide is no longer than that
_HEADER_LIMIT = 10_000  # bytes; NumPy's own limit
_DAMAGE = (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, zlib.error, struct.error, KeyError)


def read_numpy(path: Path, frame: int | None = None) -> Image:
    """Read an array of up to four axes.

    The shape is (H, W), (H, W, 1), (H, W, 3) in uint8 (a colour picture), (D, H, W) or (C, D, H, W), with C at most 4.
    The image has no position in the patient: ``physical`` is False and the spacing 1.

    Args:
        path: The file.
        frame: Which volume along C to read, from 1; None for all.

    Returns:
        The image, ``(C, D, H, W)``.

    Raises:
        BadInputError: The file is truncated, holds pickled objects, NaN or infinity, claims a shape that it cannot
            hold, or is an ``.npz`` with more than one array.
        SeveralImagesError: There are more than four volumes to choose from.
    """
    name = path.name
    array = decoded(path, lambda: _read(path))
    array = check_numeric(array, name)
    if array.ndim == 3 and array.shape[2] == 1 < min(array.shape[:2]):  # a grey picture (H, W, 1)
        array = array[..., 0]
    colour = array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8
    array = np.moveaxis(array, -1, 0)[:, None] if colour else array.reshape((1,) * (4 - array.ndim) + array.shape)
    array, findings = take_frame(array, frame, name, colour=colour)
    check_channel_count(array.shape[0], name)
    array = np.ascontiguousarray(array)
    check_finite(array, name)
    shape = (int(array.shape[1]), int(array.shape[2]), int(array.shape[3]))
    if _may_be_colours(shape) or (array.dtype == np.uint8 and _may_be_colours(shape[::-1])):
        findings = (*findings, Finding("axes_doubtful", _doubt(name, shape)))
    meta: dict[str, Any] = {"format": "numpy", "dtype": str(array.dtype)}
    if shape[0] == 1:
        meta["colour"] = "rgb" if colour else "grey"
    return Image(array, Geometry(shape, (1.0, 1.0, 1.0)), physical=False, source=path, meta=meta, findings=findings)


def _may_be_colours(shape: tuple[int, int, int]) -> bool:
    depth, height, width = shape
    return width in (3, 4) and min(depth, height) > _FEW


def _doubt(name: str, shape: tuple[int, int, int]) -> str:
    last = _may_be_colours(shape)
    remedy = "uint8, and channels first" if last else "uint8, and channels as (C, 1, H, W)"
    return (
        f"{name} is read as {shape[0]} slices of {shape[1]} x {shape[2]} pixels, which looks like one picture with "
        f"{shape[2] if last else shape[0]} values a pixel: save a colour picture as (H, W, 3) in {remedy}."
    )


def write_numpy(path: Path, array: np.ndarray) -> None:
    """Write an array atomically, without its leading axes of length 1: (H, W) for one slice of one channel.

    Args:
        path: The file to write.
        array: ``(C, D, H, W)``.

    Raises:
        UnwritableError: The folder or the disk refuses the file.
    """
    flat = array
    while flat.ndim > 2 and flat.shape[0] == 1:
        flat = flat[0]
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, flat, allow_pickle=False)


def _read(path: Path) -> np.ndarray:
    if path.name.lower().endswith(".npz"):
        return _read_npz(path)
    with open_regular(path) as stream:
        return _read_array(stream, path.name, path.stat().st_size)


def _read_array(stream: IO[bytes], name: str, available: int) -> np.ndarray:
    """The array of an ``.npy`` stream of ``available`` bytes, header checked first."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's remark on headers written by Python 2
            shape, fortran, dtype = _header(stream)
    except (*_DAMAGE, ValueError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError) as error:
        raise BadInputError(f"{name} is not a NumPy array file; save it with numpy.save.") from error
    if dtype.hasobject or dtype.kind not in "buif":
        raise BadInputError(f"{name} holds {dtype} values, which are not read; save it with integer or float values.")
    if len(shape) not in (2, 3, 4) or any(size < 0 for size in shape):
        raise BadInputError(f"{name} has the shape {str(shape)[:80]}; save it as (H, W), (D, H, W) or (C, D, H, W).")
    if 0 in shape:
        raise BadInputError(f"{name} is empty: its shape is {str(shape)[:80]}; save an image with voxels.")
    size = claimed_bytes(shape, dtype.itemsize)
    check_claim(name, size, available)
    array = read_exactly(stream, size, name).view(dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type. The header's own length is looked at before that many bytes are read."""
    version = np.lib.format.read_magic(stream)
    count = struct.unpack("<H", stream.read(2))[0] if version == (1, 0) else struct.unpack("<I", stream.read(4))[0]
    if count > _HEADER_LIMIT:
        raise ValueError("NumPy writes no header of that length")
    text = stream.read(count)
    whole = io.BytesIO(struct.pack("<H" if version == (1, 0) else "<I", count) + text)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(whole)
    return shape, fortran, dtype


def _read_npz(path: Path) -> np.ndarray:
    name = path.name
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            members = [item for item in archive.infolist() if item.filename.endswith(".npy")]
            if len(members) != 1:
                raise BadInputError(f"{name} holds {len(members)} arrays; save the wanted one with numpy.save.")
            member = members[0]
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise BadInputError(f"{name} is packed in a way that is not read; save it with numpy.savez_compressed.")
            check_claim(name, member.file_size, path.stat().st_size, DEFLATE_LIMIT)
            with archive.open(member) as inner:
                return _read_array(inner, name, member.file_size)
    except _DAMAGE as error:
        raise BadInputError(f"{name} is damaged or encrypted ({brief(error)}); save it again.") from error
