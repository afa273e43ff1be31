"""The box around the body, so that air is neither resampled nor segmented."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from meduniseg_core.images.boxes import Box, box_of, box_union, whole_box
from meduniseg_core.preprocessing.plan import Normalisation

BODY_HU = -500.0
"""CT voxels above this are tissue or couch. Air is below, and so is most of the lung, which lies inside the box."""

_MARGIN = 2
_COARSE = 128
_KEEP = 0.01


def body_box(array: np.ndarray, normalisation: tuple[Normalisation, ...]) -> Box:
    """Find the box around the body, with a margin of 2 voxels.

    In a CT channel the body is made of the large connected parts above -500 HU: every part of at least 1 % of the
    largest, so that no arm or leg is lost. In any other channel it is what differs from a constant background. The
    boxes of all channels are joined.

    Args:
        array: Voxels ``(C, D, H, W)``.
        normalisation: The kind of each channel; "ct" marks a CT channel in HU.

    Returns:
        The box; the whole grid where no body stands out.
    """
    shape = array.shape[1:]
    box: Box | None = None
    for channel, kind in zip(array, normalisation, strict=True):
        found = _ct_box(channel) if kind == "ct" else foreground_box(channel)
        box = found if box is None else box_union(box, found)
        if box == whole_box(shape):
            break
    return box if box is not None else whole_box(shape)


def constant_background(channel: np.ndarray) -> float | None:
    """Find the constant background of a channel.

    Args:
        channel: Voxels ``(D, H, W)``.

    Returns:
        The value that all 8 corners share; None where they differ.
    """
    corners = channel[np.ix_(*[(0, size - 1) for size in channel.shape])]
    value = corners.flat[0]
    return float(value) if bool((corners == value).all()) else None


def foreground_box(channel: np.ndarray) -> Box:
    """Find the box around what differs from the constant background, with a margin of 2 voxels.

    Args:
        channel: Voxels ``(D, H, W)``.

    Returns:
        The box; the whole grid where the background is not constant.
    """
    background = constant_background(channel)
    if background is None:
        return whole_box(channel.shape)
    return mask_box(channel != background, margin=_MARGIN)


def mask_box(mask: np.ndarray, margin: int = 0) -> Box:
    """Find the box around a mask.

    Args:
        mask: bool, ``(D, H, W)``.
        margin: Voxels to widen the box by.

    Returns:
        The box; the whole grid where the mask is empty.
    """
    box = box_of(mask, margin)
    if box is None:
        return whole_box(mask.shape)
    d, h, w = ((one.start, one.stop) for one in box)
    return d, h, w


def _ct_box(channel: np.ndarray) -> Box:
    # every n-th voxel is enough to find something as thick as a body; the step is added to the margin
    step = [max(1, size // _COARSE) for size in channel.shape]
    mask = channel[:: step[0], :: step[1], :: step[2]] > BODY_HU
    parts, count = ndimage.label(mask)
    if count == 0:
        return whole_box(channel.shape)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    coarse = mask_box((sizes >= max(1.0, _KEEP * sizes.max()))[parts])
    spans = [
        (max(0, low * s - s - _MARGIN), min(size, high * s + s + _MARGIN))
        for (low, high), s, size in zip(coarse, step, channel.shape, strict=True)
    ]
    return spans[0], spans[1], spans[2]
