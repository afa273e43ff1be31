"""What tells two images apart, whatever they are called and however they are stored."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from meduniseg_core.images.image import Image


def image_hash(image: Image) -> str:
    """sha256 over dtype, shape ``(C, D, H, W)``, voxels and geometry, as 64 hexadecimal digits.

    Of the image as it was read: a folder of DICOM is the series that was chosen (another object beside it changes
    nothing), files of channels are the one image they make. The affine counts in float32, as NIfTI stores it: an image
    keeps its hash when it is written and read again.
    """
    array = image.array
    little = array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype
    digest = hashlib.sha256()
    digest.update(f"{little.str} {array.shape} {bool(image.physical)}\n".encode("ascii"))
    affine = image.geometry.affine.astype("<f4") + np.float32(0)  # no -0.0
    digest.update(affine.tobytes())
    for channel in array:
        for plane in channel:  # by plane: a turned view needs no copy of the whole
            digest.update(np.ascontiguousarray(plane, dtype=little).view(np.uint8).reshape(-1).data)
    return digest.hexdigest()
