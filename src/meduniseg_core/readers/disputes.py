"""The regions that readers label differently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from meduniseg_core.readers.agreement import Labels, check_readings, disputed_mask


@dataclass(frozen=True)
class Dispute:
    """One connected region. ``number``: its label in the map of disputes. ``voxel``: one of its voxels (d, h, w), near
    its middle in the slice that holds most of it. ``said``: the labels that readers give in the region."""

    number: int
    voxels: int
    voxel: tuple[int, int, int]
    said: tuple[int, ...]


def disputes(readings: Mapping[str, Labels]) -> tuple[npt.NDArray[np.int32], list[Dispute]]:
    """Find the disputed regions, the largest first.

    Args:
        readings: labels (D, H, W), by the reader's name.

    Returns:
        int32 (D, H, W) with each region's number, 0 elsewhere; and the regions in the order of their numbers.

    Raises:
        BadInputError: there are fewer than two readers, or their labels have different shapes.
    """
    check_readings(readings)
    found, count = ndimage.label(disputed_mask(readings), np.ones((3, 3, 3)))
    sizes = np.bincount(found.ravel(), minlength=count + 1)
    order = sorted(range(1, count + 1), key=lambda region: (-int(sizes[region]), region))
    numbers = np.zeros(count + 1, np.int32)
    numbers[order] = np.arange(1, count + 1, dtype=np.int32)
    numbered = numbers[found]
    regions = []
    for number, box in enumerate(ndimage.find_objects(numbered), start=1):
        mask = numbered[box] == number
        said = sorted({int(label) for one in readings.values() for label in np.unique(one[box][mask])})
        inside = _middle(mask)
        start = [part.start for part in box]
        voxel = (start[0] + inside[0], start[1] + inside[1], start[2] + inside[2])
        regions.append(Dispute(number, int(np.count_nonzero(mask)), voxel, tuple(said)))
    return numbered, regions


def _middle(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int]:
    """A True voxel near the middle of the slice with most of them."""
    plane = int(np.count_nonzero(mask, axis=(1, 2)).argmax())
    places = np.argwhere(mask[plane])
    row, column = places[np.linalg.norm(places - places.mean(axis=0), axis=1).argmin()]
    return plane, int(row), int(column)
