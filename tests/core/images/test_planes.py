"""Pictures of planes of a volume."""

from __future__ import annotations

import numpy as np
import pytest

from meduniseg_core.errors import UsageError
from meduniseg_core.images.planes import coloured, laid_over, plane_of

VOLUME = np.arange(2 * 3 * 4).reshape(2, 3, 4)
GREY = np.repeat(np.linspace(0, 1, 256)[:, None], 3, axis=1)


def test_planes_keep_the_order_of_the_other_axes() -> None:
    assert np.array_equal(plane_of(VOLUME, 0, 1), VOLUME[1])
    assert np.array_equal(plane_of(VOLUME, 1, 2), VOLUME[:, 2])
    assert np.array_equal(plane_of(VOLUME, 2, 0), VOLUME[:, :, 0])
    assert np.array_equal(plane_of(VOLUME, 2, 99), VOLUME[:, :, 3]) and np.array_equal(
        plane_of(VOLUME, 0, -1), VOLUME[0]
    )
    with pytest.raises(UsageError, match="three axes"):
        plane_of(VOLUME[0], 0, 0)


def test_values_are_shown_within_their_limits() -> None:
    plane = np.array([[-500.0, -100.0, 0.0], [100.0, 9e9, np.nan]])
    assert coloured(plane, (-100, 100), GREY)[..., 0].tolist() == [[0, 0, 128], [255, 255, 0]]
    assert coloured(np.array([[3, 4]], np.uint16), (3, 3), GREY)[0, :, 1].tolist() == [0, 255]  # limits that are equal
    table = [(1, 0, 0), (0, 0, 1)]
    assert coloured(np.array([[0, 1]]), (0, 1), table).tolist() == [[[255, 0, 0], [0, 0, 255]]]


def test_labels_lie_over_the_picture_filled_or_as_outlines() -> None:
    picture = np.full((5, 5, 3), 100, np.uint8)
    labels = np.zeros((5, 5), np.uint8)
    labels[1:4, 1:4] = 1
    colours = np.zeros((5, 5, 4))
    colours[labels == 1] = (1, 0, 0, 1)
    filled = laid_over(picture, labels, colours, 0.5, outline=False)
    assert filled[2, 2].tolist() == [178, 50, 50] and filled[0, 0].tolist() == [100, 100, 100]
    outlined = laid_over(picture, labels, colours, 0.5, outline=True)
    assert outlined[2, 2].tolist() == [100, 100, 100] and outlined[1, 2].tolist() == [178, 50, 50]
    assert np.all(picture == 100)
