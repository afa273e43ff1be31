"""Several models as one, and the postprocessing that a plan asks for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from inference_samples import picture_plan, tiny_model, volume, volume_plan

from meduniseg_core.errors import UsageError
from meduniseg_core.events import Event, Message
from meduniseg_core.inference import Predictor
from meduniseg_core.inference.ensemble import Ensemble
from meduniseg_core.inference.postprocessing import cleaned
from meduniseg_core.inference.quality.assessment import NOT_OF_SEVERAL
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.preprocessing.statistics import ClassStatistics, TaskStatistics
from meduniseg_core.weights import Model


def predictor(plan: TaskPlan, seed: int) -> Predictor:
    return Predictor(tiny_model([plan], seed=seed), device="cpu", precision="fp32")


def renamed(model: Model, name: str) -> Model:
    return dataclasses.replace(model, info=model.info.model_copy(update={"name": name}), sha256=name)


def test_the_mean_of_the_probabilities_decides() -> None:
    plan, image = volume_plan(), volume((12, 24, 24))
    models = [renamed(tiny_model([plan], seed=seed), f"m{seed}") for seed in (0, 1)]
    single = [Predictor(model, device="cpu", precision="fp32") for model in models]
    alone = [one.segment(image, plan.task, probabilities=True)[plan.task] for one in single]
    found = Ensemble(single).segment(image, plan.task, probabilities=True)[plan.task]
    mean = np.mean([one.probabilities.array.astype(np.float32) for one in alone if one.probabilities], axis=0)
    assert np.array_equal(found.labels.array[0], mean.argmax(axis=0))
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities.array, mean, atol=1e-3)
    assert not np.array_equal(alone[0].labels.array, alone[1].labels.array)
    record = found.provenance()
    assert record["model"] == "m0 + m1" and record["quality"] == {"calibrated": False, "sentence": NOT_OF_SEVERAL}
    assert record["settings"]["ensemble"] == [{"model": "m0", "sha256": "m0"}, {"model": "m1", "sha256": "m1"}]


def test_models_of_other_classes_are_no_ensemble() -> None:
    one, other = volume_plan(), volume_plan(classes=("something", "else"))
    with pytest.raises(UsageError, match="has other classes"):
        Ensemble([predictor(one, 0), predictor(other, 1)]).check([one.task])
    with pytest.raises(UsageError, match="two models at least"):
        Ensemble([predictor(one, 0)])
    with pytest.raises(UsageError, match="is the same model as"):
        Ensemble([predictor(one, 0), predictor(one, 1), predictor(one, 0)])


def test_a_plan_s_largest_component_alone_is_kept_and_named() -> None:
    plan, image = volume_plan(), volume((12, 24, 24))
    name = plan.classes[1]  # of the network's random answer many pieces
    wanted = plan.model_copy(update={"largest_only": (name,)})
    before = predictor(plan, 0).segment(image, plan.task)[plan.task]
    events: list[Event] = []
    after = predictor(wanted, 0).segment(image, plan.task, events=events.append)[plan.task]
    kept, (finding,) = cleaned(before.labels, wanted, image.name)
    assert np.array_equal(after.labels.array, kept.array)
    gone = int((before.labels.array != kept.array).sum())
    assert gone > 0 and f"{image.name} were left out (voxels: {name} {gone:,})" in finding.text
    assert finding in after.findings and Message("info", finding.text) in events
    assert after.provenance()["settings"]["postprocessing"] == {name: "largest component"}
    assert "postprocessing" not in before.provenance()["settings"]


def test_a_member_s_own_result_is_neither_cleaned_nor_judged() -> None:
    plan, image = volume_plan(), volume((12, 24, 24))
    name = plan.classes[1]
    usual = ClassStatistics(cases=20, size=(1e6, 2e6), intensity=((-1e3, 1e3),), centre=((0, 1), (0, 1), (0, 1)))
    classes = tuple(usual if one == name else None for one in plan.classes)
    known = TaskStatistics(cases=20, oriented=True, extent=((1, 1e4),) * 3, size_unit="ml", classes=classes)
    wanted = plan.model_copy(update={"largest_only": (name,), "statistics": known})
    members = [predictor(wanted, seed) for seed in (2, 4)]
    probabilities = [
        one.segment(image, plan.task, probabilities=True)[plan.task].probabilities.array.astype(np.float32)
        for one in members
    ]
    decided = np.mean(probabilities, axis=0).argmax(axis=0)
    events: list[Event] = []
    found = Ensemble(members).segment(image, plan.task, events=events.append)[plan.task]
    gone = int((found.labels.array[0] != decided).sum())
    told = [event.text for event in events if isinstance(event, Message)]
    assert gone > 0 and f"(voxels: {name} {gone:,})" in found.findings[0].text
    size = found.table()[1].size
    assert f"its size is {size:.3g} ml" in found.findings[1].text
    assert told == [finding.text for finding in found.findings]
    assert found.settings["postprocessing"] == {name: "largest component"}


@pytest.mark.parametrize(("plan", "kept"), [(volume_plan, [0, 4]), (picture_plan, [3, 4])])
def test_slices_of_a_2d_task_are_cleaned_one_by_one(plan, kept) -> None:
    labels = volume((2, 8, 8))
    array = np.zeros((1, 2, 8, 8), np.uint8)
    array[0, 0, 0, :3] = array[0, 1, 4:6, :2] = array[0, 0, 6, 6] = 1
    task = plan()
    found, _ = cleaned(labels.with_array(array), task.model_copy(update={"largest_only": (task.classes[0],)}), "scan")
    assert [int(plane.sum()) for plane in found.array[0]] == kept


def test_only_classes_of_the_task_can_be_named() -> None:
    with pytest.raises(ValueError, match="largest_only"):
        TaskPlan.model_validate({**volume_plan().model_dump(), "largest_only": ("nobody",)})
