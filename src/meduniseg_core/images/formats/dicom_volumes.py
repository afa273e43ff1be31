"""The volumes of a DICOM series with several slices at each place: time points, cardiac phases, echoes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np

from meduniseg_core.images.formats.dicom_slices import Slice

_SAME_PLACE = 0.1  # of the usual distance of slices: nearer ones lie at one place
_LEAST = 1e-3  # mm

Volumes = list[tuple[str, list[Slice]]]
"""Each volume, after the text that tells it from the others ("TriggerTime 120")."""


def volumes_of(slices: Sequence[Slice]) -> Volumes:
    """Sort the slices of one series into volumes.

    The slices at each place are ranked by the first mark that differs at all places. So trigger times work, which vary
    a little from place to place.

    Args:
        slices: Frames with a place (`dicom_stack.is_placed`).

    Returns:
        The volumes, in the order of what tells them apart; one, without a name, where nothing does.
    """
    places = _places(slices)
    count = len(places[0])
    if count == 1 or any(len(place) != count for place in places):
        return [("", list(slices))]
    for keywords in _candidates(slices):
        ranked = [_ranked(place, keywords) for place in places]
        if all(place is not None for place in ranked):
            volumes = [[place[rank] for place in ranked if place is not None] for rank in range(count)]
            return [(_mark(volume[0], keywords), volume) for volume in volumes]
    return [("", list(slices))]


def by_part(groups: Sequence[list[Slice]]) -> Volumes:
    """Name and sort the volumes of one multi-frame file.

    Args:
        groups: The frames of each volume, which share their ``part``.

    Returns:
        The volumes sorted by part, with numbers in numerical order.
    """
    named = [(" ".join(group[0].part), group) for group in groups]
    return sorted(named, key=lambda item: _natural(item[0]))


def _places(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Slices by their place along the stack."""
    heights = _heights(slices)
    order = np.argsort(heights, kind="stable")
    gaps = np.diff(heights[order])
    apart = gaps[gaps > _LEAST]
    least = max(_LEAST, _SAME_PLACE * float(np.median(apart))) if apart.size else np.inf
    ends = np.flatnonzero(gaps > least) + 1
    return [[slices[int(index)] for index in part] for part in np.split(order, ends)]


def _heights(slices: Sequence[Slice]) -> np.ndarray:
    first = slices[0]
    if any(item.position is None for item in slices):
        return np.array([item.location for item in slices], dtype=np.float64)
    positions = np.array([item.position for item in slices], dtype=np.float64)
    if first.orientation is None:
        return np.asarray(positions[:, int(np.argmax(np.ptp(positions, axis=0)))])
    return np.asarray(positions @ np.cross(first.orientation[:3], first.orientation[3:]))


def _candidates(slices: Sequence[Slice]) -> list[tuple[str, ...]]:
    """Marks that all slices have and that are not all equal, alone and then in pairs."""
    values = [dict(item.marks) for item in slices]
    keywords = [keyword for keyword, _ in slices[0].marks if all(keyword in value for value in values)]
    telling = [keyword for keyword in keywords if len({value[keyword] for value in values}) > 1]
    return [*((keyword,) for keyword in telling), *itertools.combinations(telling, 2)]


def _ranked(place: Sequence[Slice], keywords: Sequence[str]) -> list[Slice] | None:
    """The slices of a place in the order of these marks; None where two are equal in them."""
    keys = {index: tuple(dict(item.marks)[keyword] for keyword in keywords) for index, item in enumerate(place)}
    if len(set(keys.values())) < len(place):
        return None
    numbers = all(isinstance(value, float) for key in keys.values() for value in key)
    order = sorted(keys, key=lambda index: keys[index] if numbers else _natural(str(keys[index])))
    return [place[index] for index in order]


def _mark(item: Slice, keywords: Sequence[str]) -> str:
    marks = dict(item.marks)
    return ", ".join(
        f"{keyword} {marks[keyword]:g}" if isinstance(marks[keyword], float) else f"{keyword} {marks[keyword]}"
        for keyword in keywords
    )


def _natural(text: str) -> list[tuple[float, str]]:
    """A key by which "phase 10" follows "phase 9"."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(float(part), "") if index % 2 else (-1.0, part) for index, part in enumerate(parts)]
