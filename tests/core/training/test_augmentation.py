"""Augmentation: labels stay on their voxels, the generator decides everything, sides are kept where they matter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from meduniseg_core.images.geometry import Shape3
from meduniseg_core.training.augmentation import AugmentationConfig, sample_maps, sample_patch

PLAIN = AugmentationConfig.none()
PROBABILITIES = [name for name in AugmentationConfig.model_fields if name.startswith("p_")]
EVERYTHING = AugmentationConfig.model_validate(dict.fromkeys(PROBABILITIES, 1.0))
INTENSITIES = [name for name in PROBABILITIES if name not in ("p_rotation", "p_scaling", "p_aspect", "p_mirror")]


def augment(
    image: np.ndarray,
    label: np.ndarray,
    *,
    patch: tuple[int, int, int],
    mirror_axes: Sequence[int],
    rng: np.random.Generator,
    config: AugmentationConfig,
    spacing: tuple[float, float, float] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """`sample_patch` about the middle of ``image`` (C, D, H, W) and ``label`` (D, H, W)."""
    middle = [size // 2 for size in label.shape]
    return sample_patch(image, label, middle, patch, mirror_axes, rng, config, spacing=spacing)


def only(**changes: object) -> AugmentationConfig:
    return AugmentationConfig.model_validate({**PLAIN.model_dump(), **changes})


def blobs(shape: Shape3, channels: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A smooth two-class label map and an image that holds the labels, plus noise in further channels."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal(shape), [min(4, size / 4) if size > 1 else 0 for size in shape])
    label = (field > np.quantile(field, 0.5)).astype(np.uint8) + (field > np.quantile(field, 0.8)).astype(np.uint8)
    data = rng.standard_normal((channels, *shape)).astype(np.float32)
    data[0] = label
    return data, label


CASES = [
    ((1, 90, 100), (1, 48, 64)),
    ((1, 30, 28), (1, 48, 48)),
    ((30, 40, 44), (24, 32, 32)),
    ((12, 60, 50), (8, 40, 40)),
]


@settings(max_examples=40, deadline=None)
@given(case=st.sampled_from(CASES), seed=st.integers(0, 2**32), spacing=st.sampled_from([None, (2.0, 1.0, 1.5)]))
def test_labels_stay_on_their_voxels_under_every_spatial_transform(
    case: tuple[Shape3, Shape3], seed: int, spacing: tuple[float, float, float] | None
) -> None:
    # channels that hold each voxel's own position: linear interpolation tells exactly where an output voxel comes from
    shape, patch = case
    rng = np.random.default_rng(seed)
    data = np.stack([*np.indices(shape), np.ones(shape)]).astype(np.float32)
    label = rng.integers(1, 250, size=shape).astype(np.uint8)
    config = only(p_rotation=0.8, p_scaling=0.8, p_mirror=0.5)
    centre = [int(rng.integers(size)) for size in shape]
    image, moved = sample_patch(data, label, centre, patch, (0, 1, 2), rng, config, spacing=spacing)
    assert image.shape == (4, *patch) and image.dtype == np.float32
    assert moved.shape == patch and moved.dtype == np.uint8
    where, coverage = image[:3], image[3]
    clear = (np.abs(where - np.floor(where) - 0.5) > 1e-3).all(0)  # not half-way between two voxels
    inside = clear & (coverage > 1 - 1e-5)
    assert inside.any()
    d, h, w = np.rint(where[:, inside]).astype(int)
    np.testing.assert_array_equal(moved[inside], label[d, h, w])
    assert (moved[coverage == 0] == 0).all()


@settings(max_examples=30, deadline=None)
@given(case=st.sampled_from(CASES), seed=st.integers(0, 2**32), mirrored=st.sampled_from([(), (1,), (0, 1, 2)]))
def test_every_map_goes_the_way_of_the_label(case: tuple[Shape3, Shape3], seed: int, mirrored: tuple[int, ...]) -> None:
    shape, patch = case
    data, label = blobs(shape, seed=seed)
    changed = (np.random.default_rng(seed).random(shape) < 0.3).astype(np.uint8)
    centre = [size // 2 for size in shape]

    def drawn(*maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return sample_maps(data, maps, centre, patch, mirrored, np.random.default_rng(seed), EVERYTHING)

    image, both = drawn(label, changed)
    alone, first = drawn(label)
    np.testing.assert_array_equal(image, alone)
    np.testing.assert_array_equal(both[0], first[0])
    np.testing.assert_array_equal(both[1], drawn(changed)[1][0])
    # a voxel of the pair comes from one voxel of the two maps: what they say together is what was sampled together
    np.testing.assert_array_equal(drawn(label + 10 * changed)[1][0], both[0] + 10 * both[1])


def test_plain_config_is_the_crop_and_nothing_else() -> None:
    data, label = blobs((20, 40, 44), channels=2)
    image, cut = sample_patch(data, label, (10, 20, 20), (8, 16, 16), (0, 1, 2), np.random.default_rng(0), PLAIN)
    np.testing.assert_array_equal(image, data[:, 6:14, 12:28, 12:28])
    np.testing.assert_array_equal(cut, label[6:14, 12:28, 12:28])


def test_patches_stay_inside_and_small_images_are_padded_with_background() -> None:
    data, label = blobs((1, 40, 44))
    image, _ = sample_patch(data, label, (0, 0, 43), (1, 16, 16), (), np.random.default_rng(0), PLAIN)
    np.testing.assert_array_equal(image, data[:, :, :16, 28:])
    data, label = np.ones((1, 1, 10, 12), np.float32), np.ones((1, 10, 12), np.uint8)
    image, cut = sample_patch(data, label, (0, 0, 0), (1, 16, 16), (), np.random.default_rng(0), PLAIN)
    assert image.sum() == cut.sum() == 120
    assert image[0, 0, 3:13, 2:14].all()


def test_a_rotated_patch_is_the_image_s_and_shows_its_surroundings_not_a_border() -> None:
    # repeats the generator's draws to know the angle, then compares with scipy about the same centre
    data, label = blobs((1, 80, 80))
    data[0] = ndimage.gaussian_filter(data[0], (0, 2, 2))
    config = only(p_rotation=1.0, rotation_2d=180.0)
    image, _ = augment(data, label, patch=(1, 33, 33), mirror_axes=(), rng=np.random.default_rng(4), config=config)
    rng = np.random.default_rng(4)
    rng.random(2)
    angle = np.deg2rad(rng.uniform(-180, 180))
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre, half = np.array([40.0, 40.0]), np.array([16.0, 16.0])
    expected = ndimage.affine_transform(
        data[0, 0], matrix, offset=centre - matrix @ half, output_shape=(33, 33), order=1
    )
    np.testing.assert_allclose(image[0, 0], expected, atol=1e-4)
    assert np.abs(image[0, 0, :2]).max() > 0  # the corners show the image, not padding


@pytest.mark.parametrize(("factor", "volume"), [(0.7, 1 / 0.7), (1.4, 1 / 1.4)])
def test_scaling_changes_the_size_of_things_by_the_factor(factor: float, volume: float) -> None:
    label = np.zeros((1, 120, 120), np.uint8)
    label[0, 45:75, 45:75] = 1
    config = only(p_scaling=1.0, scaling=(min(factor, 1.0), max(factor, 1.0)))
    sizes = []
    for seed in range(20):
        _, cut = augment(
            label[None].astype(np.float32),
            label,
            patch=(1, 64, 64),
            mirror_axes=(),
            rng=np.random.default_rng(seed),
            config=config,
        )
        sizes.append(np.sqrt(cut.sum()) / 30)
    low, high = sorted((1.0, volume))
    assert low - 0.05 <= min(sizes) and max(sizes) <= high + 0.05
    assert max(sizes) - min(sizes) > 0.5 * (high - low)


def test_anisotropic_volumes_turn_in_plane_only() -> None:
    depth = np.arange(30, dtype=np.float32)
    config = only(p_rotation=1.0, p_scaling=1.0)

    def slices_mix(shape: Shape3, patch: Shape3, spacing: tuple[float, float, float] | None) -> bool:
        data = np.broadcast_to(depth[: shape[0], None, None], shape)[None].astype(np.float32)
        label = np.ones(shape, np.uint8)
        image, _ = augment(
            data, label, patch=patch, mirror_axes=(), rng=np.random.default_rng(0), config=config, spacing=spacing
        )
        middle = image[0, :, patch[1] // 2 - 4 : patch[1] // 2 + 4, patch[2] // 2 - 4 : patch[2] // 2 + 4]
        return bool(np.ptp(middle, axis=(1, 2)).max() > 1e-3)

    assert slices_mix((30, 60, 60), (16, 32, 32), None)
    assert slices_mix((30, 60, 60), (16, 32, 32), (3.0, 1.0, 1.0))
    assert not slices_mix((30, 60, 60), (16, 32, 32), (3.5, 1.0, 1.0))
    assert not slices_mix((30, 160, 160), (8, 32, 32), None)


def test_left_and_right_are_never_swapped_where_it_is_not_allowed() -> None:
    # a ramp along w: mirrored, it would fall; rotations up to 30 degrees keep it rising
    data = np.broadcast_to(np.arange(60, dtype=np.float32), (24, 60, 60))[None].copy()
    label = np.zeros((24, 60, 60), np.uint8)
    label[:, :, :30] = 1
    config = AugmentationConfig.model_validate(
        {**AugmentationConfig().model_dump(), "p_mirror": 1.0, "p_rotation": 1.0}
    )
    for seed in range(15):
        image, cut = augment(
            data, label, patch=(16, 32, 32), mirror_axes=(0, 1), rng=np.random.default_rng(seed), config=config
        )
        assert image[..., 20:].mean() > image[..., :12].mean()
        assert cut[..., :12].mean() > cut[..., 20:].mean()


def test_allowed_axes_are_mirrored_together_with_the_label() -> None:
    data, label = blobs((10, 20, 20))
    image, cut = augment(
        data, label, patch=(10, 20, 20), mirror_axes=(1, 2), rng=np.random.default_rng(0), config=only(p_mirror=1.0)
    )
    np.testing.assert_array_equal(image, data[:, :, ::-1, ::-1])
    np.testing.assert_array_equal(cut, label[:, ::-1, ::-1])
    assert image.flags.c_contiguous and cut.flags.c_contiguous


@pytest.mark.parametrize(("shape", "patch"), CASES)
def test_the_same_generator_gives_the_same_bits_with_any_number_of_threads(shape: Shape3, patch: Shape3) -> None:
    data, label = blobs(shape, channels=3)
    before = data.copy()
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            rng = np.random.default_rng([7, 3])
            results.append(augment(data, label, patch=patch, mirror_axes=(0, 1, 2), rng=rng, config=EVERYTHING))
    finally:
        torch.set_num_threads(threads)
    assert results[0][0].tobytes() == results[1][0].tobytes()
    assert results[0][1].tobytes() == results[1][1].tobytes()
    np.testing.assert_array_equal(data, before)
    rng = np.random.default_rng([7, 4])
    other, _ = augment(data, label, patch=patch, mirror_axes=(0, 1, 2), rng=rng, config=EVERYTHING)
    assert not np.array_equal(other, results[0][0])


@pytest.mark.parametrize("value", [0.0, -3.5, 1e4])
def test_a_constant_image_stays_finite(value: float) -> None:
    for shape, patch in CASES:
        data, label = np.full((2, *shape), value, np.float32), np.zeros(shape, np.uint8)
        for seed in range(5):
            image, _ = augment(
                data, label, patch=patch, mirror_axes=(0,), rng=np.random.default_rng(seed), config=EVERYTHING
            )
            assert np.isfinite(image).all()


@pytest.mark.parametrize("name", [name for name in INTENSITIES if not name.endswith("_channel")])
def test_each_intensity_operation_changes_the_image_a_little_and_the_label_not_at_all(name: str) -> None:
    data, label = blobs((1, 64, 64), channels=3)
    data = ndimage.gaussian_filter(data, (0, 0, 1, 1))
    config = only(**{name: 1.0, "p_blur_channel": 1.0, "p_low_resolution_channel": 1.0, "low_resolution": (0.5, 0.6)})
    image, cut = augment(data, label, patch=(1, 64, 64), mirror_axes=(), rng=np.random.default_rng(2), config=config)
    np.testing.assert_array_equal(cut, label)
    assert not np.array_equal(image, data)
    for before, after in zip(data, image, strict=True):
        assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.8


def test_gamma_keeps_mean_and_spread_and_blur_is_scipy_s() -> None:
    data, label = blobs((1, 64, 64), channels=2)
    for name in ("p_gamma", "p_inverted_gamma"):
        image, _ = augment(
            data, label, patch=(1, 64, 64), mirror_axes=(), rng=np.random.default_rng(0), config=only(**{name: 1.0})
        )
        np.testing.assert_allclose(image.mean((1, 2, 3)), data.mean((1, 2, 3)), atol=1e-4)
        np.testing.assert_allclose(image.std((1, 2, 3)), data.std((1, 2, 3)), rtol=1e-3)
    config = only(p_blur=1.0, p_blur_channel=1.0, blur=(0.8, 0.8))
    image, _ = augment(data, label, patch=(1, 64, 64), mirror_axes=(), rng=np.random.default_rng(0), config=config)
    np.testing.assert_allclose(image, ndimage.gaussian_filter(data, (0, 0, 0.8, 0.8), truncate=3.0), atol=1e-5)


def test_a_memory_mapped_half_precision_case_is_read_and_left_alone(tmp_path: Path) -> None:
    data, label = blobs((10, 40, 40))
    np.save(tmp_path / "case.npy", data.astype(np.float16))
    np.save(tmp_path / "seg.npy", label)
    mapped = np.load(tmp_path / "case.npy", mmap_mode="r")
    seg = np.load(tmp_path / "seg.npy", mmap_mode="r")
    image, cut = sample_patch(
        mapped, seg, (5, 20, 20), (8, 24, 24), (0, 1, 2), np.random.default_rng(0), EVERYTHING, spacing=(2.0, 1.0, 1.0)
    )
    assert image.dtype == np.float32 and cut.dtype == np.uint8
    assert np.isfinite(image).all()
    np.testing.assert_array_equal(mapped, data.astype(np.float16))


def test_how_often_is_what_the_config_says() -> None:
    data, label = blobs((1, 24, 24))
    for probability in (0.0, 0.25):
        config = only(p_brightness=probability)
        changed = sum(
            not np.array_equal(
                augment(data, label, patch=(1, 24, 24), mirror_axes=(), rng=np.random.default_rng(seed), config=config)[
                    0
                ],
                data,
            )
            for seed in range(400)
        )
        assert changed / 400 == pytest.approx(probability, abs=0.08 if probability else 0)


def test_wrong_settings_and_shapes_are_refused() -> None:
    for wrong in (
        {"p_noise": 1.5},
        {"scaling": (1.1, 1.4)},
        {"noise": (0.2, 0.1)},
        {"low_resolution": (0.5, 2.0)},
        {"x": 1},
    ):
        with pytest.raises(ValidationError):
            AugmentationConfig.model_validate(wrong)
    with pytest.raises(ValueError, match="does not fit"):
        sample_patch(
            np.zeros((1, 1, 4, 4), np.float32),
            np.zeros((1, 4, 5), np.uint8),
            (0, 2, 2),
            (1, 4, 4),
            (),
            np.random.default_rng(0),
            PLAIN,
        )
