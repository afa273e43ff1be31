"""Operations on a class: what they do in mm, and what they never do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meduniseg_core.editing import (
    Edit,
    fill_between,
    fill_holes,
    grow,
    keep_largest,
    relabel_component,
    remove_islands,
    shrink,
    smooth,
    sphere,
)
from meduniseg_core.errors import UsageError

SPACING = (3.0, 0.5, 1.0)


def ball(shape: tuple[int, ...], radius: float, spacing: tuple[float, ...] = SPACING, label: int = 1) -> np.ndarray:
    centre = [(size - 1) / 2 for size in shape]
    grids = np.ogrid[tuple(slice(0, size) for size in shape)]
    squared = sum(((g - c) * s) ** 2 for g, c, s in zip(grids, centre, spacing, strict=True))
    return (squared <= radius**2).astype(np.uint8) * label


OPERATIONS: dict[str, Callable[..., Edit]] = {
    "fill": lambda labels, **k: fill_holes(labels, 1, **k),
    "largest": lambda labels, **k: keep_largest(labels, 1, **k),
    "islands": lambda labels, **k: remove_islands(labels, 1, 20.0, SPACING, **k),
    "smooth": lambda labels, **k: smooth(labels, 1, 2.0, SPACING, **k),
    "grow": lambda labels, **k: grow(labels, 1, 3.0, SPACING, **k),
    "shrink": lambda labels, **k: shrink(labels, 1, 1.0, SPACING, **k),
    "between": lambda labels, **k: fill_between(labels, 1, 0, SPACING, **k),
    "sphere": lambda labels, **k: sphere(labels, (4, 8, 8), 5.0, 1, SPACING, **k),
}


@pytest.mark.parametrize("name", OPERATIONS)
@given(seed=st.integers(0, 2**16))
def test_locked_and_other_classes_never_change_unasked(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 3], size=(9, 17, 15), p=[0.5, 0.3, 0.1, 0.1]).astype(np.uint8)
    after = OPERATIONS[name](labels, locked=(2,)).apply(labels)
    np.testing.assert_array_equal(after == 2, labels == 2)
    changed = after != labels
    assert set(np.unique(after[changed])) <= {0, 1}
    assert not ((labels == 3) & (after == 0)).any()  # another class may be painted over, never erased


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_locked_class_is_refused_and_an_absent_one_left_alone(name: str) -> None:
    labels = ball((9, 31, 15), 6.0)
    with pytest.raises(UsageError, match="locked"):
        OPERATIONS[name](labels, locked=(1,))
    if name not in ("between", "sphere"):
        assert OPERATIONS[name](np.zeros((4, 5, 6), np.uint8)).count == 0


def test_growing_takes_background_only_or_the_classes_that_are_named() -> None:
    labels = np.zeros((5, 30, 12), np.uint8)
    labels[:, 8:14], labels[:, 14:20], labels[:, 5:8] = 1, 2, 3
    for over, lose in (((), set()), ((2,), {2}), ((3,), {3}), ((2, 3), {2, 3}), (None, {2, 3})):
        grown = grow(labels, 1, 1.2, SPACING, over=over).apply(labels)
        assert {old for old in (2, 3) if (grown == old).sum() < (labels == old).sum()} == lose, over
    assert (grow(labels, 1, 1.2, SPACING, over=(2, 3), locked=(2,)).apply(labels) == 2).sum() == (labels == 2).sum()


@pytest.mark.parametrize("name", ["fill", "smooth", "grow", "between"])
def test_no_operation_takes_a_class_that_is_not_painted_over(name: str) -> None:
    labels = ball((9, 40, 30), 9.0)
    labels[4, 15:25, 10:20] = 2  # within the class
    labels[:, :, :13][labels[:, :, :13] == 1] = 3  # beside it
    labels[3:6][labels[3:6] == 1] = 0
    free, kept = (OPERATIONS[name](labels, over=over).apply(labels) for over in (None, ()))
    assert (kept[labels > 1] == labels[labels > 1]).all() and (free[labels == 0] == kept[labels == 0]).all()


def test_the_brush_takes_and_erases_only_what_it_may() -> None:
    labels = np.zeros((1, 9, 9), np.uint8)
    labels[:, :, 4:6], labels[:, :, 6:] = 1, 2
    centre, spacing = (0.0, 4.0, 5.0), (1.0, 1.0, 1.0)
    painted = sphere(labels, centre, 3.0, 3, spacing, over=()).apply(labels)
    assert (painted[labels > 0] == labels[labels > 0]).all() and (painted == 3).any()
    erased = sphere(labels, centre, 3.0, 0, spacing, over=(1,)).apply(labels)
    assert (erased == 2).sum() == (labels == 2).sum() and (erased == 1).sum() < (labels == 1).sum()


@pytest.mark.parametrize("mm", [1.0, 3.0, 4.5])
def test_growing_a_voxel_makes_a_ball_in_millimetres(mm: float) -> None:
    labels = np.zeros((9, 31, 15), np.uint8)
    labels[4, 15, 7] = 1
    np.testing.assert_array_equal(grow(labels, 1, mm, SPACING).apply(labels), ball(labels.shape, mm))


def test_shrinking_undoes_growing_of_a_ball_and_takes_only_the_rim() -> None:
    labels = ball((15, 81, 41), 12.0)
    smaller = shrink(labels, 1, 4.0, SPACING).apply(labels)
    assert 0 < smaller.sum() < labels.sum() and not (smaller & ~labels).any()
    target = ball((15, 81, 41), 8.0)
    assert 2 * (smaller & target).sum() / (smaller.sum() + target.sum()) > 0.9


def test_shrinking_does_not_start_at_the_image_s_border() -> None:
    labels = np.zeros((4, 10, 10), np.uint8)
    labels[:, :5] = 1
    after = shrink(labels, 1, 1.0, (1, 1, 1)).apply(labels)
    assert after[:, :4].all() and not after[:, 4:].any()
    full = np.ones((4, 4, 4), np.uint8)
    assert shrink(full, 1, 1.0, (1, 1, 1)).count == 0


def test_holes_are_filled_in_space_or_slice_by_slice() -> None:
    labels = np.zeros((5, 9, 9), np.uint8)
    labels[1:4, 2:7, 2:7] = 1
    labels[2, 4, 4] = 0  # a cavity
    labels[:, 3, 3] = 0  # a tunnel
    labels[2, 4, 4] = 2  # filled by another class: it is taken unless locked
    assert fill_holes(labels, 1).apply(labels)[2, 4, 4] == 1
    assert fill_holes(labels, 1).apply(labels)[2, 3, 3] == 0
    assert fill_holes(labels, 1, axis=0).apply(labels)[2, 3, 3] == 1
    assert fill_holes(labels, 1, locked=(2,)).apply(labels)[2, 4, 4] == 2


def test_islands_are_judged_by_their_size_in_mm3_and_the_largest_is_one_component() -> None:
    labels = np.zeros((6, 20, 20), np.uint8)
    labels[1:3, 2:10, 2:10] = 1  # 128 voxels = 192 mm3
    labels[4, 15:17, 15:17] = 1  # 4 voxels = 6 mm3
    labels[5, 0, 0] = 1  # 1.5 mm3
    assert remove_islands(labels, 1, 6.0, SPACING).count == 1
    assert remove_islands(labels, 1, 6.1, SPACING).count == 5
    assert keep_largest(labels, 1).count == 5
    twins = np.zeros((3, 9), np.uint8)
    twins[1, 1:3] = twins[1, 6:8] = 1
    assert keep_largest(twins, 1).count == 2


def test_smoothing_keeps_size_and_place() -> None:
    clean = ball((15, 81, 41), 12.0)
    rng = np.random.default_rng(0)
    rough = np.where(rng.random(clean.shape) < 0.05, 1 - clean, clean).astype(np.uint8)
    after = smooth(rough, 1, 1.5, SPACING).apply(rough)
    assert 2 * (after & clean).sum() / (after.sum() + clean.sum()) > 0.97
    assert abs(int(after.sum()) - int(clean.sum())) / clean.sum() < 0.05


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_ball_drawn_on_every_fourth_slice_is_filled_in_between(axis: int) -> None:
    whole = ball((41, 41, 41), 17.0, (1, 1, 1))
    drawn = whole.copy()
    index: list[slice | np.ndarray] = [slice(None)] * 3
    index[axis] = np.array([n for n in range(41) if n % 4])
    drawn[tuple(index)] = 0
    after = fill_between(drawn, 1, axis, (1, 1, 1)).apply(drawn)
    assert 2 * (after & whole).sum() / (after.sum() + whole.sum()) > 0.97
    index[axis] = np.arange(0, 41, 4)
    np.testing.assert_array_equal(after[tuple(index)], drawn[tuple(index)])


def test_two_slices_at_least_are_needed_between_which_to_fill() -> None:
    labels = np.zeros((5, 6, 6), np.uint8)
    labels[2, 2:4, 2:4] = 1
    with pytest.raises(UsageError, match="two slices"):
        fill_between(labels, 1, 0, (1, 1, 1))


def test_a_clicked_component_gets_another_class_or_goes() -> None:
    labels = np.zeros((3, 9, 9), np.uint8)
    labels[1, 1:3, 1:3] = labels[1, 6:8, 6:8] = 2
    after = relabel_component(labels, (1, 6, 6), 5).apply(labels)
    assert (after[1, 6:8, 6:8] == 5).all() and (after[1, 1:3, 1:3] == 2).all()
    assert relabel_component(labels, (1, 1, 1), 0).count == 4
    with pytest.raises(UsageError, match="background"):
        relabel_component(labels, (0, 0, 0), 1)
    with pytest.raises(UsageError, match="outside"):
        relabel_component(labels, (9, 0, 0), 1)


@given(
    centre=st.tuples(st.floats(-2, 11), st.floats(-2, 32), st.floats(-2, 16)),
    radius=st.floats(0.1, 9),
)
def test_the_brush_is_a_ball_in_millimetres_cut_at_the_border(
    centre: tuple[float, float, float], radius: float
) -> None:
    labels = np.zeros((9, 31, 15), np.uint8)
    after = sphere(labels, centre, radius, 4, SPACING).apply(labels)
    grids = np.ogrid[0:9, 0:31, 0:15]
    distance = np.sqrt(sum(((g - c) * s) ** 2 for g, c, s in zip(grids, centre, SPACING, strict=True)))
    assert (after[distance <= radius - 1e-6] == 4).all()
    painted = after == 4
    under = tuple(int(v) for v in np.rint(centre))
    if all(0 <= v < size for v, size in zip(under, labels.shape, strict=True)):
        assert painted[under]
        painted[under] = False
    assert not painted[distance > radius + 1e-6].any()


def test_the_brush_keeps_to_a_range_of_intensities() -> None:
    labels = np.zeros((9, 31, 15), np.uint8)
    image = np.random.default_rng(0).normal(size=labels.shape)
    edit = sphere(labels, (4, 15, 7), 6.0, 1, SPACING, image=image, limits=(0.0, 0.5))
    assert edit.count > 10 and ((image[edit.where] >= 0) & (image[edit.where] <= 0.5)).all()
