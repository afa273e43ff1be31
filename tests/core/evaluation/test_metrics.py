"""Metrics against shapes whose answers are known, on anisotropic grids, and the empty-mask policy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage

from meduniseg_core.evaluation import dice, hausdorff95, surface_dice, surface_distances, weighted_dice

SPACING = (5.0, 1.0, 2.0)


def box(
    low: tuple[int, int, int], high: tuple[int, int, int], shape: tuple[int, int, int] = (12, 20, 20)
) -> np.ndarray:
    array = np.zeros(shape, dtype=np.uint8)
    array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    return array


def test_dice_of_overlapping_boxes_is_the_fraction_of_volumes() -> None:
    first, second = box((2, 2, 2), (6, 10, 10)), box((2, 2, 6), (6, 10, 14))
    assert dice(first, second, 1) == pytest.approx(0.5)
    assert dice(first, first, 1) == 1.0


def test_dice_looks_at_its_own_label_only() -> None:
    first, second = box((2, 2, 2), (6, 10, 10)), 2 * box((2, 2, 2), (6, 10, 10))
    assert dice(first, second, 1) == 0.0
    assert dice(first, second, 3) == 1.0


def test_empty_masks_follow_the_stated_policy() -> None:
    full, empty = box((2, 2, 2), (6, 10, 10)), box((0, 0, 0), (0, 0, 0))
    diagonal = float(np.linalg.norm(np.array(full.shape) * SPACING))
    assert dice(empty, empty, 1) == 1.0
    assert hausdorff95(empty, empty, 1, SPACING) == 0.0
    assert surface_dice(empty, empty, 1, SPACING, 1.0) == 1.0
    for prediction, reference in ((full, empty), (empty, full)):
        assert dice(prediction, reference, 1) == 0.0
        assert hausdorff95(prediction, reference, 1, SPACING) == pytest.approx(diagonal)
        assert surface_dice(prediction, reference, 1, SPACING, 1e9) == 0.0


@pytest.mark.parametrize(("axis", "steps"), [(0, 1), (1, 3), (2, 2)])
def test_a_shifted_plate_is_as_far_away_as_the_spacing_says(axis: int, steps: int) -> None:
    # one voxel thick across the axis of the shift: every boundary voxel moves by the same distance
    low, high = [1, 1, 1], [11, 19, 19]
    low[axis], high[axis] = 4, 5
    reference = box(tuple(low), tuple(high))
    prediction = np.roll(reference, steps, axis)
    distance = steps * SPACING[axis]
    assert hausdorff95(prediction, reference, 1, SPACING) == pytest.approx(distance)
    assert surface_dice(prediction, reference, 1, SPACING, distance) == 1.0
    assert surface_dice(prediction, reference, 1, SPACING, distance - 1e-6) == 0.0


def test_concentric_balls_are_the_difference_of_radii_apart() -> None:
    spacing = (2.0, 0.5, 1.0)
    grid = np.stack(
        np.meshgrid(*(np.arange(n) * s for n, s in zip((40, 160, 80), spacing, strict=True)), indexing="ij")
    )
    square = ((grid - 40.0) ** 2).sum(0)
    inner, outer = square <= 20**2, square <= 28**2
    # voxel corners blur the surfaces by about one voxel's size
    assert surface_distances(inner, outer, spacing).hausdorff95 == pytest.approx(8.0, abs=1.5)
    assert surface_distances(inner, outer, spacing).surface_dice(10.5) == 1.0
    assert surface_distances(inner, outer, spacing).surface_dice(5.0) == 0.0


def test_percentile_ignores_a_few_far_voxels_and_takes_the_worse_direction() -> None:
    reference = box((0, 2, 2), (1, 18, 18), (1, 20, 20))
    stray = reference.copy()
    stray[0, 0, 0] = 1
    assert hausdorff95(stray, reference, 1, (1.0, 1.0, 1.0)) == 0.0
    half = box((0, 2, 2), (1, 18, 10), (1, 20, 20))
    there = surface_distances(half == 1, reference == 1, (1.0, 1.0, 1.0))
    assert there.hausdorff95 == np.percentile(there.reference_to_prediction, 95)
    assert there.hausdorff95 > np.percentile(there.prediction_to_reference, 95)


def test_a_2d_image_has_an_outline_and_a_flat_thing_in_a_volume_is_all_boundary() -> None:
    disc = box((0, 2, 2), (1, 8, 8), (1, 10, 10)) == 1
    assert len(surface_distances(disc, disc, (1, 1, 1)).prediction_to_reference) == 6 * 6 - 4 * 4
    plate = box((3, 2, 2), (4, 8, 8), (6, 10, 10)) == 1
    assert len(surface_distances(plate, plate, (1, 1, 1)).prediction_to_reference) == 36


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI calls itself so
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), depth=st.sampled_from([1, 6]))
def test_surface_metrics_equal_monai_s_where_both_masks_are_filled(seed: int, depth: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (depth, 14, 12)
    masks = [ndimage.gaussian_filter(rng.standard_normal(shape), 1.5) > 0.02 for _ in range(2)]
    for mask in masks:
        mask[0, 5, 5] = True
    if depth == 1:  # MONAI takes a 2D image for 2D only without the axis
        spacing, squeezed = (1.0, 0.7, 1.3), [mask[0] for mask in masks]
    else:
        spacing, squeezed = (3.0, 0.7, 1.3), masks
    theirs = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in squeezed]
    steps = spacing[-squeezed[0].ndim :]
    ours = surface_distances(masks[0], masks[1], spacing)
    expected = compute_hausdorff_distance(*theirs, include_background=True, percentile=95, spacing=steps)
    assert ours.hausdorff95 == pytest.approx(float(expected), rel=1e-5)
    share = compute_surface_dice(*theirs, class_thresholds=[1.5], include_background=True, spacing=steps)
    assert ours.surface_dice(1.5) == pytest.approx(float(share), rel=1e-5)


def test_distances_agree_with_an_exact_distance_transform() -> None:
    first, second = box((2, 3, 4), (8, 10, 9)) == 1, box((4, 5, 6), (11, 16, 18)) == 1
    ours = surface_distances(first, second, SPACING)
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (first, second)]
    expected = ndimage.distance_transform_edt(~edges[1], sampling=SPACING)[edges[0]]
    np.testing.assert_allclose(np.sort(ours.prediction_to_reference), np.sort(expected), rtol=1e-12)


def test_wdice_weighs_normal_and_lesion_images_by_the_rarity_of_their_kind() -> None:
    # 3 normal images, 1 with a lesion: w0 = (1/3) / (1/3 + 1) = 1/4, w1 = 3/4
    assert weighted_dice([1.0, 1.0, 0.4, 0.6], [False, False, False, True]) == pytest.approx(0.25 * 0.8 + 0.75 * 0.6)
    assert weighted_dice([0.2, 0.4], [True, True]) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="one flag per image"):
        weighted_dice([0.2], [])


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        dice(np.zeros((1, 2, 2), int), np.zeros((1, 2, 3), int), 1)
    with pytest.raises(ValueError, match="spacing"):
        surface_distances(np.ones((1, 2, 2), bool), np.ones((1, 2, 2), bool), (1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="negative"):
        surface_dice(np.ones((1, 2, 2), int), np.ones((1, 2, 2), int), 1, (1, 1, 1), -1.0)
