"""What tells two images apart, whatever they are called and however they are stored."""

from __future__ import annotations

import hashlib

import numpy as np


def voxel_hash(array: np.ndarray, affine: np.ndarray, physical: bool) -> str:
    """sha256 over dtype, shape, voxels and geometry, as 64 hexadecimal digits: `Image.sha256`.

    Of the image as it was read: a folder of DICOM is the series that was chosen (another object beside it changes
    nothing), files of channels are the one image they make. The affine counts in float32, as NIfTI stores it: an image
    keeps its hash when it is written and read again.

    Args:
        array: Voxels (C, D, H, W).
        affine: From indices to LPS mm, (4, 4).
        physical: Whether the image has a size in mm.

    Returns:
        Lower-case hexadecimal digits.
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
