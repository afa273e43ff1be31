"""Which tasks can share work: preprocessing, and the encoder's pass over every window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meduniseg_core.errors import UsageError
from meduniseg_core.preprocessing import TaskPlan, is_colour
from meduniseg_core.weights import ModelInfo


def chosen_plans(info: ModelInfo, tasks: Sequence[str], modality: str | None) -> list[TaskPlan]:
    """The plans of ``tasks``, each once, in their order.

    Raises:
        UsageError: no task, a task the model has not, or one of another modality than ``modality``; what is allowed is
            listed.
    """
    if not tasks:
        raise UsageError(f"Name at least one task; model {info.name} has: {', '.join(p.task for p in info.tasks)}.")
    plans = [info.plan_of(task) for task in dict.fromkeys(tasks)]
    if modality is None:
        return plans
    for plan in plans:
        if plan.modality != modality:
            fitting = ", ".join(p.task for p in info.tasks if p.modality == modality) or "none"
            raise UsageError(
                f"Task '{plan.task}' of model {info.name} is for modality {plan.modality}, not {modality}; "
                f"its tasks for {modality}: {fitting}."
            )
    return plans


def shared_passes(plans: Sequence[TaskPlan]) -> list[list[TaskPlan]]:
    """Plans whose images are preprocessed alike and cut into the same windows, together; in order of appearance."""
    groups: dict[tuple[Any, ...], list[TaskPlan]] = {}
    for plan in plans:
        groups.setdefault((preprocessing_key(plan), plan.modality, plan.patch), []).append(plan)
    return list(groups.values())


def preprocessing_key(plan: TaskPlan) -> tuple[Any, ...]:
    """Plans with equal keys preprocess every image to equal arrays."""
    return (
        plan.dimension,
        plan.spacing,
        plan.long_side,
        len(plan.channels),
        is_colour(plan.channels),
        plan.normalisation,
        plan.figures,
        plan.crop_to_body,
    )
