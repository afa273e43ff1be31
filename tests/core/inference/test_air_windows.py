"""Which windows are skipped."""

from __future__ import annotations

import numpy as np
import torch
from inference_samples import FIGURES, volume_plan

from meduniseg_core.inference.source import BackgroundDetector

ALL = (slice(None), slice(None), slice(None))


def normalised(hu: np.ndarray) -> torch.Tensor:
    clipped = np.clip(hu, FIGURES.percentile_00_5, FIGURES.percentile_99_5)
    return torch.from_numpy(((clipped - FIGURES.mean) / FIGURES.std).astype(np.float32))[None]


def test_noisy_air_of_a_ct_is_empty_and_a_single_voxel_of_lung_is_not() -> None:
    hu = np.random.default_rng(0).normal(-1000, 15, (8, 8, 8))
    assert BackgroundDetector(normalised(hu), volume_plan())(normalised(hu), ALL)
    hu[3, 3, 3] = -780
    assert not BackgroundDetector(normalised(hu), volume_plan())(normalised(hu), ALL)


def test_outside_of_the_mask_of_a_skull_stripped_image_is_empty() -> None:
    plan = volume_plan(modality="mri", normalisation=("zscore_nonzero",), figures=(None,))
    data = torch.zeros(1, 8, 8, 8)
    data[0, 4:] = torch.randn(4, 8, 8) - 3
    air = BackgroundDetector(data, plan)
    assert air(data, (slice(0, 4), slice(None), slice(None)))
    assert not air(data, (slice(0, 5), slice(None), slice(None)))


def test_a_constant_that_is_not_the_smallest_value_is_content() -> None:
    plan = volume_plan(modality="mri", normalisation=("zscore",), figures=(None,))
    data = torch.full((1, 8, 8, 8), -1.0)
    data[0, :4] = 2.0
    air = BackgroundDetector(data, plan)
    assert not air(data, (slice(0, 4), slice(None), slice(None)))
    assert air(data, (slice(4, 8), slice(None), slice(None)))


def test_one_channel_with_content_is_enough() -> None:
    plan = volume_plan(modality="pet", channels=("CT", "PET"), normalisation=("ct", "zscore"), figures=(FIGURES, None))
    data = torch.cat((normalised(np.full((4, 4, 4), -1000.0)), torch.zeros(1, 4, 4, 4)))
    assert BackgroundDetector(data, plan)(data, ALL)
    data[1, 2, 2, 2] = 0.5
    assert not BackgroundDetector(data, plan)(data, ALL)


def test_slices_of_a_stack_have_each_their_own_background() -> None:
    plan = volume_plan(modality="mri", normalisation=("zscore",), figures=(None,))
    data = torch.stack((torch.full((4, 4), -1.0), torch.full((4, 4), 2.0)))[None]
    data[0, 1, 0, 0] = 3.0
    air = BackgroundDetector(data, plan, stack=True)
    assert air(data, (slice(0, 1), slice(None), slice(None)))
    assert air(data, (slice(1, 2), slice(1, 4), slice(None)))
    assert not air(data, (slice(1, 2), slice(None), slice(None)))
