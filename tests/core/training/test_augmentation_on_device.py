"""Augmentation by the training's device does what the workers' does, on any of torch's devices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from meduniseg_core.training.augmentation import AugmentationConfig, draw_sample, sample_maps
from meduniseg_core.training.augmentation.config import AppearanceConfig

CPU = torch.device("cpu")
SURE = {"p_rotation": 1.0, "p_scaling": 1.0}
KINDS = {
    "crop": {},
    "rotation and scaling": SURE,
    "stretching": {"p_aspect": 1.0},
    "mirroring": {"p_mirror": 1.0},
    "blur": {"p_blur": 1.0, "p_blur_channel": 1.0},
    "brightness": {"p_brightness": 1.0},
    "contrast": {"p_contrast": 1.0},
    "low resolution": {"p_low_resolution": 1.0, "p_low_resolution_channel": 1.0},
    "gamma": {"p_gamma": 1.0},
    "inverted gamma": {"p_inverted_gamma": 1.0},
}


def config_of(**probabilities: float) -> AugmentationConfig:
    return AugmentationConfig.model_validate({**AugmentationConfig.none().model_dump(), **probabilities})


def pair(
    config: AugmentationConfig, seed: int, patch: tuple[int, int, int], channels: int = 2
) -> tuple[np.ndarray, ...]:
    """A sample by the workers and by the device, of the same generator: images, labels, images, labels."""
    rng = np.random.default_rng(0)
    shape = (1 if patch[0] == 1 else 20, 30, 34)
    data = rng.normal(size=(2, *shape)).astype(np.float16)
    maps = [rng.integers(0, 3, shape).astype(np.uint8), rng.integers(0, 2, shape).astype(np.uint8)]
    place = (data, maps, [size // 2 for size in shape], patch, (1, 2))
    first = sample_maps(*place, np.random.default_rng(seed), config, spacing=(2.0, 1.0, 1.0))
    drawn = draw_sample(*place, np.random.default_rng(seed), config, spacing=(2.0, 1.0, 1.0))
    image, labels = drawn.finished(CPU)
    assert image.dtype == torch.float32 and labels.dtype == torch.uint8
    return (*first, image.numpy(), labels.numpy())


@pytest.mark.parametrize("patch", [(12, 20, 16), (1, 24, 24), (6, 24, 24)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_change_is_the_same_number_up_to_rounding(kind: str, patch: tuple[int, int, int]) -> None:
    config = config_of(**KINDS[kind])
    for seed in range(3):
        image, labels, image_too, labels_too = pair(config, seed, patch)
        np.testing.assert_allclose(image_too, image, atol=2e-4)
        assert (labels_too != labels).mean() < 1e-3  # ties between two voxels


def test_all_together_are_the_same_but_for_the_noise_of_single_voxels() -> None:
    noisy = 0
    for seed in range(30):
        image, labels, image_too, labels_too = pair(AugmentationConfig(p_noise=0.0), seed, (12, 20, 16))
        np.testing.assert_allclose(image_too, image, atol=1e-3)
        assert (labels_too != labels).mean() < 1e-3
        noisy += bool(np.abs(pair(AugmentationConfig(), seed, (12, 20, 16))[2] - image_too).max() > 1e-3)
    assert 0 < noisy < 12  # one in ten


def test_noise_has_the_drawn_strength_and_its_seed() -> None:
    config = config_of(p_noise=1.0)
    for seed in range(4):
        image, _, image_too, _ = pair(config, seed, (12, 20, 16))
        plain = pair(config_of(), seed, (12, 20, 16))[0]
        ours, theirs = image_too - plain, image - plain
        assert ours.std() == pytest.approx(theirs.std(), rel=0.05)
        assert abs(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]) < 0.1
        np.testing.assert_array_equal(image_too, pair(config, seed, (12, 20, 16))[2])
        assert not np.array_equal(image_too, pair(config, seed + 100, (12, 20, 16))[2])


def test_a_constant_channel_stays_and_changes_of_appearance_are_refused() -> None:
    data, maps = np.zeros((1, 8, 16, 16), np.float16), [np.zeros((8, 16, 16), np.uint8)]
    place = (data, maps, (4, 8, 8), (8, 16, 16), ())
    everything = config_of(**{name: 1.0 for kind in KINDS.values() for name in kind})
    image, _ = draw_sample(*place, np.random.default_rng(0), everything).finished(CPU)
    assert bool((image == 0).all())
    with pytest.raises(ValueError, match="on the CPU"):
        draw_sample(*place, np.random.default_rng(0), AugmentationConfig(appearance=AppearanceConfig(p_jpeg=1.0)))
