"""``meduniseg tasks`` and ``meduniseg modalities``: list what can be segmented."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from training_cli.options import Json
from training_cli.output import print_json, print_table

if TYPE_CHECKING:
    from meduniseg_core.preprocessing.plan import TaskPlan
    from meduniseg_core.weights import ModelInfo

TASK_COLUMNS = ("task", "modality", "dim", "classes", "channels", "spacing (D, H, W)")


def task_row(plan: TaskPlan) -> tuple[str, ...]:
    """One task of a model as a row of `TASK_COLUMNS`."""
    size = _times(plan.spacing, "mm") if plan.spacing is not None else f"longer side {plan.longest_side} px"
    channels = ", ".join(plan.channels)
    return plan.task, plan.modality, f"{plan.dimension}D", ", ".join(plan.classes), channels, size


def tasks(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|FILE",
            help="Only this model's tasks. Default: those of all installed models.",
        ),
    ] = None,
    catalogue: Annotated[
        bool, typer.Option("--catalogue", help="List the paper's tasks instead, which models can be trained for.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the tasks that the installed models can segment, with classes, channels and spacing."""
    if catalogue:
        _show_catalogue(as_json)
        return
    models = _models_by_name(model)
    if as_json:
        reports = [
            {"model": name, **plan.model_dump(mode="json"), "title": plan.shown_title}
            for name, info in models.items()
            for plan in info.tasks
        ]
        print_json({"tasks": reports})
        return
    rows = [
        (plan.task, plan.shown_title, *task_row(plan)[1:], name) for name, info in models.items() for plan in info.tasks
    ]
    if not rows:
        print("No model is installed; 'meduniseg models install FILE' adds one, --catalogue lists the paper's tasks.")
        return
    print_table((TASK_COLUMNS[0], "title", *TASK_COLUMNS[1:], "model"), rows)


def _models_by_name(model: str | None) -> dict[str, ModelInfo]:
    from meduniseg_core.weights import Registry, find_model

    if model is not None:
        return {model: find_model(model)[1]}
    return {entry.name: entry.info for entry in Registry().list() if entry.info is not None}


def modalities(as_json: Json = False) -> None:
    """List the modalities, and the installed models for each."""
    from meduniseg_core.catalog import MODALITIES

    models = _models_by_name(None)
    known_by = {name: [model for model, info in models.items() if name in info.modalities] for name in MODALITIES}
    if as_json:
        reports = [{**entry.model_dump(mode="json"), "models": known_by[name]} for name, entry in MODALITIES.items()]
        print_json({"modalities": reports})
        return
    rows = [
        (name, entry.title, f"{entry.dimension}D", entry.description, ", ".join(known_by[name]))
        for name, entry in MODALITIES.items()
    ]
    print_table(("modality", "title", "usually", "description", "models"), rows)


def _show_catalogue(as_json: bool) -> None:
    from meduniseg_core.catalog import TASKS

    if as_json:
        print_json({"tasks": [task.model_dump(mode="json") for task in TASKS.values()]})
        return
    rows = []
    for task in TASKS.values():
        size = _times(task.spacing, "mm") if task.spacing is not None else _times(task.pixels or (), "px")
        classes, channels = ", ".join(task.classes), ", ".join(task.channels)
        rows.append((task.name, task.modality, f"{task.dimension}D", classes, channels, size, task.stage))
    print_table((*TASK_COLUMNS, "stage"), rows)


def _times(sizes: Sequence[float], unit: str) -> str:
    return f"{' x '.join(f'{size:g}' for size in sizes)} {unit}"
