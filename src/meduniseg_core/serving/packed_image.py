"""An image on its way to the server, exactly as it is in memory: its voxels, and what is known about it."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import open_regular
from meduniseg_core.images import Geometry, Image
from meduniseg_core.images.checks import check_finite, check_spacing
from meduniseg_core.images.upright import KEY
from meduniseg_core.structured_text import parse_json

ENDING = ".mseg"
"""The ending of such files, which nobody keeps."""

_ABOUT, _VOXELS = "image.json", "voxels"
_LARGEST_ABOUT = 1 << 20
_LOCAL = frozenset({"sources", KEY})  # of this machine's files alone
_DAMAGE = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, ValueError, KeyError, TypeError)


class _About(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    shape: tuple[int, int, int, int]
    dtype: str
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
    physical: bool
    meta: dict[str, bool | int | float | str | None]


def write_packed(image: Image, path: Path) -> None:
    """Write an image for the server.

    Args:
        image: the image.
        path: the file.
    """
    geometry = image.geometry
    about = _About(
        shape=(image.channels, *geometry.shape),
        dtype=image.array.dtype.newbyteorder("<").str,
        spacing=geometry.spacing,
        origin=geometry.origin,
        direction=geometry.direction,
        physical=image.physical,
        meta={key: value for key, value in image.meta.items() if key not in _LOCAL and _is_plain(value)},
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        packed.writestr(_ABOUT, about.model_dump_json())
        with packed.open(_VOXELS, "w", force_zip64=True) as stream:
            for channel in image.array:
                for plane in channel:
                    stream.write(np.ascontiguousarray(plane, about.dtype).tobytes())


def read_packed(path: Path, most: int) -> Image:
    """Read an image that a client has sent.

    Args:
        path: the file.
        most: bytes that its voxels may have.

    Returns:
        The image, in memory.

    Raises:
        BadInputError: it is no such file, is too large, or its voxels are not what it says.
    """
    try:
        with open_regular(path) as stream, zipfile.ZipFile(stream) as packed:
            with packed.open(_ABOUT) as text:
                about = _About.model_validate(parse_json(text.read(_LARGEST_ABOUT)))
            dtype = np.dtype(about.dtype)
            size = math.prod(about.shape) * dtype.itemsize
            if dtype.kind not in "iuf" or min(about.shape) < 1 or size > most:
                raise BadInputError(f"The image is too large or no image ({size} bytes); send a part of it.")
            with packed.open(_VOXELS) as voxels:
                data = voxels.read(size + 1)
    except (*_DAMAGE, ValidationError) as error:
        raise BadInputError(
            f"{path.name} is not an image in the form that clients send; update both programs."
        ) from error
    if len(data) != size:
        raise BadInputError(f"{path.name} broke off; send it again.")
    array = np.frombuffer(data, dtype).reshape(about.shape)
    check_finite(array, path.name)
    check_spacing(about.spacing, path.name)
    geometry = Geometry(about.shape[1:], about.spacing, about.origin, about.direction)
    return Image(array, geometry, physical=about.physical, meta=about.meta)


def _is_plain(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | int | str)
