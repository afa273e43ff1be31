"""A NIfTI header may give a volume's place twice: by its sform and by its qform, with voxel sizes of its own."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from meduniseg_core.images.findings import Finding

_TOLERANCE = 0.05
"""The largest difference that counts as none, as a fraction of the smallest voxel edge (as in `images.grid`)."""


def places_that_differ(header: Any, name: str) -> Finding | None:
    """What is to be said where the sform, which is read, and the rest of the header disagree.

    Programs differ in which they take: the same file, and a label map on its grid, lie at two places then. A
    registration that moved or turned the volume a little is told as a note; other sides or voxel sizes as a warning.

    Args:
        header: nibabel's, mended.
        name: The file's.

    Returns:
        A finding; None where nothing differs, or the place is given once.
    """
    if int(header["sform_code"]) <= 0 or int(header["dim"][0]) < 3:
        return None
    sform = np.asarray(header.get_sform(), dtype=np.float64)
    sizes, stored = np.linalg.norm(sform[:3, :3], axis=0), np.abs(header["pixdim"][1:4].astype(np.float64))
    if not (np.isfinite(sform).all() and sizes.all()):
        return None  # refused elsewhere
    last = np.maximum(header["dim"][1:4].astype(np.float64) - 1, 1)
    slack = _TOLERANCE * sizes.min()
    if np.any(np.abs(sizes - stored) * last > slack):
        return _said(name, f"voxel sizes of {_listed(sizes)} by its sform and of {_listed(stored)} by its pixdim")
    if int(header["qform_code"]) <= 0:
        return None
    try:
        qform = np.asarray(header.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError):
        return None
    corners = np.array([[*corner, 1.0] for corner in np.ndindex(2, 2, 2)]) * [*last, 1.0]
    apart = float(np.linalg.norm((corners @ (sform - qform).T)[:, :3], axis=1).max())
    if not np.isfinite(apart) or apart <= slack:
        return None
    directions = ["".join(nib.aff2axcodes(affine)) for affine in (sform, qform)]
    if directions[0] != directions[1]:
        return _said(name, f"the orientation {directions[0]} by its sform and {directions[1]} by its qform")
    return _said(name, f"two places, by its sform and its qform, up to {apart:.3g} mm apart", "info")


def _said(name: str, what: str, level: Any = "warning") -> Finding:
    return Finding(
        "places_differ", f"{name} gives {what}: the sform is read, and programs that read the other see it elsewhere.",
        level,
    )  # fmt: skip


def _listed(sizes: np.ndarray) -> str:
    return " x ".join(f"{size:.3g}" for size in sizes)
