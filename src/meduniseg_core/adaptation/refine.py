"""Refinement of a model's under-performing tasks: MedUniSeg* (docs/spec.md section 8)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError
from torch import nn

from meduniseg_core.adaptation.finetune import frozen
from meduniseg_core.corrections.ledger import Ledger
from meduniseg_core.errors import UsageError
from meduniseg_core.events import CancelToken, EventSink, ignore
from meduniseg_core.model import MedUniSeg, UniversalNetwork
from meduniseg_core.model.lora import ALPHA, RANK, Refinement
from meduniseg_core.paths import corrections_folder
from meduniseg_core.preprocessing import RawDataset, TaskPlan
from meduniseg_core.training import NetworkSettings, Start, TrainingConfig, TrainingResult, train
from meduniseg_core.validation import first_fault
from meduniseg_core.weights import Model, ModelInfo, PackInfo, StorageType, save_pack

EPOCH = 50
ITERATIONS = 50_000
"""Per task: the upstream recipe's 1,000 epochs of 50 iterations."""


class Refiner(Start):
    """Starts a training from a frozen ``base``: only the new low-rank modules learn, and the run saves them as a pack.

    Args:
        base: the model to refine.
        tasks: the base's tasks that are refined.
        rank: rank of the low-rank updates.
        alpha: their scale; an update is multiplied by ``alpha / rank``.
        storage: the type in which the pack stores its tensors.

    Raises:
        UsageError: the base does not have one of the tasks.
    """

    def __init__(
        self,
        base: Model,
        tasks: Sequence[str],
        *,
        rank: int = RANK,
        alpha: float = ALPHA,
        storage: StorageType = "fp16",
    ) -> None:
        for task in tasks:
            base.info.task_index(task)
        self._base, self._tasks = base, tuple(tasks)
        self._rank, self._alpha, self._storage = rank, alpha, storage
        self._refinement: Refinement | None = None

    @property
    def identity(self) -> str:
        """The base's file, the tasks, and rank and scale of the updates."""
        return f"refinement of {self._base.sha256}, {','.join(self._tasks)}, rank {self._rank}, alpha {self._alpha:g}"

    def describe(self, info: ModelInfo) -> ModelInfo:
        """Describe the run's model: the base, with the run's name and provenance.

        Args:
            info: the model as the data sets ask for it.

        Returns:
            A copy of the base's description.
        """
        provenance = {
            **info.provenance,
            "kind": "refinement",
            "base": self._base.info.name,
            "base_sha256": self._base.sha256,
        }
        fields = {
            "name": info.name,
            "title": info.title,
            "licence": info.licence,
            "calibration": None,
            "provenance": provenance,
        }
        return self._base.info.model_copy(update=fields)

    def plan_of(self, dataset: RawDataset) -> TaskPlan:
        """The base's own plan of the data set's task: the frozen network knows no other preprocessing.

        Class names that the plan does not have are taken as other words for its classes.

        Args:
            dataset: a data set of the run.

        Returns:
            The plan.

        Raises:
            UsageError: the data have another task, dimension, number of channels or number of classes than the plan, or
                its classes in another order.
        """
        plan = self._base.info.plan_of(dataset.task)
        for what, theirs, ours in (
            ("dimensions", dataset.dimension, plan.dimension),
            ("channels", len(dataset.channels), len(plan.channels)),
            ("classes", len(dataset.classes), len(plan.classes)),
        ):
            if theirs != ours:
                raise UsageError(
                    f"{dataset.folder}: its images have {theirs} {what} and task {plan.task} of "
                    f"{self._base.info.name} has {ours}; refine with data of the same form."
                )
        if dataset.classes != plan.classes and sorted(dataset.classes) == sorted(plan.classes):
            raise UsageError(
                f"{dataset.folder}: its classes are in another order than those of task {plan.task}, "
                f"{', '.join(plan.classes)}; renumber the labels."
            )
        return plan

    def load(self, network: UniversalNetwork, info: ModelInfo) -> None:
        """Load the base's weights, freeze them, and add the new modules, whose output is zero at the start.

        Args:
            network: changed in place.
            info: description of the run's model; unused.
        """
        assert isinstance(network, MedUniSeg)  # the base's configuration says so
        network.load_state_dict(self._base.network.state_dict())
        self._refinement = Refinement(network, self._rank, self._alpha)

    def learner(self, network: UniversalNetwork) -> nn.Module:
        """The modules that learn.

        Args:
            network: the loaded network; unused.

        Returns:
            The new modules.
        """
        assert self._refinement is not None
        return self._refinement

    def save(self, path: Path, info: ModelInfo, learner: nn.Module) -> None:
        """Write the pack.

        Args:
            path: the pack's file.
            info: description of the run's model.
            learner: the trained modules.
        """
        pack = PackInfo(
            name=info.name,
            title=info.title,
            licence=info.licence,
            base=self._base.info.name,
            base_sha256=self._base.sha256,
            config=info.meduniseg_config,
            tasks=self._tasks,
            rank=self._rank,
            alpha=self._alpha,
            provenance=info.provenance,
        )
        save_pack(path, pack, learner.state_dict(), self._storage)


