"""Through an identity network and back: every orientation, every anisotropy, exactly (issue 3's acceptance line)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meduniseg_core.images import Geometry, Image, canonical_orientation, read_image, read_labels, write_image
from meduniseg_core.images import write_labels as write
from meduniseg_core.preprocessing import TaskPlan, preprocess, preprocess_labels
from tests.restoring import restore_labels, restore_logits

ORIENTATIONS = [
    (axes, signs) for axes in permutations((0, 1, 2)) for signs in product((1.0, -1.0), repeat=3)
]  # fmt: skip
SPACINGS = [(5.0, 0.7, 1.3), (0.8, 0.8, 3.0), (1.2, 4.5, 0.6)]
SHAPE = (7, 10, 13)


def _subject(
    axes: tuple[int, ...], signs: tuple[float, ...], spacing: tuple[float, float, float]
) -> tuple[Image, Image]:
    """An image with zero background, off centre, and labels in it with no symmetry."""
    direction = np.zeros((3, 3))
    for axis in range(3):
        direction[axes[axis], axis] = signs[axis]
    rows = [tuple(float(value) for value in row) for row in direction]
    geometry = Geometry(SHAPE, spacing, (-31.5, 12.25, 780.0), (rows[0], rows[1], rows[2]))  # type: ignore[arg-type]
    generator = np.random.default_rng(7)
    labels = np.zeros((1, *SHAPE), dtype=np.uint8)
    inner = (0, slice(1, 6), slice(2, 9), slice(3, 12))
    labels[inner] = generator.integers(0, 5, labels[inner].shape)
    image = np.where(labels > 0, generator.normal(100, 20, labels.shape), 0).astype(np.float32)
    return Image(image, geometry), Image(labels, geometry)


def _plan(spacing: tuple[float, float, float]) -> TaskPlan:
    return TaskPlan(
        task="identity", modality="mri", dimension=3, channels=("MRI",), classes=("a", "b", "c", "d"), spacing=spacing,
        patch=(16, 32, 32), normalisation=("zscore",), figures=(None,),
    )  # fmt: skip


def _one_hot(labels: np.ndarray, classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(labels).long(), classes).movedim(-1, 0).float()


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_labels_come_back_exactly_from_every_orientation(
    tmp_path: Path, axes: tuple[int, ...], signs: tuple[float, ...], spacing: tuple[float, float, float]
) -> None:
    image, labels = _subject(axes, signs, spacing)
    write_image(image, tmp_path / "image.nii.gz")
    write(labels, tmp_path / "labels.nii.gz")
    image, labels = read_image(tmp_path / "image.nii.gz"), read_labels(tmp_path / "labels.nii.gz")

    own = canonical_orientation(image)[0].geometry.spacing
    made = preprocess(image, _plan(own))
    assert made.trace.unchanged
    seen = preprocess_labels(labels, made.trace)
    back = restore_logits(_one_hot(seen, 5), made.trace).labels
    write(back, tmp_path / "back.nii.gz", like=image)
    result = read_labels(tmp_path / "back.nii.gz")

    for restored in (back, restore_labels(seen, made.trace), result):
        assert np.array_equal(restored.array, labels.array)
        np.testing.assert_allclose(restored.geometry.affine, image.geometry.affine, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_every_orientation_shows_the_network_the_same_patient(axes: tuple[int, ...], signs: tuple[float, ...]) -> None:
    # one canonical volume, stored in 48 ways: the network's input must not depend on how
    volume = np.random.default_rng(3).normal(size=(1, *SHAPE)).astype(np.float32)
    spacing = (2.0, 1.0, 1.5)
    canonical = Geometry(SHAPE, spacing)
    order = [2 - axis for axis in axes]  # stored axis n runs along LPS row axes[n], canonical axis 2 - row
    stored = np.transpose(volume[0], order)
    flips = tuple(slice(None, None, int(sign)) for sign in signs)
    corner = canonical.affine @ [
        *(SHAPE[2 - row] - 1 if signs[list(axes).index(row)] < 0 else 0 for row in (2, 1, 0)),
        1.0,
    ]
    direction = np.zeros((3, 3))
    for axis in range(3):
        direction[axes[axis], axis] = signs[axis]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array([spacing[axis] for axis in order])
    affine[:3, 3] = corner[:3]
    image = Image(stored[flips][None], Geometry.from_affine(affine, stored.shape))
    target = _plan((1.7, 1.4, 1.1))
    made, wanted = preprocess(image, target), preprocess(Image(volume, canonical), target)
    np.testing.assert_allclose(made.data, wanted.data, atol=1e-5)
    np.testing.assert_allclose(made.trace.grid.affine, wanted.trace.grid.affine, rtol=0, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_shapes_and_places_come_back_from_any_spacing_and_obliquity(data: st.DataObject) -> None:
    from scipy.spatial.transform import Rotation

    shape = data.draw(st.tuples(*[st.integers(4, 24)] * 3))
    spacing = data.draw(st.tuples(*[st.floats(0.4, 6)] * 3))
    target = data.draw(st.tuples(*[st.floats(0.4, 6)] * 3))
    turn = Rotation.from_euler("xyz", data.draw(st.tuples(*[st.floats(-180, 180)] * 3)), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(spacing)
    geometry = Geometry.from_affine(affine, shape)
    array = np.zeros((1, *shape))
    array[(0, *(slice(n // 4, n // 4 + max(2, n // 2)) for n in shape))] = 1
    image = Image(array, geometry)
    trace = preprocess(image, _plan(target)).trace
    half = np.zeros(trace.grid.shape, dtype=np.uint8)
    half[: (trace.grid.shape[0] + 1) // 2] = 1
    from_labels = restore_labels(half, trace)
    from_logits = restore_logits(_one_hot(half, 2), trace).labels
    for restored in (from_labels, from_logits):
        assert restored.geometry == image.geometry
        assert restored.array.shape == (1, *shape)
    # both ways back put the boundary within one voxel of each other
    box_depth = trace.box_shape[0]
    apart = (from_labels.array != from_logits.array).sum() / max(1, np.prod(trace.box_shape) / box_depth)
    assert apart <= max(1.0, np.ceil(0.5 * box_depth / trace.grid.shape[0]))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_solid_organ_survives_the_trip_through_the_tasks_spacing(data: st.DataObject) -> None:
    spacing = data.draw(st.tuples(*[st.floats(0.8, 3)] * 3))
    target = data.draw(st.tuples(*[st.floats(0.8, 3)] * 3))
    shape = tuple(max(8, round(60 / step)) for step in spacing)
    places = [(np.arange(n) + 0.5) * step for n, step in zip(shape, spacing, strict=True)]
    d, h, w = np.meshgrid(*places, indexing="ij")
    labels = (((d - 30) ** 2 + (h - 28) ** 2 + (w - 33) ** 2) < 18**2).astype(np.uint8)[None]
    geometry = Geometry((shape[0], shape[1], shape[2]), spacing)
    trace = preprocess(Image(labels.astype(np.float32), geometry), _plan(target)).trace
    seen = preprocess_labels(Image(labels, geometry), trace)
    for back in (restore_labels(seen, trace), restore_logits(_one_hot(seen, 2), trace).labels):
        overlap = 2 * np.logical_and(back.array, labels).sum() / (back.array.astype(bool).sum() + labels.sum())
        assert overlap > 0.87


def test_photographs_come_back_to_their_own_pixels(make_photograph: Callable[..., Image]) -> None:
    labels = np.zeros((61, 97), dtype=np.uint8)
    labels[20:41, 30:77] = 1
    photograph = make_photograph(np.stack([labels * 200] * 3))
    plan = TaskPlan(
        task="p", modality="endoscopy", dimension=2, channels=("R", "G", "B"), classes=("polyp",), longest_side=64,
        patch=(1, 32, 32), normalisation=("zscore",) * 3, figures=(None,) * 3, crop_to_body=False,
    )  # fmt: skip
    made = preprocess(photograph, plan)
    seen = preprocess_labels(make_photograph(labels), made.trace)
    assert seen.shape == (1, 40, 64)
    back = restore_logits(_one_hot(seen, 2), made.trace).labels
    assert back.array.shape == (1, 1, 61, 97)
    assert not back.physical
    assert "colour" not in back.meta
    assert (back.array[0, 0] != labels).mean() < 0.03
