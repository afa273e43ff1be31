"""Where the body is: a box, so that air is neither resampled nor segmented."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from meduniseg_core.images.boxes import Box, box_of, box_union, whole_box
from meduniseg_core.preprocessing.plan import Normalisation

BODY_HU = -500.0
"""Above this a CT voxel is tissue or couch; air, and most of the lung, which lies inside the box anyway, is below."""

_MARGIN = 2
_COARSE = 128
_KEEP = 0.01


def body_box(array: np.ndarray, normalisation: tuple[Normalisation, ...]) -> Box:
    """The box of the body in ``array`` (C, D, H, W), with a margin of 2 voxels; the whole grid where nothing is clear.

    A CT channel's body are the large connected parts above -500 HU (every part of at least 1 % of the largest, so that
    neither leg nor arm is lost). Another channel's is what differs from a constant background. The channels' boxes are
    joined, so that no channel loses anything.
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
    """The value that all 8 corners of a (D, H, W) channel share: its background; None where they differ."""
    corners = channel[np.ix_(*[(0, size - 1) for size in channel.shape])]
    value = corners.flat[0]
    return float(value) if bool((corners == value).all()) else None


def foreground_box(channel: np.ndarray) -> Box:
    """The box of what differs from the constant background of a (D, H, W) channel; all of it where there is none."""
    background = constant_background(channel)
    if background is None:
        return whole_box(channel.shape)
    return mask_box(channel != background, margin=_MARGIN)


def mask_box(mask: np.ndarray, margin: int = 0) -> Box:
    """The box of a (D, H, W) mask widened by ``margin`` voxels; the whole grid where the mask is empty."""
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
