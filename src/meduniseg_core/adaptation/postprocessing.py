"""Decides a model's postprocessing on images that it has not seen: which classes keep only their largest component."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from meduniseg_core.adaptation.calibrate import check_datasets
from meduniseg_core.errors import UsageError
from meduniseg_core.evaluation import dice
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.images import place_labels, read_image, read_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.inference.postprocessing import largest_kept
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.training.split import Split
from meduniseg_core.weights import Model, ModelInfo

LEAST_IMAGES = 3


@dataclass(frozen=True)
class ClassDecision:
    """One class: its mean Dice as predicted and with its largest component alone, the cases that gain and lose, and
    whether the component alone is kept: the mean rises, and no more cases lose than gain."""

    task: str
    name: str
    cases: int
    dice: float
    dice_of_largest: float
    better: int
    worse: int

    @property
    def largest_only(self) -> bool:
        """Whether only the largest component is kept."""
        return self.dice_of_largest > self.dice and self.better >= self.worse


def decide_postprocessing(
    model: Model,
    datasets: Sequence[RawDataset],
    *,
    splits: Mapping[str, Split] | None = None,
    images: int = 100,
    device: str = "auto",
    precision: str = "auto",
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> list[ClassDecision]:
    """Segment held-out cases and compare each class with its largest component.

    Args:
        model: the model; what its plans decided before is left aside.
        datasets: one for each task, in nnU-Net's raw layout.
        splits: by task, which cases the model was trained on; these are left out.
        images: at most so many of each task.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, bf16 or fp16.
        events: progress, by images (stage "postprocessing").
        cancel: polled at every window.

    Returns:
        A decision for every class of every task.

    Raises:
        UsageError: the model does not have a task, or there are fewer than three held-out cases of one.
        BadInputError: a case cannot be read.
        CancelledError: ``cancel`` was set.
    """
    check_datasets(model.info, datasets)
    predictor = Predictor(dataclasses.replace(model, info=with_decisions(model.info, datasets, [])), device, precision)
    decisions: list[ClassDecision] = []
    began = time.monotonic()
    for dataset in datasets:
        trained = set(splits[dataset.task].train) if splits and dataset.task in splits else set()
        cases = [case for case in dataset.cases("Tr") if case.label is not None and case.case not in trained][:images]
        if len(cases) < LEAST_IMAGES:
            raise UsageError(
                f"Postprocessing of {dataset.task} is decided on {LEAST_IMAGES} held-out images at least, and there "
                f"are {len(cases)}; give more."
            )
        plan = model.info.plan_of(dataset.task)
        scores = np.zeros((len(cases), len(plan.classes), 2))
        for number, case in enumerate(cases):
            events(Progress("postprocessing", number, len(cases), time.monotonic() - began, case.case))
            image = read_image(case.images)
            found = predictor.segment(image, dataset.task, cancel=cancel)[dataset.task].labels.array[0]
            assert case.label is not None
            truth = place_labels(read_labels(case.label), image).array[0]
            if dataset.ignored is not None:
                found = np.where(truth == dataset.ignored, 0, found)
            for label in range(1, len(plan.classes) + 1):
                kept = largest_kept(found, label, by_slice=plan.dimension == 2)
                scores[number, label - 1] = dice(found, truth, label), dice(kept, truth, label)
        for place, name in enumerate(plan.classes):
            before, after = scores[:, place, 0], scores[:, place, 1]
            better, worse = int((after > before).sum()), int((after < before).sum())
            figures = float(before.mean()), float(after.mean())
            decisions.append(ClassDecision(dataset.task, name, len(cases), *figures, better, worse))
    return decisions


def with_decisions(info: ModelInfo, datasets: Sequence[RawDataset], decisions: Sequence[ClassDecision]) -> ModelInfo:
    """Put decisions into the plans of the tasks that were looked at; the others stay as they are.

    Args:
        info: description of the model.
        datasets: of the tasks that were looked at.
        decisions: of their classes.

    Returns:
        A changed copy.
    """
    looked_at = {dataset.task for dataset in datasets}
    kept = {(one.task, one.name) for one in decisions if one.largest_only}
    plans = tuple(
        plan.model_copy(update={"largest_only": tuple(name for name in plan.classes if (plan.task, name) in kept)})
        if plan.task in looked_at
        else plan
        for plan in info.tasks
    )
    return info.model_copy(update={"tasks": plans})
