"""NumPy files: ``.npy``, and ``.npz`` with one array. Nothing is unpickled."""

from __future__ import annotations

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
from meduniseg_core.images.geometry import Geometry
from meduniseg_core.images.image import Image
from meduniseg_core.images.raw_data import DEFLATE_LIMIT, check_claim, claimed_bytes, read_exactly


def read_numpy(path: Path) -> Image:
    """Read an array of shape (H, W), (H, W, 3) uint8 (a colour picture), (D, H, W) or (C, D, H, W), C at most 4.

    It has no place in the patient: ``physical`` is False, the spacing 1. Raises BadInputError for pickled objects,
    truncated files, shapes the file cannot hold, NaN or infinity, and an ``.npz`` with more than one array.
    """
    name = path.name
    if name.lower().endswith(".npz"):
        array = _read_npz(path)
    else:
        with open_regular(path) as stream:
            array = _read_array(stream, name, path.stat().st_size)
    array = check_numeric(array, name)
    colour = array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8
    if colour:
        array = np.moveaxis(array, -1, 0)[:, None]
    elif array.ndim in (2, 3, 4):
        array = array.reshape((1,) * (4 - array.ndim) + array.shape)
    else:
        raise BadInputError(f"{name} has shape {array.shape}; save it as (H, W), (D, H, W) or (C, D, H, W).")
    check_channel_count(array.shape[0], name)
    array = np.ascontiguousarray(array)
    check_finite(array, name)
    shape = (int(array.shape[1]), int(array.shape[2]), int(array.shape[3]))
    meta: dict[str, Any] = {"format": "numpy", "dtype": str(array.dtype)}
    if shape[0] == 1:
        meta["colour"] = "rgb" if colour else "grey"
    return Image(array, Geometry(shape, (1.0, 1.0, 1.0)), physical=False, source=path, meta=meta)


def write_numpy(path: Path, array: np.ndarray) -> None:
    """Write ``(C, D, H, W)`` atomically, without its leading axes of length 1: (H, W) for one slice of one channel."""
    flat = array
    while flat.ndim > 2 and flat.shape[0] == 1:
        flat = flat[0]
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, flat, allow_pickle=False)


def _read_array(stream: IO[bytes], name: str, available: int) -> np.ndarray:
    """The array of an ``.npy`` stream of ``available`` bytes, header checked first."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's remark on headers written by Python 2
            version = np.lib.format.read_magic(stream)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = reader(stream)
    except (ValueError, TypeError, SyntaxError, TokenError, EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
        raise BadInputError(f"{name} is not a NumPy array file; save it with numpy.save.") from error
    if dtype.hasobject or dtype.kind not in "buif":
        raise BadInputError(f"{name} holds {dtype} values, which are not read; save it with integer or float values.")
    if any(size < 0 for size in shape):
        raise BadInputError(f"{name} has an impossible shape {shape}; save it again.")
    size = claimed_bytes(shape, dtype.itemsize)
    check_claim(name, size, available)
    array = read_exactly(stream, size, name).view(dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _read_npz(path: Path) -> np.ndarray:
    name = path.name
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
            members = [item for item in archive.infolist() if item.filename.endswith(".npy")]
            if len(members) != 1:
                raise BadInputError(f"{name} holds {len(members)} arrays; save the wanted one with numpy.save.")
            member = members[0]
            check_claim(name, member.file_size, path.stat().st_size, DEFLATE_LIMIT)
            with archive.open(member) as inner:
                return _read_array(inner, name, member.file_size)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BadInputError(f"{name} is damaged or encrypted ({brief(error)}); save it again.") from error
