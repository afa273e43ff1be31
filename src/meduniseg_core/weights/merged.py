"""Merges a pack into its base: a model that needs neither of the two (docs/spec.md section 8)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from meduniseg_core.errors import UsageError
from meduniseg_core.model.weight_rows import rows_of
from meduniseg_core.weights.info import ModelInfo
from meduniseg_core.weights.model_file import Model
from meduniseg_core.weights.pack_file import Pack, refined_network


def merged_model(model: Model, pack: Pack, tasks: Sequence[str] | None = None) -> tuple[ModelInfo, dict[str, Tensor]]:
    """Merge a pack into a model and keep only some of the pack's tasks.

    The result computes what the model with the pack computes, up to rounding. FUSE keeps these tasks' channels, the
    heads their classes, the encoder their stems, the modal map their prompts.

    Args:
        model: the pack's base.
        pack: the pack.
        tasks: tasks to keep; None for all that the pack refines.

    Returns:
        Description and weights (float32) of the merged model.

    Raises:
        UsageError: the pack does not refine one of ``tasks``.
        BadInputError: ``model`` is not the pack's base.
    """
    wanted = tuple(tasks) if tasks else pack.info.tasks
    for task in wanted:
        if task not in pack.info.tasks:
            known = ", ".join(pack.info.tasks)
            raise UsageError(f"Pack {pack.info.name} does not refine the task '{task}'; it is for: {known}.")
    state = refined_network(model, pack).state_dict()
    plans = tuple(model.info.plan_of(task) for task in wanted)
    config = model.info.meduniseg_config
    modalities = tuple(dict.fromkeys(plan.modality for plan in plans)) if config.modalities else ()
    classes = max(plan.class_count for plan in plans)
    stems = tuple(sorted({len(plan.channels) for plan in plans}))
    channels = [model.info.task_index(task) for task in wanted]
    kept: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith("encoder.stems.") and int(name.split(".")[2]) not in stems:
            continue
        rows = rows_of(config, name)
        if rows == "tasks":
            value = value[channels]
        elif rows == "classes":
            value = value[:classes]
        elif rows == "modalities":
            value = value[[model.info.modality_index(modality) for modality in modalities]]
        kept[name] = value.clone()
    fields = {
        "name": pack.info.name,
        "title": pack.info.title,
        "description": f"{model.info.title or model.info.name} with the refinement {pack.info.name} folded in.",
        "licence": pack.info.licence or model.info.licence,
        "config": config.model_copy(
            update={
                "stems": stems,
                "classes": classes,
                "modalities": len(modalities),
                "tasks": len(wanted) if config.tasks else 0,
            }
        ),
        "tasks": plans,
        "modalities": modalities,
        "calibration": None,  # of the model without the pack
        "provenance": {**pack.info.provenance, "kind": "merged refinement", "pack_sha256": pack.sha256},
    }
    return model.info.model_copy(update=fields), kept
