"""Checks that every reader ends with: values that a network can take, and a grid that can exist."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.choices import SeveralImagesError, frames_to_choose

CHANNEL_LIMIT = 4
"""More entries than this along a further axis are time points, not channels (docs/spec.md section 2: stems)."""

LARGEST_VALUE = 1e18
"""Intensities are squared in 32-bit floats, which end at 3e38: one larger voxel would empty the whole label map."""

SPACING_RANGE = (1e-6, 1e3)
"""Plausible voxel sizes in mm: from 1 nm (electron microscopes) to 1 m; no real one lies outside."""

_FARTHEST = 1e6  # mm: a kilometre from the isocentre, where single precision has lost the voxel
_BLOCK = 1 << 20


def brief(error: BaseException) -> str:
    """Shorten another library's error so that it fits into one of our sentences.

    Args:
        error: What was raised.

    Returns:
        The first sentence of its first line, at most 160 characters; the error's type where it has no text.
    """
    lines = str(error).strip().splitlines()
    return (lines[0].split(". ")[0].rstrip(".")[:160] if lines else "") or type(error).__name__


def check_numeric(array: np.ndarray, name: str) -> np.ndarray:
    """Bring voxels into a dtype that can be computed with.

    Args:
        array: Voxels of any shape.
        name: The file's name, for the message.

    Returns:
        The array in native byte order; bool becomes uint8.

    Raises:
        BadInputError: The array is empty, or holds complex numbers, text or objects.
    """
    if array.size == 0:
        raise BadInputError(
            f"{name} is empty: its size is {'x'.join(map(str, array.shape))}; save an image with voxels."
        )
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind not in "uif" or array.dtype.itemsize > 8:
        raise BadInputError(f"{name} holds values of type {array.dtype}; save it with integer or float values.")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def check_finite(array: np.ndarray, name: str) -> None:
    """Check that no value is NaN, infinite or beyond `LARGEST_VALUE`.

    Args:
        array: Voxels of any shape.
        name: The file's name, for the message.

    Raises:
        BadInputError: There are such values; the message says how many.
    """
    if array.dtype.kind != "f":
        return
    unknown = beyond = 0
    example = 0.0
    limit = min(LARGEST_VALUE, float(np.finfo(array.dtype).max))
    for block in _blocks(array):
        fits = np.abs(block) <= limit  # False for NaN, too
        if fits.all():
            continue
        strange = block[~fits]
        finite = strange[np.isfinite(strange)]
        unknown += strange.size - finite.size
        beyond += finite.size
        example = float(finite[0]) if finite.size else example
    remedy = "replace them (with the background value, say) and save it again"
    if unknown:
        raise BadInputError(f"{name} holds {unknown:,} voxels that are NaN or infinite; {remedy}.")
    if beyond:
        raise BadInputError(
            f"{name} holds {beyond:,} voxels beyond what can be computed with ({example:.3g}, say, a mark for missing "
            f"data?); {remedy}."
        )


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Flat pieces of ``array``, small enough that arrays derived from them take little memory."""
    for part in array if array.ndim > 1 else (array,):
        flat = part.reshape(-1)
        for start in range(0, flat.size, _BLOCK):
            yield flat[start : start + _BLOCK]


def check_spacing(spacing: tuple[float, ...], name: str) -> None:
    """Check that a voxel size is positive, finite and within `SPACING_RANGE`.

    Args:
        spacing: Sizes in mm, of any number of axes.
        name: The file's name, for the message.

    Raises:
        BadInputError: A size is not.
    """
    sizes = " x ".join(f"{value:g}" for value in spacing)
    if not all(np.isfinite(value) and value > 0 for value in spacing):
        raise BadInputError(
            f"{name} gives a voxel size of {sizes}, which is impossible; correct its header and save it again."
        )
    if not all(SPACING_RANGE[0] <= value <= SPACING_RANGE[1] for value in spacing):
        raise BadInputError(
            f"{name} gives a voxel size of {sizes} mm, which no microscope and no scanner has; correct the size or its "
            "unit in the header and save it again."
        )


def check_affine(affine: np.ndarray, name: str) -> None:
    """Check that an index-to-world matrix describes a grid that can exist.

    Args:
        affine: (4, 4), from voxel index to mm.
        name: The file's name, for the message.

    Raises:
        BadInputError: The matrix holds NaN, its axes lie in one plane, its voxel size is impossible, or its origin lies
            more than a kilometre from the scanner's centre.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    if not np.isfinite(matrix).all():
        raise BadInputError(f"{name} has NaN or infinity in its orientation; correct its header and save it again.")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    check_spacing(tuple(float(value) for value in lengths), name)
    if abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-3:
        raise BadInputError(
            f"{name} has an orientation whose axes lie in one plane; correct its header and save it again."
        )
    if np.abs(matrix[:3, 3]).max() > _FARTHEST:
        raise BadInputError(
            f"{name} lies {np.abs(matrix[:3, 3]).max():.3g} mm from its scanner's centre, which is impossible; correct "
            "the origin in its header and save it again."
        )


def check_channel_count(count: int, name: str) -> None:
    """Check that the entries beyond the three spatial axes are few enough to be channels.

    Args:
        count: How many entries there are.
        name: The file's name, for the message.

    Raises:
        SeveralImagesError: There are more than four, so they are frames to choose from.
    """
    if count > CHANNEL_LIMIT:
        raise SeveralImagesError(
            f"{name} holds {count} volumes (time points, say) and at most {CHANNEL_LIMIT} channels are read; "
            f"pick one with --frame 1 to {count} (Python: frame=...), or save the wanted one as a 3D file of its own.",
            frames_to_choose(count),
        )
