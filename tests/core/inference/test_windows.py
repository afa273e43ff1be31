"""Window positions and weights."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from meduniseg_core.errors import UsageError
from meduniseg_core.inference.windows import WindowGrid, axis_positions, gaussian, overlap_of, window_shape


@given(
    length=st.integers(1, 200),
    size=st.integers(1, 64),
    overlap=st.floats(0, 0.9),
    low=st.integers(0, 199),
    extent=st.integers(1, 200),
)
def test_every_voxel_of_the_range_is_covered_with_at_least_the_overlap(
    length: int, size: int, overlap: float, low: int, extent: int
) -> None:
    low = min(low, length - 1)
    high = min(low + extent, length)
    starts = axis_positions(length, size, overlap, low, high)
    covered = {voxel for start in starts for voxel in range(start, start + size)}
    assert set(range(low, high)) <= covered
    if length > size:
        assert min(starts) >= 0 and max(starts) + size <= length
    for one, two in itertools.pairwise(starts):
        assert two - one <= math.ceil(size * (1 - overlap))


@given(length=st.integers(1, 120), size=st.integers(2, 48), overlap=st.floats(0, 0.75), low=st.integers(0, 40))
def test_weights_are_a_partition_of_unity(length: int, size: int, overlap: float, low: int) -> None:
    low = min(low, length - 1)
    region = (0, 1), (low, length), (0, 1)
    grid = WindowGrid.over((1, length, 1), (1, size, 1), overlap, region)
    inverse = grid.inverse_weight_sums()[1].double()
    total = torch.zeros(length - low, dtype=torch.float64)
    for start in grid.axes[1]:
        part = overlap_of((0, start, 0), grid.window, region)
        if part is not None:
            inside, outside = part[0][1], part[1][1]
            total[outside] += gaussian(size).double()[inside] * inverse[outside]
    assert torch.allclose(total, torch.ones_like(total), atol=1e-6)


def test_the_gaussian_has_the_width_of_an_eighth_and_is_symmetric() -> None:
    curve = gaussian(65)
    assert curve[32] == 1
    assert curve[32 + 8].item() == pytest.approx(math.exp(-0.5 * (8 / 8.125) ** 2), rel=1e-5)
    assert torch.equal(curve, curve.flip(0))


def test_a_short_axis_gets_a_window_of_whole_strides_not_the_whole_patch() -> None:
    assert window_shape((20, 100, 500), (64, 192, 192), (16, 32, 32)) == (32, 128, 192)
    assert window_shape((1, 100, 500), (1, 512, 512), (16, 32, 32)) == (1, 128, 512)
    assert window_shape((3, 5, 20), (64, 192, 192), (16, 32, 32)) == (16, 64, 64)


def test_a_small_range_is_seen_with_its_surroundings() -> None:
    assert axis_positions(100, 32, 0.5, 40, 48) == [28]
    assert axis_positions(100, 32, 0.5, 0, 8) == [0]
    assert axis_positions(100, 32, 0.5, 95, 100) == [68]
    assert axis_positions(20, 32, 0.5) == [-6]


@pytest.mark.parametrize("overlap", [1.0, -0.1, float("nan")])
def test_an_impossible_overlap_is_refused(overlap: float) -> None:
    with pytest.raises(UsageError, match="overlap"):
        WindowGrid.over((8, 8, 8), (8, 8, 8), overlap)


def test_a_region_outside_the_grid_is_refused() -> None:
    with pytest.raises(UsageError, match="box"):
        WindowGrid.over((8, 8, 8), (8, 8, 8), 0.5, ((0, 8), (0, 9), (0, 8)))
