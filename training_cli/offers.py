"""What the arguments ask for of the tasks that there are, and what is said of the models that do them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import EventSink, Message
from training_cli.options import split_names

if TYPE_CHECKING:
    from meduniseg_core.weights.offer import Offer

ALL_TASKS = "all"


def tell_in_use(offer: Offer, tasks: Sequence[str], events: EventSink) -> None:
    """Say which tasks are done by another model than the default one, and what else would do them."""
    for text, base_can in offer.instead_of_base(tasks):
        other = f"; '--model {offer.base}' would use {offer.name}" if base_can else ""
        events(Message("info", f"{text}{other}."))


def tell_adopted(offer: Offer, tasks: Sequence[str], events: EventSink) -> bool:
    """Say for which tasks something else than the model that was asked for is in use: it learned from this user's
    corrections. False, after a warning, where what is in use cannot be read."""
    from meduniseg_core.weights import ActiveModels

    try:
        active = ActiveModels()
        used = active.entries()
    except BadInputError as error:
        events(Message("warning", f"{error} Until then no pack is used, either."))
        return False
    for task in tasks:
        entry = used.get(task)
        model = active.served_by(entry) if entry is not None else None
        if entry is None or model is None or model == offer.name:
            continue
        if entry.kind == "pack":
            events(Message("info", f"A pack of {model} is in use for {task}; '--model {model}' would use it."))
        else:
            events(Message("info", f"{model} was adopted for {task}; '--model {model}' would use it."))
    return True


def choose_tasks(offer: Offer, text: str | None, modality: str | None) -> list[str]:
    """The tasks that ``--task`` names, each once; UsageError says what there is."""
    names = list(offer.models)
    if text is None:
        if len(names) > 1:
            raise UsageError(
                f"Choose what to segment with --task; model {offer.name} has: {', '.join(names)} (or 'all')."
            )
        return names
    if text == ALL_TASKS:
        fitting = [task for task in names if modality is None or offer.plan_of(task).modality == modality]
        if not fitting:
            raise UsageError(f"Model {offer.name} has no task of modality '{modality}'; name the task with --task.")
        return fitting
    chosen = list(dict.fromkeys(split_names(text)))
    if not chosen:
        raise UsageError(f"--task names no task; model {offer.name} has: {', '.join(names)}.")
    if ALL_TASKS in chosen and ALL_TASKS not in offer.models:
        raise UsageError(f"'{ALL_TASKS}' stands for every task; give it alone, or name the tasks.")
    for name in chosen:
        if name not in offer.models:
            raise UsageError(f"Model {offer.name} has no task '{name}'; it has: {', '.join(names)}.")
    return chosen


def known_modality(offer: Offer, text: str | None) -> str | None:
    """The models' modality that ``--modality`` means: its own name, or another spelling of the catalogue ("MR")."""
    from meduniseg_core.catalog import find_modality

    if text is None or text in offer.modalities:
        return text
    name = find_modality(text).name
    if name not in offer.modalities:
        offer.infos[offer.base].modality_index(name)
    return name
