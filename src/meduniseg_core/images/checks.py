"""Checks every reader ends with: values a network can take, a grid that exists."""

from __future__ import annotations

import numpy as np

from meduniseg_core.errors import BadInputError

CHANNEL_LIMIT = 4
"""More entries than this along a further axis are time points or measurements, not channels (SPEC section 2: stems)."""


def brief(error: BaseException) -> str:
    """The first line and sentence of another library's error, short enough to stand within ours."""
    lines = str(error).strip().splitlines()
    return (lines[0].split(". ")[0].rstrip(".")[:160] if lines else "") or type(error).__name__


def check_numeric(array: np.ndarray, name: str) -> np.ndarray:
    """``array`` in native byte order; bool becomes uint8. Empty, complex, text and object arrays are refused."""
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
    """Refuse NaN and infinity, saying how many there are."""
    if array.dtype.kind != "f":
        return
    bad = 0
    for block in array.reshape(array.shape[0], -1) if array.ndim > 1 else (array,):
        bad += block.size - int(np.count_nonzero(np.isfinite(block)))
    if bad:
        raise BadInputError(
            f"{name} holds {bad:,} voxels that are NaN or infinite; replace them (with the background value, say) "
            "and save it again."
        )


def check_spacing(spacing: tuple[float, ...], name: str) -> None:
    """Refuse a voxel size that is zero, negative, NaN or infinite."""
    if not all(np.isfinite(value) and value > 0 for value in spacing):
        sizes = " x ".join(f"{value:g}" for value in spacing)
        raise BadInputError(
            f"{name} gives a voxel size of {sizes}, which cannot be; correct its header and save it again."
        )


def check_affine(affine: np.ndarray, name: str) -> None:
    """Refuse an index-to-world matrix with NaN, or whose axes fall into one plane."""
    matrix = np.asarray(affine, dtype=np.float64)
    if not np.isfinite(matrix).all():
        raise BadInputError(f"{name} has NaN or infinity in its orientation; correct its header and save it again.")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    check_spacing(tuple(float(value) for value in lengths), name)
    if abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-3:
        raise BadInputError(
            f"{name} has an orientation whose axes lie in one plane; correct its header and save it again."
        )


def check_channel_count(count: int, name: str) -> None:
    """Refuse more than four entries beyond the three axes of space."""
    if count > CHANNEL_LIMIT:
        raise BadInputError(
            f"{name} holds {count} volumes (time points, say) and at most {CHANNEL_LIMIT} channels are read; "
            "save the wanted one as a 3D file of its own."
        )
