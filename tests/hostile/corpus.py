"""Hostile and odd files of every format, made by code: each with what must come of it.

"refused": one sentence that names the file; "read": an image. Files are small; what they claim may not be.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import cache

import numpy as np
from hostile import pictures, volumes
from hostile.file import Hostile
from hostile.more import more


@cache
def corpus() -> list[Hostile]:
    """All of them; names are unique."""
    parts = (
        volumes.nifti(),
        volumes.nrrd(),
        volumes.metaimage(),
        pictures.png(),
        pictures.other_pictures(),
        pictures.tiff(),
        pictures.numpy(),
        volumes.dicom(),
        _anything(),
        more(),
    )
    return [item for part in parts for item in part]


def _anything() -> Iterator[Hostile]:
    endings = (
        ".nii",
        ".nii.gz",
        ".nrrd",
        ".nhdr",
        ".mha",
        ".mhd",
        ".png",
        ".bmp",
        ".jpg",
        ".tif",
        ".npy",
        ".npz",
        ".dcm",
    )
    random = np.random.default_rng(5).integers(0, 256, 4096, dtype=np.uint8).tobytes()
    for ending in endings:
        yield Hostile(f"any_empty{ending}", b"", "refused")
        yield Hostile(f"any_zeros{ending}", bytes(4096), "refused")
        yield Hostile(f"any_random{ending}", random, "refused")
    yield Hostile("any_json.nii.gz", gzip.compress(json.dumps({"a": 1}).encode()), "refused")
