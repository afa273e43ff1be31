"""Checks whether the files taken as the channels of one case look like images of two cases.

``pat_0000`` and ``pat_0001`` may be CT and PET of one patient, or two patients: a task with two channels takes them as
the former because of their names. If they look alike, the user is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from meduniseg_core.images import Finding, Image
from meduniseg_core.preprocessing.channel_names import is_colour, modality_of_channel

_QUANTILES = (1, 5, 25, 50, 75, 95, 99)
_ALIKE = 0.1  # of the range of values: how far apart the quantiles of two images of one kind may lie
_SAMPLE = 100_000  # voxels that are looked at


def doubtful_channels(image: Image, channels: Sequence[str]) -> Finding | None:
    """Look for channels that do not seem to belong to one case.

    That is: two channels of different kinds (CT and PET) with the same distribution of values, or any two with
    identical voxels. MR sequences cannot be told apart by their values, so they are not compared.

    Args:
        image: (C, D, H, W).
        channels: the channels' names.

    Returns:
        A finding about the first such pair; None if there is none.
    """
    if is_colour(tuple(channels)) or image.channels != len(channels):
        return None
    kinds = [modality_of_channel(name) for name in channels]
    for first, second in combinations(range(image.channels), 2):
        same = np.array_equal(image.array[first], image.array[second]) and np.ptp(image.array[first]) > 0
        differ = None not in (kinds[first], kinds[second]) and kinds[first] != kinds[second]
        if same or (differ and _look_alike(image.array[first], image.array[second])):
            return Finding("channel_pair_doubtful", _text(image, channels, first, second, same))
    return None


def _look_alike(one: np.ndarray, other: np.ndarray) -> bool:
    quantiles = np.array([np.percentile(_sample(channel), _QUANTILES) for channel in (one, other)])
    span = float(quantiles.max() - quantiles.min())
    return span > 0 and float(np.abs(quantiles[0] - quantiles[1]).max()) <= _ALIKE * span


def _sample(channel: np.ndarray) -> np.ndarray:
    flat = channel.reshape(-1)
    return flat[:: max(1, flat.size // _SAMPLE)].astype(np.float64)


def _text(image: Image, channels: Sequence[str], first: int, second: int, same: bool) -> str:
    files = image.files
    names = [files[index].name if len(files) == image.channels else f"channel {index}" for index in (first, second)]
    how = "hold the very same voxels" if same else "look alike, as two patients' images of one kind do"
    return (
        f"{names[0]} and {names[1]} are taken as {channels[first]} and {channels[second]} of one case and "
        f"{how}: check that they belong together, and that numbers of patients do not end in _0000, _0001."
    )