def refine(
    base: Model,
    config: TrainingConfig,
    *,
    rank: int = RANK,
    alpha: float = ALPHA,
    resume: bool = False,
    finish: bool = False,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> TrainingResult:
    """Refine ``base`` on the data sets of a configuration; the pack is written into the configuration's output folder.

    Args:
        base: the model to refine.
        config: the training, see :func:`refine_config`.
        rank: rank of the low-rank updates.
        alpha: their scale.
        resume: resume from the last checkpoint.
        finish: turn the best checkpoint into the pack without training further.
        events: receives the progress.
        cancel: stops the training at the next safe point.

    Returns:
        The pack's file and the figures of the training.

    Raises:
        UsageError: the data do not fit the base.
        BadInputError: the data or a checkpoint cannot be read.
        NonFiniteLossError: the loss became NaN or infinite.
        CancelledError: ``cancel`` was set.
    """
    start = Refiner(base, [RawDataset.open(folder).task for folder in config.datasets], rank=rank, alpha=alpha)
    config = config.model_copy(update={"datasets": frozen(config.datasets, config.output)})
    return train(config, resume=resume, finish=finish, start=start, events=events, cancel=cancel)


def datasets_of(base: Model, folders: Sequence[Path], tasks: Sequence[str] | None) -> tuple[Path, ...]:
    """Choose the data sets that hold certain tasks.

    Args:
        base: the model that is refined.
        folders: data sets or ledgers; if empty and ``tasks`` are named, the user's own ledgers of corrections are
            searched.
        tasks: tasks of the base; None chooses all folders.

    Returns:
        The chosen folders.

    Raises:
        UsageError: the base does not have one of the tasks, or no data set holds it.
        BadInputError: a data set cannot be read.
    """
    if tasks is None:
        return tuple(folders)
    for task in tasks:
        base.info.task_index(task)
    if not folders:
        folders = [path for path in sorted(corrections_folder().glob("*")) if Ledger.is_at(path)]
    held = {folder: RawDataset.open(folder).task for folder in folders}
    for task in tasks:
        if task not in held.values():
            names = ", ".join(dict.fromkeys(held.values())) or "nothing"
            raise UsageError(f"No data set holds the task '{task}' (there is: {names}); name its folder, too.")
    return tuple(folder for folder, task in held.items() if task in tasks)


def refine_config(
    datasets: Sequence[Path],
    base: Model,
    name: str,
    folder: Path,
    *,
    iterations: int = ITERATIONS,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    overrides: Mapping[str, object] | None = None,
) -> TrainingConfig:
    """The configuration of a refinement: the upstream recipe on the chosen tasks only, with the base's own plans.

    Args:
        datasets: folders in nnU-Net's raw layout or ledgers.
        base: the model to refine.
        name: the pack's name.
        folder: the folder for the run and its cache.
        iterations: for each task, rounded up to whole epochs of 50.
        seed: seed of the training.
        device: device to train on.
        precision: precision to train in.
        overrides: values for other fields of :class:`TrainingConfig`.

    Returns:
        The configuration.

    Raises:
        UsageError: a value that no training can have, or ``base`` is not a universal model.
        BadInputError: a data set cannot be read.
    """
    network = base.info.meduniseg_config
    tasks = [RawDataset.open(dataset).task for dataset in datasets]
    epochs = max(1, math.ceil(iterations / EPOCH))
    fields: dict[str, object] = {
        "name": name,
        "title": f"{', '.join(tasks)} of {base.info.title or base.info.name}, refined",
        "licence": base.info.licence,
        "datasets": tuple(datasets),
        "output": folder / "run",
        "cache": folder / "cache",
        "network": NetworkSettings(features=network.features, strides=network.strides),
        "epochs": epochs,
        "iterations_per_dataset": EPOCH,
        "validation_every": max(1, epochs // 10),
        "seed": seed,
        "device": device,
        "precision": precision,
    }
    try:
        return TrainingConfig.model_validate({**fields, **(overrides or {})})
    except ValidationError as error:
        raise UsageError(f"The refinement is not possible: {first_fault(error)}; give another value.") from None
