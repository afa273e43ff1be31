"""The colours of classes: one palette for results, reports and plots, so that a class looks the same everywhere."""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Collection

Colour = tuple[int, int, int]
"""RGB, 0 to 255."""

_DISTINCT: tuple[Colour, ...] = (
    (230, 25, 75), (60, 180, 75), (0, 130, 200), (255, 225, 25), (245, 130, 48), (145, 30, 180), (70, 240, 240),
    (240, 50, 230), (210, 245, 60), (250, 190, 212), (0, 128, 128), (220, 190, 255), (170, 110, 40), (255, 250, 200),
    (128, 0, 0), (170, 255, 195), (128, 128, 0), (255, 215, 180), (0, 0, 128), (128, 128, 128),
)  # fmt: skip
_GOLDEN_ANGLE = 0.381966


def class_colour(label: int) -> Colour:
    """Choose a class's colour: the same in every run, and distinct from its neighbours'.

    Args:
        label: The class's id, 1 or more.

    Returns:
        RGB, 0 to 255.
    """
    if label <= len(_DISTINCT):
        return _DISTINCT[label - 1]
    red, green, blue = colorsys.hsv_to_rgb(
        label * _GOLDEN_ANGLE % 1, 0.55 + 0.15 * (label % 4), 0.95 - 0.2 * (label % 3)
    )
    return round(255 * red), round(255 * green), round(255 * blue)


def free_colours(count: int, taken: Collection[Colour]) -> tuple[Colour, ...]:
    """Choose colours for classes that are seen together with other ones.

    Args:
        count: how many classes there are.
        taken: the colours of the others.

    Returns:
        The first colours of the palette that are not taken; those of `class_colour` where none is.
    """
    untaken = (colour for colour in map(class_colour, itertools.count(1)) if colour not in taken)
    return tuple(itertools.islice(untaken, count))
