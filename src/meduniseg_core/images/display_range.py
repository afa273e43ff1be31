"""Which intensities an image is first shown in, from black to white."""

from __future__ import annotations

import numpy as np

from meduniseg_core.images.image import Image
from meduniseg_core.images.modality_check import CT_WINDOWS, looks_like_ct, sample

_BLACK, _WHITE = 0.5, 99.5  # percentiles: single bright voxels (vessels, artefacts, a bladder) leave the rest in sight


def display_range(image: Image) -> tuple[float, float] | None:
    """Choose the intensities that are black and white when an image is opened.

    A CT has its soft-tissue window. Of other images it is what almost all voxels have; white is chosen without those of
    the lowest value, as the air around a head may fill most of its volume.

    Args:
        image: ``(1, D, H, W)``.

    Returns:
        Black and white; None for pictures of 8 bits, which are shown as they are, and where all voxels are equal.
    """
    if looks_like_ct(image):
        return CT_WINDOWS[0].low, CT_WINDOWS[0].high
    if image.is_2d and image.array.dtype == np.uint8:
        return None
    values = sample(image.array[0])
    values = values[np.isfinite(values)]
    above = values[values > values.min()] if values.size else values
    if not above.size:
        return None
    low, high = float(np.percentile(values, _BLACK)), float(np.percentile(above, _WHITE))
    return (low, high) if low < high else (float(values.min()), float(values.max()))
