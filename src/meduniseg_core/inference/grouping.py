"""Which tasks can share work: preprocessing, and the encoder's pass over every window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meduniseg_core.errors import UsageError
from meduniseg_core.preprocessing import TaskPlan, is_colour
from meduniseg_core.weights import ModelInfo, Pack


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


def shared_passes(plans: Sequence[TaskPlan], packs: Mapping[str, Pack] | None = None) -> list[list[TaskPlan]]:
    """Plans whose images are preprocessed alike, cut into the same windows and seen by the same encoder, together.

    In order of appearance. Tasks with a pack (``packs``: task -> pack) have an encoder of their own.
    """
    groups: dict[tuple[Any, ...], list[TaskPlan]] = {}
    for plan in plans:
        pack = (packs or {}).get(plan.task)
        key = preprocessing_key(plan), plan.modality, plan.patch, None if pack is None else pack.sha256
        groups.setdefault(key, []).append(plan)
    return list(groups.values())


def preprocessing_key(plan: TaskPlan) -> tuple[Any, ...]:
    """Plans with equal keys preprocess every image to equal arrays."""
    return (
        plan.dimension,
        plan.spacing,
        plan.longest_side,
        len(plan.channels),
        is_colour(plan.channels),
        plan.normalisation,
        plan.figures,
        plan.crop_to_body,
        plan.hu_window,
        plan.scheme,
    )
