"""A plan says how images reach its network; one from before it did so is the same plan, with the same keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import numpy as np
import pytest

from meduniseg_core.images import Geometry, Image
from meduniseg_core.inference.windows import plan_windows
from meduniseg_core.preprocessing import IntensityStatistics, TaskPlan, preprocess
from meduniseg_core.preprocessing.cache import _preprocessing_part
from meduniseg_core.preprocessing.resample import Rules, resample

SAID = {"resampling": "cubic", "low_pass": True, "small_images": "shrink", "averaging": "logits"}
STRIDE = (16, 32, 32)


def volume_plan(**changes: object) -> TaskPlan:
    figures = IntensityStatistics(mean=0.0, std=200.0, percentile_00_5=-800.0, percentile_99_5=800.0)
    fields: dict[str, object] = {
        "task": "organ",
        "modality": "ct",
        "dimension": 3,
        "channels": ("CT",),
        "classes": ("one", "two"),
        "spacing": (2.0, 2.0, 2.0),
        "patch": (16, 64, 64),
        "normalisation": ("ct",),
        "figures": (figures,),
        "mirror_axes": (0, 1, 2),
        "crop_to_body": False,
    }
    return TaskPlan.model_validate({**fields, **changes})


def noise(shape: tuple[int, int, int] = (12, 50, 60), spacing: float = 0.7) -> Image:
    array = np.random.default_rng(0).normal(0, 100, shape).astype(np.float32)
    return Image(array[None], Geometry(shape, (spacing, spacing, spacing)))


def key(plan: TaskPlan) -> str:
    return hashlib.sha256(json.dumps(_preprocessing_part(plan), sort_keys=True).encode()).hexdigest()[:16]


def test_a_plan_says_what_it_does() -> None:
    written = json.loads(volume_plan().model_dump_json())
    assert {name: written[name] for name in SAID} == SAID


def test_a_plan_from_before_is_the_same_plan_with_the_same_cache_key() -> None:
    before = {name: value for name, value in volume_plan().model_dump().items() if name not in SAID}
    plan = TaskPlan.model_validate(before)
    assert plan == volume_plan()
    assert key(plan) == "65a84aa2daf5ff2a"  # of the version before


def test_only_what_changes_voxels_changes_the_cache_key() -> None:
    assert key(volume_plan(small_images="pad", averaging="probabilities")) == key(volume_plan())
    assert key(volume_plan(low_pass=False)) != key(volume_plan())


def test_by_default_a_reduction_is_low_passed_and_otherwise_it_is_not() -> None:
    image, cubic = noise(), ("cubic", "cubic", "cubic")
    for low_pass in (True, False):
        found = preprocess(image, volume_plan(low_pass=low_pass, normalisation=("none",), figures=(None,))).data
        expected = resample(image.array, found.shape[1:], Rules(cubic, (low_pass,) * 3))
        assert np.array_equal(found, expected)


def test_windows_of_small_images_shrink_or_have_the_patch_s_size() -> None:
    assert plan_windows(volume_plan(patch=(64, 128, 128)), (20, 70, 90), STRIDE, 0.5).window == (32, 96, 96)
    padded = plan_windows(volume_plan(patch=(64, 128, 128), small_images="pad"), (20, 70, 90), STRIDE, 0.5)
    assert padded.window == (64, 128, 128) and padded.axes == ((-22,), (-29,), (-19,))


def test_a_scheme_implies_splines_and_padding() -> None:
    plan = volume_plan(scheme={"version": 1})
    assert (plan.resampling, plan.low_pass, plan.small_images) == ("bspline", False, "pad")
    assert TaskPlan.model_validate_json(plan.model_dump_json()) == plan
    assert volume_plan(scheme={}).scheme.version == 2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "changes",
    [
        {"resampling": "bspline"},
        {"scheme": {}, "resampling": "cubic"},
        {"scheme": {}, "low_pass": True},
        {"scheme": {}, "small_images": "shrink"},
        {"averaging": "labels"},
    ],
)
def test_contradictions_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"scheme|averaging"):
        volume_plan(**changes)


def test_version_1_normalises_what_was_resampled_within_the_resampled_mask() -> None:
    image = noise((10, 40, 40), 1.0)
    array = image.array.copy()
    array[:, :, :8] = 0
    array[:, 3:6, 20:24, 20:24] = 0  # a hole, which is filled
    image = image.with_array(array)
    for version in (1, 2):
        plan = volume_plan(scheme={"version": version}, normalisation=("zscore_nonzero",), figures=(None,))
        data = preprocess(image, plan).data
        mean, deviation = float(data.mean()), float(data.std())
        assert (abs(mean) < 1e-4 and abs(deviation - 1) < 1e-3) == (version == 1), (version, mean, deviation)


def test_the_picture_plan_s_key_is_the_one_of_before(make_plan_of: Callable[..., TaskPlan]) -> None:
    plan = make_plan_of(task="spot", dimension=2, longest_side=64, spacing=None, patch=(1, 64, 64), classes=("spot",))
    assert not set(SAID) & set(_preprocessing_part(plan))
