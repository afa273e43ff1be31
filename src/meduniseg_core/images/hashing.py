"""What identifies an image, whatever its name and file format."""

from __future__ import annotations

import hashlib

import numpy as np


def voxel_hash(array: np.ndarray, affine: np.ndarray, physical: bool) -> str:
    """Compute an image's identity: sha256 over dtype, shape, voxels and geometry (`Image.sha256`).

    It identifies the image as it was read: for a DICOM folder only the chosen series counts, and for one file per
    channel the image that they make together. The affine counts in float32, as NIfTI stores it, so that an image keeps
    its hash when it is written and read again.

    Args:
        array: Voxels ``(C, D, H, W)``.
        affine: (4, 4), from indices to LPS mm.
        physical: Whether the image has a size in mm.

    Returns:
        64 lower-case hexadecimal digits.
    """
    little = array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype
    digest = hashlib.sha256()
    digest.update(f"{little.str} {array.shape} {bool(physical)}\n".encode("ascii"))
    rounded = affine.astype("<f4") + np.float32(0)  # no -0.0
    digest.update(rounded.tobytes())
    for channel in array:
        for plane in channel:  # by plane: a turned view needs no copy of the whole
            digest.update(np.ascontiguousarray(plane, dtype=little).view(np.uint8).reshape(-1).data)
    return digest.hexdigest()
