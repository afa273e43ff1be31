"""Finds the tasks that can be requested, and the model for each: the requested one, or what is in use for the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import EventSink, Message
from training_cli.options import split_names

if TYPE_CHECKING:
    from meduniseg_core.preprocessing import TaskPlan
    from meduniseg_core.weights import ModelInfo
    from meduniseg_core.weights.active import InUse

ALL_TASKS = "all"


@dataclass(frozen=True)
class Offer:
    """The tasks that can be requested: ``models`` (task -> model, named as for ``--model``) and their descriptions.

    ``base`` is the model for tasks that no other has. ``used`` is what is in use for each task, if that was looked up.
    """

    base: str
    models: Mapping[str, str]
    infos: Mapping[str, ModelInfo]
    used: Mapping[str, InUse] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """In sentences: the base's own name."""
        return self.infos[self.base].name

    @property
    def modalities(self) -> tuple[str, ...]:
        """Of all models."""
        return tuple(dict.fromkeys(name for info in self.infos.values() for name in info.modalities))

    def plan_of(self, task: str) -> TaskPlan:
        """The task's plan; UsageError if there is no such task."""
        if task not in self.models:
            return self.infos[self.base].plan_of(task)
        return self.infos[self.models[task]].plan_of(task)

    def by_model(self, tasks: Sequence[str]) -> dict[str, list[str]]:
        """Model -> those of ``tasks`` that it does, in the order of the tasks."""
        found: dict[str, list[str]] = {}
        for task in tasks:
            found.setdefault(self.models[task], []).append(task)
        return found


def offer_of(model: str) -> Offer:
    """The offer of a model given by name or file: it does all of its tasks, whatever was adopted."""
    info = _info(model)
    return Offer(model, {plan.task: model for plan in info.tasks}, {model: info})


def offer_in_use(events: EventSink) -> Offer:
    """The default model, and for each task that has something in use the model that was adopted, or the pack's base.

    BadInputError where what is in use cannot be read: another model's result would be taken for it.
    """
    from meduniseg_core.weights import DEFAULT_MODEL, ActiveModels

    base = offer_of(DEFAULT_MODEL)
    active = ActiveModels()
    used, models = active.entries(), dict(base.models)
    for task, entry in used.items():
        model = active.served_by(entry)
        if model is not None:
            models[task] = model
        else:
            text = (
                f"The pack {entry.model} is in use for {task}, but its base {entry.base} is not installed; install it, "
                f"or name its file with --model."
            )
            events(Message("warning", text))
    for task, name in active.gone().items():
        now = used[task].model if task in used else DEFAULT_MODEL
        text = f"{name}, which was adopted for {task}, was removed or replaced since; {now} is used for it."
        events(Message("warning", text))
    infos = {**base.infos, **{name: _info(name) for name in models.values() if name != base.base}}
    return Offer(base.base, models, infos, used)


def tell_in_use(offer: Offer, tasks: Sequence[str], events: EventSink) -> None:
    """Report which tasks run through another model than the default one, and how to change that."""
    for model, own in offer.by_model(tasks).items():
        if model == offer.base:
            continue
        packs = [task for task in own if task in offer.used and offer.used[task].kind == "pack"]
        adopted = [task for task in own if task not in packs]
        for names, why in ((adopted, "it was adopted"), (packs, "a pack of it is in use")):
            if names:
                text = f"{model} is used for {', '.join(names)}: {why}; '--model {offer.base}' would use {offer.name}."
                events(Message("info", text))


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


def _info(model: str) -> ModelInfo:
    from meduniseg_core.weights import find_model

    return find_model(model)[1]
