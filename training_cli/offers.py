"""Which tasks can be asked for, and which model does each: the user's own, or what was adopted for the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import EventSink, Message

if TYPE_CHECKING:
    from meduniseg_core.preprocessing import TaskPlan
    from meduniseg_core.weights import ModelInfo

ALL_TASKS = "all"


@dataclass(frozen=True)
class Offer:
    """What can be asked for: ``models`` (task -> model, as ``--model`` names it) and the models' descriptions.

    ``base`` is the model that does what no other does.
    """

    base: str
    models: Mapping[str, str]
    infos: Mapping[str, ModelInfo]

    @property
    def name(self) -> str:
        """In sentences: the base's own name."""
        return self.infos[self.base].name

    @property
    def modalities(self) -> tuple[str, ...]:
        """Of all models."""
        return tuple(dict.fromkeys(name for info in self.infos.values() for name in info.modalities))

    def plan_of(self, task: str) -> TaskPlan:
        """How the task's model sees images; UsageError names the tasks there are."""
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
    """A model that was asked for by name or file does all of its tasks, whatever was adopted."""
    info = _info(model)
    return Offer(model, {plan.task: model for plan in info.tasks}, {model: info})


def offer_in_use(events: EventSink) -> Offer:
    """The default model, and for each task that has one the model that was adopted for it.

    BadInputError where what was adopted cannot be read: another model's result would be taken for it.
    """
    from meduniseg_core.adaptation.adoption import Adoptions
    from meduniseg_core.weights import DEFAULT_MODEL

    base = offer_of(DEFAULT_MODEL)
    adoptions = Adoptions()
    adopted = adoptions.all()
    for task, name in adoptions.gone().items():
        now = adopted.get(task, DEFAULT_MODEL)
        text = f"{name}, which was adopted for {task}, is not installed any more as it was; {now} is in use for it."
        events(Message("warning", text))
    infos = {**base.infos, **{name: _info(name) for name in adopted.values()}}
    return Offer(base.base, {**base.models, **adopted}, infos)


def tell_in_use(offer: Offer, tasks: Sequence[str], events: EventSink) -> None:
    """Say which tasks are done by another model than the default one, and what else would do them."""
    from meduniseg_core.weights import PackRegistry, Registry

    for model, own in offer.by_model(tasks).items():
        if model == offer.base:
            continue
        text = f"{model} is used for {', '.join(own)}: it was adopted; '--model {offer.base}' would use {offer.name}."
        events(Message("info", text))
        recorded = Registry().recorded(offer.base)
        packs = PackRegistry().active(recorded) if recorded is not None else {}
        for task in own:
            if task in packs:
                text = (
                    f"The pack {packs[task]} of {offer.name} is in use for {task}, too, and {model} goes before it; "
                    f"'meduniseg runs rollback {task}' takes {model} out of use."
                )
                events(Message("warning", text))


def tell_adopted(offer: Offer, tasks: Sequence[str], events: EventSink) -> None:
    """Say for which tasks another model than the one asked for was adopted: it learned from this user's corrections."""
    from meduniseg_core.adaptation.adoption import Adoptions

    try:
        adopted = Adoptions().all()
    except BadInputError as error:
        events(Message("warning", str(error)))
        return
    for task in tasks:
        name = adopted.get(task, offer.name)
        if name != offer.name:
            events(Message("info", f"{name} was adopted for {task}; '--model {name}' would use it."))


def choose_tasks(offer: Offer, text: str | None, modality: str | None) -> list[str]:
    """The tasks that ``--task`` names, each once; UsageError says what there is."""
    names = list(offer.models)
    if text is None:
        if len(names) > 1:
            raise UsageError(f"Say what to segment with --task; model {offer.name} has: {', '.join(names)} (or 'all').")
        return names
    if text == ALL_TASKS:
        fitting = [task for task in names if modality is None or offer.plan_of(task).modality == modality]
        if not fitting:
            raise UsageError(f"Model {offer.name} has no task of modality '{modality}'; name the task with --task.")
        return fitting
    chosen = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
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
