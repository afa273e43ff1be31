"""From a data set's figures to its plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.images import Image
from meduniseg_core.preprocessing import Fingerprint, IntensityStatistics, RawDataset, extract_fingerprint, make_plan
from meduniseg_core.preprocessing.dataset import DatasetDescription
from meduniseg_core.preprocessing.planning import is_sided, plan_patch

MakeDataset = Callable[..., Path]
CtCase = Callable[..., tuple[list[Image], Image]]
FIGURES = IntensityStatistics(mean=80, std=20, percentile_00_5=20, percentile_99_5=140)


def _dataset(classes: tuple[str, ...] = ("liver",), channels: tuple[str, ...] = ("CT",), **keys: Any) -> RawDataset:
    description = DatasetDescription(
        channel_names={str(i): name for i, name in enumerate(channels)},
        labels={"background": 0, **{name: i for i, name in enumerate(classes, start=1)}},
        file_ending=".nii.gz",
        **{"modality": "ct", "task": "liver", **keys},
    )
    return RawDataset(Path("nowhere"), description)


def _marks(**changes: Any) -> Fingerprint:
    values: dict[str, Any] = {
        "dataset": "Dataset900_Test",
        "cases": 3,
        "dimension": 3,
        "physical": True,
        "hounsfield": (True,),
        "spacings": ((5.0, 0.8, 0.8), (2.5, 0.7, 0.7), (3.0, 0.9, 0.9)),
        "shapes": ((100, 400, 400), (150, 512, 512), (120, 450, 450)),
        "body_fraction": 0.9,
        "figures": (FIGURES,),
        "presence": {"liver": 3},
    }
    return Fingerprint.model_validate({**values, **changes})


def test_spacing_is_the_median_unless_given() -> None:
    assert make_plan(_dataset(), figures=_marks()).spacing == (3.0, 0.8, 0.8)
    assert make_plan(_dataset(), figures=_marks(), spacing=(3.0, 1.5, 1.5)).spacing == (3.0, 1.5, 1.5)


def test_what_is_given_is_kept() -> None:
    plan = make_plan(_dataset(), figures=_marks(), task="mine", modality="mri", patch=(60, 190, 180), batch=5)
    assert (plan.task, plan.modality, plan.batch) == ("mine", "mri", 5)
    assert plan.patch == (64, 192, 192)


def test_patch_and_batch_stay_within_their_budgets() -> None:
    plan = make_plan(
        _dataset(),
        figures=_marks(),
        patch_voxels=48 * 128 * 128,
        batch_voxels=4 * 48 * 128 * 128,
        total_stride=(8, 16, 16),
    )
    assert math.prod(plan.patch) <= 48 * 128 * 128
    assert [size % step for size, step in zip(plan.patch, (8, 16, 16), strict=True)] == [0, 0, 0]
    assert plan.batch >= 4


@settings(deadline=None)
@given(
    median=st.tuples(st.integers(1, 400), st.integers(1, 700), st.integers(1, 700)),
    budget=st.integers(16 * 32 * 32, 3_000_000),
)
def test_every_patch_fits_stride_budget_and_median(median: tuple[int, int, int], budget: int) -> None:
    patch = plan_patch(median, (16, 32, 32), budget)
    assert math.prod(patch) <= budget
    for size, step, typical in zip(patch, (16, 32, 32), median, strict=True):
        assert size % step == 0
        assert step <= size <= math.ceil(typical / step) * step


def test_ct_in_hounsfield_units_is_clipped_and_standardised() -> None:
    plan = make_plan(_dataset(), figures=_marks())
    assert plan.normalisation == ("ct",)
    assert plan.figures == (FIGURES,)


def test_windowed_ct_and_other_channels_are_z_scored() -> None:
    assert make_plan(_dataset(), figures=_marks(hounsfield=(False,))).normalisation == ("zscore",)
    pet = _dataset(channels=("CT", "PET"), modality="pet")
    plan = make_plan(pet, figures=_marks(hounsfield=(True, False), figures=(FIGURES, FIGURES)))
    assert plan.normalisation == ("ct", "zscore")


def test_mostly_empty_volumes_are_z_scored_within_their_mask() -> None:
    mri = _dataset(channels=("FLAIR",), modality="mri")
    assert make_plan(mri, figures=_marks(hounsfield=(False,), body_fraction=0.4)).normalisation == ("zscore_nonzero",)


def test_nnunets_nonorm_is_honoured() -> None:
    plan = make_plan(_dataset(channels=("noNorm",), modality="mri"), figures=_marks(hounsfield=(False,)))
    assert plan.normalisation == ("none",)


def test_photographs_get_a_long_side() -> None:
    marks = _marks(
        dimension=2, physical=False, hounsfield=(False,) * 3, figures=(FIGURES,) * 3,
        spacings=((1.0, 1.0, 1.0),), shapes=((1, 1000, 1500),), body_fraction=1.0,
    )  # fmt: skip
    colour = _dataset(channels=("R", "G", "B"), modality="endoscopy")
    plan = make_plan(colour, figures=marks)
    assert (plan.spacing, plan.longest_side, plan.dimension) == (None, 512, 2)
    assert plan.patch == (1, 352, 512)
    assert plan.mirror_axes == (1, 2)
    assert not plan.crop_to_body
    assert plan.normalisation == ("zscore",) * 3
    assert make_plan(colour, figures=marks, longest_side=256).patch == (1, 192, 256)


def test_options_that_contradict_the_data_are_refused() -> None:
    with pytest.raises(UsageError, match="not both"):
        make_plan(_dataset(), figures=_marks(), spacing=(1, 1, 1), longest_side=512)
    with pytest.raises(UsageError, match="holds volumes"):
        make_plan(_dataset(), figures=_marks(), longest_side=512)
    with pytest.raises(UsageError, match="no size in mm"):
        make_plan(_dataset(), figures=_marks(physical=False, dimension=2), spacing=(1, 1, 1))
    with pytest.raises(BadInputError, match="no voxel size"):
        make_plan(_dataset(), figures=_marks(physical=False))


@pytest.mark.parametrize(
    ("classes", "sided"),
    [
        (("right parotid", "left parotid"), True),
        (("lung_left",), True),
        (("kidneyRight",), True),
        (("LEFT-ventricle", "myocardium"), True),
        (("Parotid_L", "Parotid_R"), True),
        (("vertebra_l", "disc"), False),
        (("cleft", "bright spot"), False),
        (("disc", "cup"), False),
    ],
)
def test_sided_classes_are_never_mirrored_left_to_right(classes: tuple[str, ...], sided: bool) -> None:
    dataset = _dataset(classes)
    assert is_sided(dataset) is sided
    assert make_plan(dataset, figures=_marks()).mirror_axes == ((0, 1) if sided else (0, 1, 2))


@pytest.mark.parametrize(
    ("classes", "dimension", "axes"),
    [
        (("anterior", "posterior"), 3, (0, 2)),
        (("upper lobe", "lower lobe"), 3, (1, 2)),
        (("left ventral", "right dorsal"), 3, (0,)),
        (("anterior", "posterior"), 2, ()),
        (("upper jaw", "lower jaw"), 2, (2,)),
        (("left lung", "right lung"), 2, (1,)),
        (("disc", "cup"), 2, (1, 2)),
    ],
)
def test_classes_named_by_direction_are_not_mirrored_along_it(
    classes: tuple[str, ...], dimension: int, axes: tuple[int, ...]
) -> None:
    assert make_plan(_dataset(classes), figures=_marks(dimension=dimension)).mirror_axes == axes


def test_the_data_set_itself_may_say_whether_it_is_sided() -> None:
    assert is_sided(_dataset(("lung a", "lung b"), sided=True))
    assert not is_sided(_dataset(("left behind",), sided=False))


def test_a_fingerprint_measures_the_data_set(make_dataset: MakeDataset, ct_case: CtCase) -> None:
    dataset = RawDataset.open(make_dataset({"a": ct_case(0), "b": ct_case(1)}))
    marks = extract_fingerprint(dataset)
    assert marks.cases == 2
    assert marks.hounsfield == (True,)
    assert marks.median_spacing == pytest.approx((3.0, 1.0, 1.0))
    assert marks.shapes[0] == (12, 30, 38)  # the body of 24 x 32 with steps and margins, all slices
    assert marks.presence == {"liver": 2, "tumour": 2}
    figures = marks.figures[0]
    assert figures is not None
    assert figures.mean == pytest.approx(100, abs=1.5)
    assert figures.std == pytest.approx(10, abs=1)
    assert figures.percentile_00_5 == pytest.approx(74, abs=6)
    assert figures.percentile_99_5 == pytest.approx(126, abs=6)


def test_a_fingerprint_is_the_same_every_time(make_dataset: MakeDataset, ct_case: CtCase) -> None:
    dataset = RawDataset.open(make_dataset({"a": ct_case(0), "b": ct_case(1)}))
    assert extract_fingerprint(dataset) == extract_fingerprint(dataset)
    assert extract_fingerprint(dataset) != extract_fingerprint(dataset, seed=1)


def test_a_fingerprint_is_of_the_canonical_orientation(
    make_dataset: MakeDataset, make_volume: Callable[..., Image]
) -> None:
    sagittal = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))  # d runs to the left, w to the head
    array = np.random.default_rng(0).normal(size=(6, 20, 30)).astype(np.float32)
    image = make_volume(array, (4.0, 0.5, 0.7), direction=sagittal)
    labels = make_volume((array > 1).astype(np.uint8), (4.0, 0.5, 0.7), direction=sagittal)
    dataset = RawDataset.open(make_dataset({"a": ([image], labels)}, modality="mri"))
    marks = extract_fingerprint(dataset)
    assert marks.median_spacing == pytest.approx((0.7, 0.5, 4.0))
    assert marks.shapes == ((30, 20, 6),)


def test_a_data_set_without_training_cases_cannot_be_planned(make_dataset: MakeDataset, ct_case: CtCase) -> None:
    folder = make_dataset({"a": ct_case()}, split="Ts")
    with pytest.raises(BadInputError, match="no training cases"):
        make_plan(RawDataset.open(folder))


@pytest.mark.real
def test_head_and_neck_ct_is_planned_as_sided_ct(shared_data: Path) -> None:
    plan = make_plan(RawDataset.open(shared_data / "Dataset102_HeadNeckCT"))
    assert plan.normalisation == ("ct",)
    assert plan.mirror_axes == (0, 1)
    assert plan.spacing is not None
    assert plan.spacing[0] < plan.spacing[1]
