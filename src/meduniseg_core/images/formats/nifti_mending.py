"""Faults of NIfTI headers that leave no doubt about what was meant, corrected as the format's own library does."""

from __future__ import annotations

from typing import Any

import numpy as np

_ROUNDING = 0.02
"""By how much b2 + c2 + d2 of a quaternion may exceed 1: twice what rounding to two decimals does to it."""


def mend_header(header: Any) -> list[str]:
    """Correct a header in place.

    - ``pixdim[0]`` (qfac) is -1 or 1: its sign counts, and 0 means 1.
    - The quaternion has length 1: one that rounding made slightly longer is shortened.
    - An sform of zeros was never filled in: beside a qform it does not count.
    - Sizes of 0 along axes beyond the third mean 1.

    Args:
        header: nibabel's header, unchecked.

    Returns:
        What was corrected, as half-sentences.
    """
    mended = []
    rank = int(header["dim"][0])
    if 4 <= rank <= 7 and (header["dim"][4 : rank + 1] == 0).any():
        header["dim"][4 : rank + 1] = np.maximum(header["dim"][4 : rank + 1], 1)
        mended.append("its further axes have the size 0, which is 1")
    if int(header["qform_code"]) <= 0:
        return mended
    rows = [header[field][:3] for field in ("srow_x", "srow_y", "srow_z")]
    if int(header["sform_code"]) > 0 and not np.any(rows):
        header["sform_code"] = 0
        mended.append("its sform is empty, so the qform was used")
    handedness = float(header["pixdim"][0])
    if np.isfinite(handedness) and handedness not in (-1.0, 1.0):
        header["pixdim"][0] = -1.0 if handedness < 0 else 1.0
        mended.append(f"its qfac is {handedness:g}, which is {header['pixdim'][0]:g}")
    fields = ("quatern_b", "quatern_c", "quatern_d")
    quaternion = np.array([float(header[field]) for field in fields])
    square = float(quaternion @ quaternion)
    if abs(header.quaternion_threshold) < square - 1 <= _ROUNDING:
        for field, value in zip(fields, quaternion / np.sqrt(square), strict=True):
            header[field] = value
        mended.append("its quaternion is a little longer than 1, from rounding")
    return mended
