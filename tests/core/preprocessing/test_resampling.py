"""Resampling: geometry, values, labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meduniseg_core.preprocessing.resample import (
    Rule,
    Rules,
    anisotropic_axis,
    axis_matrix,
    image_rules,
    label_rules,
    nearest_indices,
    photograph_rules,
    resample,
    resample_labels,
)
from tests.restoring import resample_nearest

CUBIC = Rules(("cubic", "cubic", "cubic"))
LINEAR = Rules(("linear", "linear", "linear"))
sizes = st.integers(1, 40)
unhurried = settings(deadline=None)
rules = st.sampled_from(["nearest", "linear", "cubic"])


@unhurried
@given(n_in=sizes, n_out=sizes, rule=rules, low_pass=st.booleans())
def test_rows_sum_to_one_so_that_constants_stay(n_in: int, n_out: int, rule: Rule, low_pass: bool) -> None:
    matrix = axis_matrix(n_in, n_out, rule, low_pass)
    assert matrix.shape == (n_out, n_in)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(n_out), rtol=0, atol=1e-5)


@unhurried
@given(n_in=sizes, n_out=sizes, rule=rules, low_pass=st.booleans())
def test_flipping_before_is_flipping_after(n_in: int, n_out: int, rule: Rule, low_pass: bool) -> None:
    # nearest neighbour meets ties, which have a side; the others are symmetric
    if rule != "nearest":
        matrix = axis_matrix(n_in, n_out, rule, low_pass)
        torch.testing.assert_close(matrix, matrix.flip(0, 1), rtol=0, atol=1e-5)


@unhurried
@given(n=sizes, rule=rules)
def test_the_same_size_is_the_identity(n: int, rule: Rule) -> None:
    assert torch.equal(axis_matrix(n, n, rule), torch.eye(n))


@unhurried
@given(n_in=sizes, n_out=sizes)
def test_linear_is_torchs_interpolation(n_in: int, n_out: int) -> None:
    values = torch.arange(n_in, dtype=torch.float32) ** 1.5
    theirs = torch.nn.functional.interpolate(values[None, None], size=n_out, mode="linear", align_corners=False)
    torch.testing.assert_close(axis_matrix(n_in, n_out, "linear") @ values, theirs[0, 0], rtol=1e-4, atol=1e-4)


@unhurried
@given(n_in=st.integers(8, 60), n_out=st.integers(8, 60))
def test_cubic_keeps_ramps_away_from_the_border(n_in: int, n_out: int) -> None:
    ramp = (torch.arange(n_in) + 0.5) / n_in
    wanted = (torch.arange(n_out) + 0.5) / n_out
    got = axis_matrix(n_in, n_out, "cubic") @ ramp
    inner = (wanted > 2.5 / n_in) & (wanted < 1 - 2.5 / n_in)
    torch.testing.assert_close(got[inner], wanted[inner], rtol=0, atol=1e-5)


@unhurried
@given(n_in=sizes, n_out=sizes)
def test_nearest_takes_the_voxel_that_holds_the_centre(n_in: int, n_out: int) -> None:
    index = nearest_indices(n_in, n_out)
    centres = (np.arange(n_out) + 0.5) * n_in / n_out
    assert index.min() >= 0 and index.max() < n_in
    assert np.all((index <= centres + 1e-9) & (centres <= index + 1 + 1e-9))


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    target=st.tuples(*[st.integers(1, 14)] * 3),
    dtype=st.sampled_from(["uint8", "int16", "uint16", "int32", "float32", "float64", ">i2"]),
)
def test_any_shape_and_dtype_is_resampled_within_its_range(
    shape: tuple[int, int, int], target: tuple[int, int, int], dtype: str
) -> None:
    array = np.random.default_rng(0).integers(0, 200, (2, *shape)).astype(dtype)
    result = resample(array, target, CUBIC)
    assert result.shape == (2, *target)
    assert result.dtype == np.float32
    for before, after in zip(array, result, strict=True):
        assert before.min() - 1e-3 <= after.min() and after.max() <= before.max() + 1e-3


def test_views_with_negative_strides_are_resampled() -> None:
    array = np.random.default_rng(0).normal(size=(1, 6, 7, 8)).astype(np.float32)
    flipped = resample(array[:, ::-1, :, ::-1], (9, 5, 11), CUBIC)
    np.testing.assert_allclose(flipped[:, ::-1, :, ::-1], resample(array, (9, 5, 11), CUBIC), atol=1e-5)


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).normal(size=(1, 9, 7, 8)).astype(np.float32)
    whole = resample(array, (5, 9, 6), CUBIC)
    monkeypatch.setattr("meduniseg_core.preprocessing.resample._CHUNK_BYTES", 4 * 7 * 8 * 2)
    np.testing.assert_allclose(resample(array, (5, 9, 6), CUBIC), whole, atol=1e-6)


def test_strong_reduction_of_photographs_does_not_alias() -> None:
    # a pattern finer than the target's pixels must become grey, not a coarse pattern
    stripes = (np.indices((1411, 1411)).sum(axis=0) % 2 * 255.0)[None, None]
    shown = resample(stripes, (1, 512, 512), photograph_rules())[0, 0, 8:-8, 8:-8]
    aliased = resample(stripes, (1, 512, 512), Rules(("nearest", "cubic", "cubic")))[0, 0, 8:-8, 8:-8]
    assert shown.std() < 3 < 20 < aliased.std()
    assert shown.mean() == pytest.approx(127.5, abs=1)


def test_anisotropic_axes_are_treated_apart() -> None:
    assert anisotropic_axis((5.0, 0.8, 0.8), (2.0, 1.0, 1.0)) == 0
    assert anisotropic_axis((1.0, 1.0, 1.0), (1.0, 1.0, 4.0)) == 2
    assert anisotropic_axis((3.0, 1.0, 1.0), (3.0, 1.0, 1.0)) is None
    assert anisotropic_axis((4.0, 4.0, 1.0), (1.0, 1.0, 1.0)) is None  # two coarse axes: no single through-plane
    assert image_rules((5.0, 0.8, 0.8), (2.0, 1.0, 1.0)).rule == ("nearest", "cubic", "cubic")
    assert label_rules((5.0, 0.8, 0.8), (2.0, 1.0, 1.0)).rule == ("nearest", "linear", "linear")


def test_through_plane_values_of_anisotropic_data_are_not_mixed() -> None:
    array = np.zeros((1, 3, 4, 4), dtype=np.float32)
    array[0, 1] = 100
    result = resample(array, (6, 8, 8), image_rules((6.0, 1.0, 1.0), (3.0, 0.5, 0.5)))
    assert set(np.unique(result)) == {0.0, 100.0}


def test_only_strong_reductions_of_volumes_are_low_passed() -> None:
    assert image_rules((1.0, 1.0, 1.0), (1.9, 2.5, 0.9)).low_pass == (False, True, False)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_labels_resample_to_ids_that_were_there_and_lose_none(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(2, 10)] * 3))
    target = data.draw(st.tuples(*[st.integers(4, 14)] * 3))
    labels = np.zeros(shape, dtype=np.uint8)
    for value in (3, 200):
        labels[tuple(data.draw(st.integers(0, n - 1)) for n in shape)] = value
    result = resample_labels(labels, target, LINEAR)
    assert result.dtype == np.uint8
    assert result.shape == target
    assert set(np.unique(result)) <= set(np.unique(labels))
    if (labels == 3).any():
        assert (result > 0).any()


def test_labels_meet_without_a_gap() -> None:
    # three classes share every voxel of a boundary: none reaches a half, together they are foreground
    labels = np.zeros((1, 9, 9), dtype=np.uint8)
    labels[:, :, :3], labels[:, :, 3:6], labels[:, :, 6:] = 1, 2, 3
    assert (resample_labels(labels, (1, 14, 14), LINEAR) > 0).all()


@pytest.mark.parametrize("target", [(1, 16, 16), (1, 8, 8), (1, 24, 64)])
def test_a_line_one_voxel_thin_is_kept(target: tuple[int, int, int]) -> None:
    labels = np.zeros((1, 32, 32), dtype=np.uint8)
    labels[0, 13] = 1
    result = resample_labels(labels, target, LINEAR)[0]
    assert (result == 1).any(axis=0).all()


def test_labels_agree_with_resampled_one_hot_maps() -> None:
    generator = np.random.default_rng(0)
    labels = np.kron(generator.integers(0, 4, (4, 4, 4)), np.ones((5, 5, 5))).astype(np.uint8)
    one_hot = np.stack([labels == k for k in range(1, 4)]).astype(np.float32)
    shares = resample(one_hot, (13, 27, 17), LINEAR)
    wanted = np.where(shares.sum(axis=0) >= 0.5, shares.argmax(axis=0) + 1, 0)
    # the few that differ are ties, which rounding decides
    assert (resample_labels(labels, (13, 27, 17), LINEAR) == wanted).mean() > 0.995


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_nearest_labels_up_and_down_again_are_exact(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 8)] * 3))
    factor = data.draw(st.tuples(*[st.integers(1, 3)] * 3))
    labels = np.random.default_rng(1).integers(0, 9, shape).astype(np.uint8)
    fine = resample_nearest(labels, tuple(n * f for n, f in zip(shape, factor, strict=True)))
    assert np.array_equal(resample_nearest(fine, shape), labels)
