"""Sheared grids made perpendicular: structures stay where they are, and labels find back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meduniseg_core.images import Geometry, Image
from meduniseg_core.images.resample_grid import orthonormal_geometry, resample_to, resample_to_orthonormal


def sheared(shape: tuple[int, int, int], shear: float) -> Geometry:
    affine = np.array(Geometry(shape, (2.0, 1.0, 1.5), origin=(5.0, -7.0, 30.0)).affine)
    affine[1, 0] += shear
    return Geometry.from_affine(affine, shape)


def test_a_perpendicular_grid_is_left_alone() -> None:
    image = Image(np.zeros((1, 4, 5, 6), np.int16), Geometry((4, 5, 6), (1, 2, 3)))
    same, resampled = resample_to_orthonormal(image)
    assert same is image
    assert not resampled
    barely = Image(np.zeros((1, 4, 5, 6), np.int16), sheared((4, 5, 6), 0.001))
    assert not resample_to_orthonormal(barely)[1]
    assert resample_to_orthonormal(barely, tolerance=1e-5)[1]


def test_a_ball_keeps_its_place_and_size() -> None:
    geometry = sheared((30, 40, 30), 0.6)
    index = np.stack(np.meshgrid(*[np.arange(size) for size in geometry.shape], indexing="ij"), axis=-1)
    places = index @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]
    centre = places.reshape(-1, 3).mean(axis=0)
    ball = (np.linalg.norm(places - centre, axis=-1) < 9).astype(np.float32)
    image = Image(ball[None], geometry)
    straight, resampled = resample_to_orthonormal(image)
    assert resampled
    assert straight.geometry.is_orthonormal(1e-9)
    grid = np.argwhere(straight.array[0] > 0)
    weights = straight.array[0][tuple(grid.T)]
    again = grid @ straight.geometry.affine[:3, :3].T + straight.geometry.origin
    np.testing.assert_allclose(np.average(again, axis=0, weights=weights), centre, atol=0.02)
    again = again[weights > 0.5]
    assert np.abs(np.linalg.norm(again - again.mean(axis=0), axis=1)).max() == pytest.approx(9, abs=1.5)
    assert straight.array.sum() * straight.geometry.voxel_volume == pytest.approx(
        ball.sum() * geometry.voxel_volume, rel=0.02
    )
    labels = straight.with_array((straight.array > 0.5).astype(np.uint8))
    back = resample_to(labels, geometry, labels=True)
    assert back.geometry == geometry
    overlap = 2 * (back.array[0] * ball).sum() / (back.array.sum() + ball.sum())
    assert overlap > 0.95


@settings(max_examples=50, deadline=None)
@given(shape=st.tuples(*[st.integers(2, 9)] * 3), shear=st.floats(-1.5, 1.5))
def test_the_perpendicular_grid_covers_every_voxel(shape: tuple[int, int, int], shear: float) -> None:
    geometry = sheared(shape, shear)
    straight = orthonormal_geometry(geometry)
    assert straight.is_orthonormal(1e-9)
    np.testing.assert_allclose(straight.spacing, geometry.spacing)
    far = np.asarray(shape) - 1
    corners = np.array([(d, h, w, 1) for d in (0, far[0]) for h in (0, far[1]) for w in (0, far[2])])
    index = (corners @ geometry.affine.T) @ np.linalg.inv(straight.affine).T
    assert (index[:, :3] >= -1e-5).all()
    assert (index[:, :3] <= np.asarray(straight.shape) - 1 + 1e-5).all()


def test_types_are_kept_and_outside_is_the_background() -> None:
    geometry = sheared((5, 6, 7), 1.0)
    for dtype in (np.int16, np.uint8, np.float32, np.int32):
        values = np.full((2, 5, 6, 7), 50, dtype)
        values[0, 0, 0, 0] = 3
        image = Image(values, geometry)
        straight, _ = resample_to_orthonormal(image)
        assert straight.array.dtype == dtype
        assert straight.array[0].min() == 3
        assert straight.array[1].min() == 50
        labels, _ = resample_to_orthonormal(image, labels=True)
        assert labels.array.min() == 0
