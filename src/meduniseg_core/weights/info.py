"""A model's description: everything needed to use its weights, and where they come from."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from meduniseg_core.errors import UsageError
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.networks import NetworkConfig
from meduniseg_core.preprocessing.plan import TaskPlan
from meduniseg_core.validation import NAME_PATTERN
from meduniseg_core.weights.calibration import Calibration

FORMAT = "meduniseg-model"
FORMAT_VERSION = 1


class ModelInfo(BaseModel):
    """The metadata of a model file (JSON in the safetensors header).

    The position of a task in ``tasks`` is its channel in FUSE, the position of a modality in ``modalities`` the index
    of its prompt. A model has its own list of tasks, which is not limited to the catalogue's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    name: str = Field(pattern=NAME_PATTERN)
    title: str = ""
    description: str = ""
    licence: str = ""
    intended_use: str = "Research and demonstration. Not for clinical use."
    config: NetworkConfig
    tasks: tuple[TaskPlan, ...] = Field(min_length=1)
    modalities: tuple[str, ...] = ()
    provenance: dict[str, Any] = Field(default_factory=dict, description="data sets, budget, seed, code version, date")
    calibration: Calibration | None = Field(
        default=None, description="how far its results can be trusted; None: not known"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [plan.task for plan in self.tasks]
        if len(set(names)) != len(names):
            raise ValueError("task names must be distinct")
        if self.config.tasks and self.config.tasks < len(self.tasks):
            raise ValueError("more tasks than task channels")
        if self.config.modalities and self.config.modalities < len(self.modalities):
            raise ValueError("more modalities than modal prompts")
        if isinstance(self.config, ModelConfig) and self.config.single_task and len(self.tasks) > 1:
            raise ValueError(f"a {self.config.method} network has one task")
        for plan in self.tasks:
            if plan.outputs > self.config.classes:
                raise ValueError(f"task {plan.task} has more classes than the network's heads")
            if len(plan.channels) not in self.config.stems:
                raise ValueError(f"task {plan.task} has {len(plan.channels)} channels and the network no stem for that")
            if self.config.modalities and plan.modality not in self.modalities:
                raise ValueError(f"task {plan.task} is of modality {plan.modality}, which has no prompt")
        return self

    @property
    def universal_config(self) -> ModelConfig:
        """The architecture of a universal network.

        Raises:
            UsageError: the model is an imported U-Net, which cannot be trained.
        """
        if isinstance(self.config, ModelConfig):
            return self.config
        raise UsageError(
            f"Model {self.name} is an imported U-Net, which can only segment; choose another model to train from."
        )

    @property
    def meduniseg_config(self) -> ModelConfig:
        """The architecture of a MedUniSeg network or one of its variants: what can be fine-tuned and refined.

        Raises:
            UsageError: the model is an imported U-Net, or another paper's network.
        """
        config = self.universal_config
        if config.method == "meduniseg":
            return config
        raise UsageError(
            f"Model {self.name} is a {config.method} network, which can segment but not be trained "
            "further; choose a MedUniSeg model."
        )

    def task_index(self, task: str) -> int:
        """The position of a task.

        Args:
            task: the task's name.

        Returns:
            Its index in ``tasks``, which is its channel in FUSE.

        Raises:
            UsageError: the model does not have the task; the message names those it has.
        """
        for index, plan in enumerate(self.tasks):
            if plan.task == task:
                return index
        known = ", ".join(plan.task for plan in self.tasks)
        raise UsageError(f"Model {self.name} has no task '{task}'; it has: {known}.")

    def plan_of(self, task: str) -> TaskPlan:
        """The plan of a task.

        Args:
            task: the task's name.

        Returns:
            The plan.

        Raises:
            UsageError: the model does not have the task.
        """
        return self.tasks[self.task_index(task)]

    def modality_index(self, modality: str) -> int:
        """The position of a modality among the prompts.

        Args:
            modality: the modality's name.

        Returns:
            Its index in ``modalities``; 0 if the network has no modal prior.

        Raises:
            UsageError: the model has no prompt for this modality.
        """
        if not self.config.modalities:
            return 0
        if modality in self.modalities:
            return self.modalities.index(modality)
        raise UsageError(f"Model {self.name} has no modality '{modality}'; it has: {', '.join(self.modalities)}.")
