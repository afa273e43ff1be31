"""How large a data set's objects are in its images, which decides how far an image may be scaled down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.measure import label, regionprops

from meduniseg_core.images import read_labels
from meduniseg_core.preprocessing.dataset import RawDataset

CASES = 20


@dataclass(frozen=True)
class ObjectScale:
    """The scale of a data set's objects.

    ``diameter`` is that of the class with the smallest objects, as a share of the image's longer side. ``longest_side``
    is the median of the images' longer sides, in pixels.
    """

    diameter: float
    longest_side: int


def object_scale(dataset: RawDataset) -> ObjectScale | None:
    """Measure the objects of a data set of 2D images, from at most 20 of its training labels, evenly chosen.

    An object is a connected component; its size is the diameter of a circle of the same area. A class's size is the
    median over its objects, weighted by area, so that specks do not count.

    Args:
        dataset: The data set.

    Returns:
        The scale; None where the labels hold no object.

    Raises:
        BadInputError: A label map cannot be read, or the data set has no training cases.
    """
    cases = dataset.training_cases()
    sizes: dict[int, list[tuple[float, float]]] = {}
    sides = []
    for case in cases[:: -(-len(cases) // CASES) or 1]:
        assert case.label is not None
        array = read_labels(case.label).array[0, 0]
        side = max(array.shape)
        sides.append(side)
        for index in range(1, len(dataset.classes) + 1):
            for region in regionprops(label(array == index, connectivity=2)):
                sizes.setdefault(index, []).append((region.equivalent_diameter_area / side, region.area / side**2))
    if not sizes:
        return None
    return ObjectScale(min(_weighted_median(own) for own in sizes.values()), int(np.median(sides)))


def _weighted_median(values: list[tuple[float, float]]) -> float:
    size, weight = np.array(sorted(values)).T
    return float(size[np.searchsorted(np.cumsum(weight), weight.sum() / 2)])
