"""The catalogue against docs/spec.md sections 3, 6 and 7."""

from __future__ import annotations

import pytest

from meduniseg_core.catalog import DOWNSTREAM, MODALITIES, TASKS, UPSTREAM, Task, find_modality, find_task
from meduniseg_core.errors import UsageError

# data set: modality, foreground classes, channels, train, test
UPSTREAM_FACTS = {
    "Liver": ("ct", 2, 1, 104, 27),
    "Kidney": ("ct", 2, 1, 168, 42),
    "HepaV": ("ct", 2, 1, 242, 61),
    "Pancreas": ("ct", 2, 1, 224, 57),
    "Colon": ("ct", 1, 1, 100, 26),
    "Lung": ("ct", 1, 1, 50, 13),
    "Spleen": ("ct", 1, 1, 32, 9),
    "VerSe20": ("ct", 1, 1, 171, 43),
    "Prostate": ("mri", 1, 1, 91, 25),
    "BraTS21": ("mri", 3, 4, 1000, 251),
    "AutoPET22": ("pet", 1, 2, 400, 101),
    "ISIC18": ("dermoscopy", 1, 3, 2694, 1000),
    "REFUGE2": ("fundus", 2, 3, 1600, 400),
    "GlaS": ("pathology", 1, 3, 85, 80),
    "BUSI": ("ultrasound", 1, 3, 623, 157),
    "QaTav2": ("xray", 1, 3, 7145, 2113),
    "Polyp": ("endoscopy", 1, 3, 1450, 798),
}
# data set: modality, foreground classes, channels, train, test, patch, batch, iterations
DOWNSTREAM_FACTS = {
    "BTCV": ("ct", 13, 1, 21, 9, (48, 192, 192), 2, 25_000),
    "COVID-19-20": ("ct", 1, 1, 159, 40, (64, 192, 192), 2, 25_000),
    "VS": ("mri", 1, 1, 193, 49, (48, 192, 192), 2, 25_000),
    "SIIM": ("xray", 1, 3, 5048, 1372, (1, 512, 512), 12, 100_000),
    "IDRID": ("fundus", 2, 3, 54, 27, (1, 512, 512), 12, 25_000),
    "SegPC": ("pathology", 2, 3, 298, 199, (1, 512, 512), 12, 25_000),
}


def test_the_nine_modalities_are_in_the_order_of_their_prompts() -> None:
    assert list(MODALITIES) == [
        "ct",
        "mri",
        "pet",
        "dermoscopy",
        "fundus",
        "pathology",
        "ultrasound",
        "xray",
        "endoscopy",
    ]
    assert [m.name for m in MODALITIES.values() if m.hounsfield] == ["ct"]
    assert [m.name for m in MODALITIES.values() if m.dimension == 3] == ["ct", "mri", "pet"]


def test_the_upstream_tasks_are_the_papers() -> None:
    found = {
        task.dataset: (task.modality, len(task.classes), len(task.channels), task.train, task.test) for task in UPSTREAM
    }
    assert found == UPSTREAM_FACTS
    assert list(found) == list(UPSTREAM_FACTS)
    for task in UPSTREAM:
        expected = ((64, 192, 192), 2) if task.dimension == 3 else ((1, 512, 512), 12)
        assert (task.patch, task.batch) == expected
        assert task.iterations is None


def test_the_downstream_tasks_are_the_papers() -> None:
    found = {
        task.dataset: (
            task.modality,
            len(task.classes),
            len(task.channels),
            task.train,
            task.test,
            task.patch,
            task.batch,
            task.iterations,
        )
        for task in DOWNSTREAM
    }
    assert found == DOWNSTREAM_FACTS


def test_the_paper_size_networks_heads_fit_all_upstream_tasks() -> None:
    assert max(task.class_count for task in UPSTREAM) == 4
    assert {len(task.channels) for task in UPSTREAM} == {1, 2, 3, 4}


def test_volumes_have_a_spacing_and_photographs_a_size() -> None:
    for task in TASKS.values():
        if MODALITIES[task.modality].dimension == 3:
            assert (task.dimension, task.spacing, task.pixels) == (3, (3.0, 1.5, 1.5), None)
        else:
            assert (task.dimension, task.spacing, task.pixels) == (2, None, (512, 512))


def test_tasks_with_sided_classes_are_not_mirrored_left_to_right() -> None:
    for task in TASKS.values():
        sided = any(side in name for name in task.classes for side in ("left", "right"))
        assert (2 in task.mirror_axes) != sided
        assert task.dimension == 3 or 0 not in task.mirror_axes


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("ct", "ct"), ("MR", "mri"), ("x-ray", "xray"), ("X ray", "xray"), ("US", "ultrasound"), ("CT&PET", "pet")],
)
def test_modalities_are_found_by_alias_in_any_case(spelling: str, name: str) -> None:
    assert find_modality(spelling) is MODALITIES[name]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Spleen", "spleen"),
        ("hepatic-vessel", "hepatic_vessel"),
        ("BraTS21", "brain_tumour"),
        ("btcv", "abdominal_organs"),
    ],
)
def test_tasks_are_found_by_data_set_and_spelling(spelling: str, name: str) -> None:
    assert find_task(spelling) is TASKS[name]


def test_every_name_title_and_alias_leads_to_its_own_entry() -> None:
    for modality in MODALITIES.values():
        for spelling in (modality.name, modality.title, *modality.aliases):
            assert find_modality(spelling) is modality
    for task in TASKS.values():
        for spelling in (task.name, task.title, task.dataset, *task.aliases):
            assert find_task(spelling) is task


def test_unknown_names_are_answered_with_the_nearest_or_all() -> None:
    with pytest.raises(UsageError, match="did you mean 'endoscopy'"):
        find_modality("endoscpy")
    with pytest.raises(UsageError, match="did you mean 'spleen'"):
        find_task("splen")
    with pytest.raises(UsageError, match="there are: ct, mri"):
        find_modality("zzz")


def test_the_catalogue_cannot_be_altered() -> None:
    with pytest.raises(TypeError):
        MODALITIES["new"] = MODALITIES["ct"]  # type: ignore[index]
    with pytest.raises(ValueError, match="frozen"):
        TASKS["spleen"].batch = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "change",
    [
        {"spacing": None},
        {"pixels": (512, 512)},
        {"patch": (1, 64, 64)},
        {"iterations": 100},
        {"name": "Not A Key"},
        {"unheard_of": 1},
    ],
)
def test_contradictory_entries_are_refused(change: dict[str, object]) -> None:
    content = TASKS["spleen"].model_dump()
    assert Task.model_validate(content) == TASKS["spleen"]
    with pytest.raises(ValueError, match="validation error"):
        Task.model_validate(content | change)
