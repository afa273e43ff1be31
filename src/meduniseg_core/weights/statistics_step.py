"""Adds statistics of the training data to the plans of a model that was trained before plans had them."""

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
    """Measure the images and classes of data sets and add the statistics to the plans of their tasks.

    Args:
        info: the model's description.
        datasets: the data sets it was trained on. Tasks of other data sets keep their statistics.
        events: receives the progress.
        cancel: stops the measurement.

    Returns:
        A changed copy of ``info``.

    Raises:
        UsageError: the model does not have a data set's task, or has it with another number of classes or dimensions.
        BadInputError: a case cannot be read.
        CancelledError: ``cancel`` was set.
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
