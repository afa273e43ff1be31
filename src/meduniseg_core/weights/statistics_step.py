"""Statistics of their training data for the plans of a model that was trained before plans had them."""

from __future__ import annotations

from collections.abc import Sequence

from meduniseg_core.errors import UsageError
from meduniseg_core.events import CancelToken, EventSink, ignore
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.preprocessing.class_statistics import task_statistics
from meduniseg_core.weights.info import ModelInfo


def with_statistics(
    info: ModelInfo,
    datasets: Sequence[RawDataset],
    *,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> ModelInfo:
    """``info`` with what the training images and classes of ``datasets`` are like in the plans of their tasks.

    Tasks of no data set keep what they have. UsageError for a data set whose task or classes the model has not.
    """
    plans = {plan.task: plan for plan in info.tasks}
    for dataset in datasets:
        plan = info.plan_of(dataset.task)
        if len(plan.classes) != len(dataset.classes) or plan.dimension != dataset.dimension:
            raise UsageError(
                f"{dataset.name} has {len(dataset.classes)} classes in {dataset.dimension}D and task {plan.task} of "
                f"model {info.name} {len(plan.classes)} in {plan.dimension}D; give the data set it was trained on."
            )
        found = task_statistics(dataset, plan, events=events, cancel=cancel)
        plans[plan.task] = plan.model_copy(update={"statistics": found})
    return info.model_copy(update={"tasks": tuple(plans[plan.task] for plan in info.tasks)})
