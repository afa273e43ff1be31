"""Marker values for voxels without a measurement (outside the field of view, or beyond a resampled image's edge).

They are intensities that no tissue can have: -2000 in a CT, -32768 or 65535 in an MR. Taken for measurements, they
would shift an MR's mean and standard deviation, and bleed into their neighbours when the image is resampled.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

AIR = -1000.0
"""HU: what replaces voxels of a CT without a measurement."""

_BELOW_AIR = -1100.0  # HU: nothing is thinner than air, whose noise ends here
_LOW = -100.0  # standardised images have backgrounds nearer to 0 than this
_LARGEST = (32767.0, 65535.0, 2.0**31 - 1, 2.0**32 - 1)  # of 16 and 32 bits
_LEAST_SHARE = 1e-3
_SAMPLE = 200_000  # voxels that are looked at for what the others are like


@dataclass(frozen=True)
class NoData:
    """A marker value in one channel: the value, the share of voxels that have it, and what replaces it."""

    value: float
    share: float
    fill: float


def nodata_of(channel: np.ndarray, hounsfield: bool) -> tuple[NoData, ...]:
    """Find the marker values for missing measurements in one channel.

    A marker is a whole number that many voxels share and that lies further from all other values than they lie from
    each other. It is negative, or it is the largest value of 16 or 32 bits and fills a corner of the image (metal does
    not). In Hounsfield units, any such value below air is a marker.

    Args:
        channel: Voxels ``(D, H, W)``.
        hounsfield: Whether the values are Hounsfield units. Air then replaces the marker, else the lowest measurement.

    Returns:
        None, one (low or high) or both.
    """
    if channel.dtype == np.uint8 or channel.size == 0:
        return ()
    candidates = [value for value in (float(channel.min()), float(channel.max())) if _may_be_mark(value)]
    if not candidates:
        return ()
    flat = channel.reshape(-1)
    sample = flat[:: max(1, flat.size // _SAMPLE) | 1]
    others = sample[~np.isin(sample, np.array(candidates, dtype=np.float64))]
    if others.size == 0:
        return ()
    low, high = (float(value) for value in np.percentile(others, (0.1, 99.9)))
    marks = []
    for value in candidates:
        if not _stands_apart(value, low, high, hounsfield) or (value > 0 and value not in _corners(channel)):
            continue
        share = float(np.count_nonzero(channel == value)) / channel.size
        if share >= _LEAST_SHARE:
            marks.append(NoData(value, share, AIR if hounsfield else float(others.min())))
    return tuple(marks)


def filled(channel: np.ndarray, marks: tuple[NoData, ...]) -> np.ndarray:
    """Replace the marker values of a channel.

    Args:
        channel: Voxels ``(D, H, W)``.
        marks: What `nodata_of` found.

    Returns:
        A copy in the same dtype; the channel itself where there are no markers.
    """
    if not marks:
        return channel
    result = channel.copy()
    for mark in marks:
        result[channel == mark.value] = mark.fill
    return result


def _may_be_mark(value: float) -> bool:
    # -1000 means air wherever it stands: a clipped CT, and where that is given to another task it must be called a CT
    return value == round(value) and value != AIR and (value <= _LOW or value in _LARGEST)


def _stands_apart(value: float, low: float, high: float, hounsfield: bool) -> bool:
    if hounsfield and value < 0:
        return value < _BELOW_AIR <= low
    return (low - value if value < 0 else value - high) > max(high - low, 1.0)


def _corners(channel: np.ndarray) -> set[float]:
    return {float(channel[place]) for place in itertools.product((0, -1), repeat=channel.ndim)}
