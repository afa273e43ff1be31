"""The paper's plan, nnU-Net's rules, and plans for a GPU's memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from meduniseg_core.errors import UsageError
from meduniseg_core.events import Progress
from meduniseg_core.images import Image
from meduniseg_core.preprocessing import Fingerprint, RawDataset, plan_dataset, preprocess_dataset
from meduniseg_core.preprocessing.cache import SOURCES, source_files
from meduniseg_core.preprocessing.planners import nnunet_batch, nnunet_spacing, nnunet_start, voxels_within
from meduniseg_core.training.memory import TRAINING_FACTOR

CtCase = Callable[..., tuple[list[Image], Image]]


@pytest.fixture
def dataset(make_dataset: Callable[..., Path], ct_case: CtCase) -> RawDataset:
    return RawDataset.open(make_dataset({name: ct_case(seed) for seed, name in enumerate("abc")}))


def marks(spacings: list[tuple[float, float, float]], shapes: list[tuple[int, int, int]]) -> Fingerprint:
    return Fingerprint(
        dataset="x",
        cases=len(shapes),
        dimension=3,
        physical=True,
        hounsfield=(True,),
        spacings=tuple(spacings),
        shapes=tuple(shapes),
        body_fraction=1.0,
        figures=(None,),
        presence={},
    )


def test_the_papers_plan_is_the_same_for_every_set(dataset: RawDataset) -> None:
    plan = plan_dataset(dataset, "paper")
    assert (plan.spacing, plan.patch, plan.batch) == ((3.0, 1.5, 1.5), (64, 192, 192), 2)
    with pytest.raises(UsageError, match="same for every GPU"):
        plan_dataset(dataset, "paper", gpu_memory=24.0)


def test_what_is_given_takes_precedence(dataset: RawDataset) -> None:
    plan = plan_dataset(dataset, "paper", fixed={"spacing": (2.0, 2.0, 2.0), "patch": None, "batch": 4})
    assert (plan.spacing, plan.patch, plan.batch) == ((2.0, 2.0, 2.0), (64, 192, 192), 4)


def test_pictures_get_the_papers_size(make_dataset: Callable[..., Path], make_photograph: Callable[..., Image]) -> None:
    photo = make_photograph(np.random.default_rng(0).integers(0, 255, (3, 40, 60)).astype(np.uint8))
    case = ([photo], make_photograph(np.ones((40, 60), np.uint8)))
    channels = {"0": "red", "1": "green", "2": "blue"}
    folder = make_dataset({"a": case}, ending=".png", modality="dermoscopy", channel_names=channels)
    plan = plan_dataset(RawDataset.open(folder), "paper")
    assert (plan.longest_side, plan.patch, plan.batch) == (512, (1, 512, 512), 12)


def test_nnunets_spacing_is_the_median_and_finer_where_one_axis_is_coarse() -> None:
    flat = [(40, 512, 512)] * 11
    assert nnunet_spacing(marks([(1.0, 0.8, 0.8)] * 11, [(200, 300, 300)] * 11)) == (1.0, 0.8, 0.8)
    thick = [(3.0 + index / 2, 0.8, 0.8) for index in range(11)]  # 3 to 8 mm, median 5.5
    assert nnunet_spacing(marks(thick, flat)) == (3.5, 0.8, 0.8)
    assert nnunet_spacing(marks(thick, [(200, 300, 300)] * 11)) == (5.5, 0.8, 0.8)  # many slices: not flat
    # never finer than the other axes
    mixed = [(0.5, 0.8, 0.8)] * 2 + [(5.0, 0.8, 0.8)] * 9
    assert nnunet_spacing(marks(mixed, flat))[0] == pytest.approx(0.80001)


def test_nnunets_patch_begins_with_equal_sides_in_mm_within_the_image() -> None:
    assert nnunet_start((500, 500, 500), (1.0, 1.0, 1.0), 3) == (256, 256, 256)
    assert nnunet_start((500, 500, 500), (4.0, 1.0, 1.0), 3) == (102, 406, 406)
    assert nnunet_start((30, 300, 500), (4.0, 1.0, 1.0), 3) == (30, 300, 406)
    assert nnunet_start((1, 700, 3000), None, 2) == (1, 700, 2048)


def test_nnunets_batch_shows_at_most_a_twentieth_of_all_voxels() -> None:
    assert nnunet_batch(40, (64, 64, 64), (64, 64, 64), 100) == 5
    assert nnunet_batch(40, (64, 64, 64), (64, 64, 64), 10) == 2
    assert nnunet_batch(3, (64, 64, 64), (64, 64, 64), 1000) == 3


@pytest.mark.parametrize("planner", ["default", "nnunet"])
def test_more_memory_gives_larger_plans_that_fit(dataset: RawDataset, planner: str) -> None:
    sizes = []
    for gib in (4.0, 11.0, 24.0, 80.0):
        plan = plan_dataset(dataset, planner, gpu_memory=gib, fixed={"spacing": (0.2, 0.1, 0.1)})  # type: ignore[arg-type]
        assert plan.batch >= 2
        voxels = math.prod(plan.patch) * plan.batch
        assert voxels <= voxels_within(gib)
        # half of the bytes that fp32 was measured to take (training.memory), with the weights, fit into the GPU
        assert voxels * 32 * 4 * TRAINING_FACTOR / 2 + 0.4 * 2**30 < gib * 2**30
        sizes.append(voxels)
    assert sizes[0] < sizes[-1]


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="too little"):
        voxels_within(0.5)


def test_a_second_plan_looks_at_changed_images_only(tmp_path: Path, dataset: RawDataset, ct_case: CtCase) -> None:
    def planned() -> tuple[object, list[str]]:
        seen: list[str] = []

        def heard(event: object) -> None:
            if isinstance(event, Progress) and event.detail:
                seen.append(event.detail)

        sources = source_files(dataset, tmp_path)
        return plan_dataset(dataset, cache_dir=tmp_path, sources=sources, events=heard), seen

    first, looked = planned()
    assert looked == ["a", "b", "c"]
    assert planned() == (first, [])
    assert first == plan_dataset(dataset)  # what was kept is what would be found
    (tmp_path / SOURCES / dataset.task / "b.npz").write_bytes(b"damaged")
    assert planned() == (first, ["b"])
    first_case, _, last_case = dataset.cases("Tr")
    last_case.images[0].write_bytes(first_case.images[0].read_bytes())
    assert planned()[1] == ["c"]


def test_machines_share_one_cache(tmp_path: Path, dataset: RawDataset) -> None:
    plan = plan_dataset(dataset)
    first = preprocess_dataset(dataset, plan, tmp_path, only=["a", "c"])
    assert ([case.case for case in first], first.made) == (["a", "c"], {"a", "c"})
    whole = preprocess_dataset(dataset, plan, tmp_path)
    assert ([case.case for case in whole], whole.made) == (["a", "b", "c"], {"b"})
    assert whole.bytes == sum(path.stat().st_size for path in whole.folder.glob("[abc]*"))
    assert sum(whole.class_voxels.values()) == 3 * 600
