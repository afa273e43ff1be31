"""Other devices' looks: labels keep their voxels, mean and spread stay, a modality gets what its devices differ by."""

from __future__ import annotations

import numpy as np
import pytest

from meduniseg_core.preprocessing import IGNORED
from meduniseg_core.training.augmentation import AugmentationConfig, for_task, sample_patch
from meduniseg_core.training.augmentation.appearance import change_appearance
from meduniseg_core.training.augmentation.config import AppearanceConfig
from meduniseg_core.training.augmentation.presets import GROUPS, MODALITY_GROUPS

OPERATIONS = [name for name in AppearanceConfig.model_fields if name.startswith("p_")]


def picture(channels: int = 3, shape: tuple[int, int, int] = (1, 64, 72)) -> np.ndarray:
    """A smooth picture with an edge, standardised per channel."""
    rng = np.random.default_rng(5)
    d, h, w = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    image = np.stack([np.sin(5 * h + c) + (w > 0.5) + 0.2 * d for c in range(channels)])
    image = image + 0.05 * rng.standard_normal(image.shape)
    image -= image.mean(axis=(1, 2, 3), keepdims=True)
    return (image / image.std(axis=(1, 2, 3), keepdims=True)).astype(np.float32)


def right_half(image: np.ndarray) -> np.ndarray:
    """Labels (D, H, W): class 1 in the right half of a picture."""
    labels = np.zeros(image.shape[1:], dtype=np.uint8)
    labels[..., image.shape[3] // 2 :] = 1
    return labels


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_changes_a_picture_and_keeps_its_mean_and_spread(operation: str) -> None:
    before = picture()
    after = before.copy()
    config = AppearanceConfig.model_validate({operation: 1.0})
    change_appearance(after, np.random.default_rng(1), config, right_half(before))
    assert np.isfinite(after).all()
    assert not np.allclose(before, after, atol=1e-3)
    assert after.mean(axis=(1, 2, 3)) == pytest.approx(before.mean(axis=(1, 2, 3)), abs=1e-4)
    assert after.std(axis=(1, 2, 3)) == pytest.approx(before.std(axis=(1, 2, 3)), rel=1e-3)


@pytest.mark.parametrize("shape", [(1, 40, 50), (12, 20, 24)])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_all_together_take_every_shape_and_the_same_generator_gives_the_same_bits(
    channels: int, shape: tuple[int, int, int]
) -> None:
    every = AppearanceConfig.model_validate(dict.fromkeys(OPERATIONS, 1.0))
    first, second = picture(channels, shape), picture(channels, shape)
    change_appearance(first, np.random.default_rng(7), every, right_half(first))
    change_appearance(second, np.random.default_rng(7), every, right_half(second))
    assert np.array_equal(first, second) and np.isfinite(first).all()


def test_another_contrast_moves_the_classes_and_nothing_else() -> None:
    config = AppearanceConfig(p_class_contrast=1.0, class_contrast=0.4)
    labels = np.zeros((1, 64, 72), dtype=np.uint8)
    labels[0, 8:24, 8:24], labels[0, 8:24, 44:60], labels[0, 40:60, 8:60] = 1, 2, IGNORED
    ramp = np.broadcast_to(np.linspace(-1, 1, 72, dtype=np.float32), (1, 1, 64, 72))
    steps: list[tuple[float, float]] = []
    for seed in range(40):
        image = ramp.copy()
        change_appearance(image, np.random.default_rng(seed), config, labels)
        outside = image[0, 0, 30]  # a row far from both classes: what the sample's new mean and spread make of the ramp
        assert image[0, 0, 50] == pytest.approx(outside, abs=1e-6)  # nobody knows what an ignored part is
        scale = float(outside[-1] - outside[0]) / 2
        change = (image[0, 0, 16] - outside) / scale
        steps.append((float(change[16]), float(change[52])))
    first, second = np.array(steps).T
    assert (np.abs(first) < 1e-3).sum() > 5 and (np.abs(first) > 0.1).sum() > 10  # not always
    assert first.min() < -0.1 and first.max() > 0.1 and abs(np.corrcoef(first, second)[0, 1]) < 0.5
    assert max(np.abs(first).max(), np.abs(second).max()) <= 0.8 + 1e-3  # 0.4 of the range from -1 to 1


def test_without_labels_no_class_changes() -> None:
    before = picture()
    after = before.copy()
    change_appearance(after, np.random.default_rng(0), AppearanceConfig(p_class_contrast=1.0))
    assert after == pytest.approx(before, abs=1e-4)


def test_a_constant_picture_stays_as_it_is() -> None:
    flat = np.full((3, 1, 20, 20), 2.0, dtype=np.float32)
    assert change_appearance(flat, np.random.default_rng(0), AppearanceConfig(p_illumination=1.0)) is None
    assert np.all(flat == 2.0)


def test_no_label_lies_under_a_frame() -> None:
    config = AugmentationConfig.none().model_copy(update={"appearance": AppearanceConfig(p_frame=1.0)})
    label = np.ones((1, 64, 72), dtype=np.uint8)
    covered = 0
    for seed in range(12):
        image, seen = sample_patch(picture(), label, (0, 32, 36), (1, 64, 72), (), np.random.default_rng(seed), config)
        if (seen == 0).any():
            covered += 1
            assert float(np.ptp(image[:, seen == 0], axis=1).max()) < 1e-5  # one black
    assert covered >= 6


def test_a_grey_curve_keeps_the_order_of_intensities() -> None:
    image = picture(1)
    order = np.argsort(image.ravel(), kind="stable")
    change_appearance(image, np.random.default_rng(3), AppearanceConfig(p_grey_curve=1.0, grey_curve=0.9))
    assert (np.diff(image.ravel()[order]) >= -1e-5).all()


@pytest.mark.parametrize("modality", sorted(MODALITY_GROUPS))
def test_the_preset_of_a_modality_switches_its_groups_on_and_no_others(modality: str) -> None:
    config = for_task(AugmentationConfig(), modality, 2).appearance
    on = {name for name in OPERATIONS if getattr(config, name) > 0}
    assert on == {name for group in MODALITY_GROUPS[modality] for name in GROUPS[group]}


def test_hounsfield_units_of_a_volume_keep_their_look_and_none_switches_everything_off() -> None:
    assert not for_task(AugmentationConfig(), "ct", 3).appearance.active
    assert for_task(AugmentationConfig(), "mri", 3).appearance.p_illumination > 0
    plain = AugmentationConfig(presets="none")
    assert for_task(plain, "endoscopy", 2) == plain


def test_what_the_configuration_sets_itself_is_kept() -> None:
    own = AugmentationConfig(appearance=AppearanceConfig(p_spots=0.0, p_colour=0.9), p_aspect=0.1)
    used = for_task(own, "endoscopy", 2)
    assert (used.appearance.p_spots, used.appearance.p_colour, used.p_aspect) == (0.0, 0.9, 0.1)
    assert used.appearance.p_jpeg == GROUPS["sharpness"]["p_jpeg"]


def test_stretching_changes_the_ratio_of_the_sides_and_moves_the_label_with_the_image() -> None:
    label = np.zeros((1, 80, 80), dtype=np.uint8)
    label[0, 25:55, 25:55] = 1
    image = label[None].astype(np.float32)
    config = AugmentationConfig.none().model_copy(update={"p_aspect": 1.0, "aspect": (0.5, 2.0)})
    ratios = []
    for seed in range(8):
        moved, seen = sample_patch(image, label, (0, 40, 40), (1, 80, 80), (), np.random.default_rng(seed), config)
        rows, columns = np.flatnonzero(seen[0].any(axis=1)), np.flatnonzero(seen[0].any(axis=0))
        ratios.append(len(rows) / len(columns))
        assert np.mean((moved[0] > 0.5) == (seen > 0)) > 0.99
    assert min(ratios) < 0.8 and max(ratios) > 1.25
