"""Which model does which task: one that was asked for, or what is in use for the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meduniseg_core.events import EventSink, Message
from meduniseg_core.weights.active import ActiveModels, InUse
from meduniseg_core.weights.info import ModelInfo
from meduniseg_core.weights.load import DEFAULT_MODEL, find_model

if TYPE_CHECKING:
    from meduniseg_core.preprocessing import TaskPlan


@dataclass(frozen=True)
class Offer:
    """What can be asked for: ``models`` (task -> model, by name or file) and the models' descriptions.

    ``base`` is the model that does what no other does. ``used``: what is in use for a task, where that was asked.
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
        """The modalities of all models."""
        return tuple(dict.fromkeys(name for info in self.infos.values() for name in info.modalities))

    @property
    def plans(self) -> dict[str, TaskPlan]:
        """Every task's plan."""
        return {task: self.plan_of(task) for task in self.models}

    def plan_of(self, task: str) -> TaskPlan:
        """Find how a task's model sees images.

        Args:
            task: its name.

        Returns:
            The plan.

        Raises:
            UsageError: there is no such task; the sentence names those there are.
        """
        if task not in self.models:
            return self.infos[self.base].plan_of(task)
        return self.infos[self.models[task]].plan_of(task)

    def by_model(self, tasks: Sequence[str]) -> dict[str, list[str]]:
        """Group tasks by their model.

        Args:
            tasks: their names.

        Returns:
            The tasks of each model, in their order.
        """
        found: dict[str, list[str]] = {}
        for task in tasks:
            found.setdefault(self.models[task], []).append(task)
        return found

    def instead_of_base(self, tasks: Sequence[str]) -> Iterator[tuple[str, bool]]:
        """Say which tasks are done by another model than the base, and why.

        Args:
            tasks: their names.

        Yields:
            Sentences without their end, each with whether the base could do those tasks, too.
        """
        of_base = {plan.task for plan in self.infos[self.base].tasks}
        for model, own in self.by_model(tasks).items():
            if model == self.base:
                continue
            packs = [task for task in own if task in self.used and self.used[task].kind == "pack"]
            adopted = [task for task in own if task not in packs]
            for names, why in ((adopted, "it was adopted"), (packs, "a pack of it is in use")):
                if names:
                    yield f"{model} is used for {', '.join(names)}: {why}", of_base.issuperset(names)


def offer_of(model: str) -> Offer:
    """Offer what a model can do, whatever was adopted.

    Args:
        model: its name or file.

    Returns:
        All of its tasks.

    Raises:
        UsageError: no model of this name is installed.
        BadInputError: its file cannot be used.
    """
    info = find_model(model)[1]
    return Offer(model, {plan.task: model for plan in info.tasks}, {model: info})


def offer_in_use(events: EventSink) -> Offer:
    """Offer what the default model can do, and for each task that has something in use what was adopted for it.

    Args:
        events: gets a warning of each model or base that is in use and not installed any more.

    Returns:
        The default model's tasks and those of the models that were adopted, or whose packs are in use.

    Raises:
        BadInputError: what is in use cannot be read: another model's result would be taken for its own.
    """
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
    infos = {**base.infos, **{name: find_model(name)[1] for name in models.values() if name != base.base}}
    return Offer(base.base, models, infos, used)
