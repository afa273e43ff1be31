"""Corrections by a click: a false part goes, a missed spot grows, a lasso restricts either."""

from __future__ import annotations

import numpy as np
import pytest

from meduniseg_core.errors import UsageError
from meduniseg_core.images import Geometry, Image
from meduniseg_core.interactive import FeatureCache, ImageFeatures, grow_at, remove_at


def two_squares() -> tuple[ImageFeatures, np.ndarray]:
    mask = np.zeros((1, 80, 80), bool)
    mask[0, 10:24, 10:24] = mask[0, 50:62, 50:62] = True
    array = np.random.default_rng(0).normal(0, 0.2, mask.shape) + 2 * mask
    geometry = Geometry(
        shape=mask.shape, spacing=(1, 1, 1), origin=(0, 0, 0), direction=((0, 0, 1), (0, 1, 0), (1, 0, 0))
    )
    return FeatureCache().get(Image(array.astype(np.float32)[None], geometry), None), mask


def test_a_click_on_a_missed_spot_takes_the_spot_and_nothing_else() -> None:
    features, mask = two_squares()
    labels = np.zeros(mask.shape, np.uint8)
    labels[0, 10:24, 10:24] = 1
    edit = grow_at(features, labels, (0, 56, 56), 1, reach_mm=20)
    after = edit.apply(labels)
    assert 2 * ((after == 1) & mask).sum() / ((after == 1).sum() + mask.sum()) > 0.95
    assert np.array_equal(after[0, :40], labels[0, :40])


def test_a_click_grows_a_class_that_has_no_voxel_yet() -> None:
    features, mask = two_squares()
    after = grow_at(features, np.zeros(mask.shape, np.uint8), (0, 56, 56), 2, reach_mm=15).apply(np.zeros(mask.shape))
    spot = np.zeros_like(mask)
    spot[0, 50:62, 50:62] = True
    assert 2 * ((after == 2) & spot).sum() / ((after == 2).sum() + spot.sum()) > 0.9


def test_growing_respects_lasso_locks_and_paint_over() -> None:
    features, mask = two_squares()
    labels = np.zeros(mask.shape, np.uint8)
    labels[0, 50:62, 50:54] = 2
    lasso = np.zeros(mask.shape, bool)
    lasso[0, 48:56, 48:64] = True
    grown = grow_at(features, labels, (0, 53, 57), 1, lasso=lasso, over=()).apply(labels)
    assert (grown == 1).any() and not (grown == 1)[~lasso].any()
    assert np.array_equal(grown == 2, labels == 2)
    assert grow_at(features, labels, (0, 53, 51), 1, locked=[2]).count == 0
    with pytest.raises(UsageError, match="locked"):
        grow_at(features, labels, (0, 53, 57), 1, locked=[1])
    with pytest.raises(UsageError, match="outside the lasso"):
        grow_at(features, labels, (0, 5, 5), 1, lasso=lasso)


def test_a_click_removes_the_part_under_it_or_what_a_lasso_cuts_off() -> None:
    labels = np.zeros((1, 20, 20), np.uint8)
    labels[0, 2:6, 2:18] = 1
    labels[0, 12:15, 2:5] = 1
    after = remove_at(labels, (0, 13, 3)).apply(labels)
    assert not after[0, 10:].any() and np.array_equal(after[0, :10], labels[0, :10])
    lasso = np.zeros(labels.shape, bool)
    lasso[0, :, 10:] = True
    cut = remove_at(labels, (0, 3, 12), lasso=lasso).apply(labels)
    assert not cut[0, :10, 10:].any() and (cut[0, 2:6, 2:10] == 1).all()
    with pytest.raises(UsageError, match="background"):
        remove_at(labels, (0, 9, 9))
    with pytest.raises(UsageError, match="locked"):
        remove_at(labels, (0, 3, 12), locked=[1])


def test_a_click_fills_the_missed_half_of_a_part_that_reaches_farther_than_the_click() -> None:
    features, mask = two_squares()
    labels = np.zeros(mask.shape, np.uint8)
    labels[0, 10:24, 10:24] = labels[0, 50:62, 50:53] = 1
    after = grow_at(features, labels, (0, 56, 58), 1, reach_mm=5).apply(labels)
    reached = np.hypot(*np.ogrid[-56:24, -58:22])[None] <= 4
    assert (after == 1)[mask & reached].mean() > 0.95, "what lies at the border of the reach is no counterexample"


def test_a_click_where_nothing_else_is_left_takes_the_click() -> None:
    features, mask = two_squares()
    labels = np.ones(mask.shape, np.uint8)
    labels[0, 56, 56] = 0
    edit = grow_at(features, labels, (0, 56, 56), 1, reach_mm=500)
    assert edit.count == 1 and edit.apply(labels).all()


def test_a_lasso_within_what_is_meant_is_filled_to_its_line() -> None:
    features, mask = two_squares()
    labels = np.zeros(mask.shape, np.uint8)
    labels[0, 10:24, 10:24] = 1
    lasso = np.zeros(mask.shape, bool)
    lasso[0, 45:67, 45:57] = True
    after = grow_at(features, labels, (0, 56, 53), 1, lasso=lasso).apply(labels)
    assert (after == 1)[mask & lasso].mean() > 0.95 and (after == 1)[lasso & ~mask].mean() < 0.15
