"""The configuration of a training: one readable TOML file, validated before anything starts (docs/spec.md section
6)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from meduniseg_core.errors import BadInputError
from meduniseg_core.paths import expanded
from meduniseg_core.preprocessing.planners import Planner
from meduniseg_core.structured_text import read_toml
from meduniseg_core.training.absence import AbsenceSettings
from meduniseg_core.training.augmentation import AugmentationConfig
from meduniseg_core.training.settings import NetworkSettings, PlanSettings
from meduniseg_core.validation import NAME_PATTERN, first_fault


class TrainingConfig(BaseModel):
    """All settings of a universal training. Relative paths are relative to the config file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(pattern=NAME_PATTERN, description="of the model")
    title: str = ""
    description: str = ""
    licence: str = ""
    datasets: tuple[Path, ...] = Field(min_length=1, description="folders in nnU-Net raw layout")
    leave_out: tuple[str, ...] = Field(default=(), description="cases to leave out of this run")
    output: Path = Field(description="folder of the run: checkpoints, log, split, model")
    cache: Path = Field(description="folder of the preprocessed cases; may be shared by runs")

    network: NetworkSettings = NetworkSettings()
    pretrained_weights: str | None = Field(
        default=None, description="a universal model of the same architecture to start from: a name or a file"
    )
    init: str | None = Field(
        default=None,
        description="trained weights of which whatever fits is taken (`--init`): a model's name, or a file of this "
        "program, nnU-Net v2, UniSeg, or MONAI's SegResNet, SwinUNETR or UNETR",
    )
    class_embeddings: Path | None = Field(
        default=None, description="for method universal-model: a JSON file with 512 numbers for every TASK/CLASS"
    )
    planner: Planner = Field(
        default="default",
        description="chooses what the plan settings below leave open. paper: the paper's grid, patch and batch; "
        "nnunet: nnU-Net's rules; default: the median spacing, patch and batch of the paper's size",
    )
    gpu_memory: float | None = Field(
        default=None, gt=0, le=10_000, description="GiB: patch and batch are planned for such a GPU, in bf16"
    )
    plan_2d: PlanSettings = PlanSettings()
    plan_3d: PlanSettings = PlanSettings()
    plan: dict[str, PlanSettings] = Field(default_factory=dict, description="by task; over plan_2d and plan_3d")
    augmentation: AugmentationConfig = AugmentationConfig()

    epochs: int = Field(default=1000, ge=1, description="the paper's")
    iterations_per_dataset: int = Field(default=50, ge=1, description="per epoch")
    optimizer: Literal["sgd", "adamw"] = Field(
        default="sgd", description="sgd: the paper's; adamw reaches a usable network in far fewer iterations"
    )
    learning_rate: float = Field(default=0.01, gt=0, description="at the start of the polynomial decay")
    rate_shares: tuple[tuple[str, float], ...] = Field(
        default=(),
        description="(pattern, factor) on the learning rate of weights whose name matches; the first match counts",
    )
    rate_warm_ups: tuple[tuple[str, int], ...] = Field(
        default=(),
        description="(pattern, iterations): the rate of weights whose name matches rises from 0 over these iterations; "
        "the first match counts, 0 for no warm-up",
    )
    momentum: float = Field(default=0.99, ge=0, lt=1, description="Nesterov's; with adamw its first beta")
    weight_decay: float = Field(default=3e-5, ge=0, description="the paper's")
    poly_power: float = Field(default=0.9, gt=0, description="of the decay of the learning rate")
    rate_restarts: tuple[tuple[int, float], ...] = Field(
        default=(), description="(epoch, rate): the decay ends there and begins anew from this rate (warm restarts)"
    )
    rate_drops: tuple[tuple[int, float], ...] = Field(
        default=(), description="(epoch, factor): from there to the next restart the rate is multiplied by the factor"
    )
    gradient_clip: float = Field(default=12.0, gt=0, description="longest gradient of a step (L2 norm); the paper's 12")
    task_shares: dict[str, float] = Field(
        default_factory=dict,
        description="by task: factor on the number of its batches in an epoch, against the other tasks'; 1 where not "
        "named. The number of batches of an epoch stays",
    )
    task_gradient_length: float | None = Field(
        default=None,
        gt=0,
        description="cuts the gradients of all tasks to one length, below what nearly all have: loud tasks then do not "
        "undo what quiet ones learn (`starter`: 0.3). None: only gradient_clip, as in the paper",
    )
    task_sampling_power: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="batches of a task grow with its number of training cases to this power: 0 the same for every task "
        "(the paper), 1 the same for every case",
    )
    foreground_oversampling: float = Field(
        default=1 / 3, ge=0, le=1, description="share of a batch that is centred on a foreground voxel"
    )
    batch_dice: bool = Field(default=False, description="pool the samples of a batch in the Dice fraction")
    predictions: dict[str, Path] = Field(
        default_factory=dict, description="by case: the prediction that was corrected to give its labels"
    )
    correction_oversampling: float = Field(
        default=0.0, ge=0, le=1, description="share of the samples that are centred on a corrected voxel"
    )
    correction_weight: float = Field(default=1.0, ge=1, description="weight of a corrected voxel in the loss")

    absence: dict[str, AbsenceSettings] = Field(
        default_factory=dict, description="by 2D task: samples without the target"
    )
    average_decay: float | None = Field(
        default=None, gt=0, lt=1, description="the model is the running mean of the weights, per iteration (EMA)"
    )

    validation_fraction: float = Field(default=0.2, ge=0, lt=1, description="of the training cases, by patient")
    folds: int | None = Field(
        default=None, ge=2, description="of a cross-validation: the cases are divided by patient; None: one split"
    )
    fold: int = Field(default=0, ge=0, description="the fold that is held back for validation, where there are folds")
    validation_every: int = Field(default=10, ge=1, description="epochs")
    validation_cases: int = Field(default=8, ge=1, description="at most, per task")
    patience: int | None = Field(default=None, ge=1, description="epochs without a better mean Dice; None never stops")
    select: Literal["best", "last"] = Field(default="best", description="the epoch whose weights become the model")

    checkpoint_every: int = Field(default=1, ge=1, description="epochs")
    seed: int = Field(default=0, ge=0, lt=1 << 63, description="of weights, split and batches")
    device: str = Field(
        default="auto",
        description="auto, cpu, cuda, cuda:N or mps; of several processes on a machine "
        "each takes the GPU of its own number",
    )
    precision: str = Field(default="auto", description="auto, fp32, bf16 or fp16")
    augment_on: Literal["auto", "cpu", "device"] = Field(
        default="auto",
        description="where samples are rotated, blurred and so on: by the workers, or by the training's device, which "
        "takes the load off them. auto: by the device if it is an Nvidia GPU. Tasks with presets of appearance are "
        "always augmented by the workers",
    )
    threads: int | None = Field(default=None, ge=1, le=4096, description="of the CPU, for each process")
    workers: int = Field(
        default=0,
        ge=0,
        le=256,
        description="processes that preprocess the data and prepare batches, for each training process; the batches do "
        "not depend on it",
    )
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        description="samples that pass the network at once (gradient accumulation); None: all of a process's share. "
        "The gradient is the same; batch_dice then costs a second forward pass",
    )
    activation_checkpointing: bool = Field(
        default=False, description="compute activations again in the backward pass: less memory, a third more time"
    )
    compile: bool = Field(default=False, description="compile the network with torch.compile; needs a C++ compiler")

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.class_embeddings is not None and self.network.method != "universal-model":
            raise ValueError('class_embeddings need [network] method = "universal-model"')
        given = [name for name in ("class_embeddings", "pretrained_weights", "init") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give {given[0]} or {given[1]}, not both")
        if given and given[0] != "init" and self.network.single_task:
            raise ValueError(f"{self.network.method} starts from random weights or an init; leave {given[0]} out")
        return self

    @model_validator(mode="after")
    def _one_task_where_the_network_has_one(self) -> Self:
        if self.network.single_task and len(self.datasets) > 1:
            raise ValueError(
                f"{self.network.method} is a network for one task; give one data set, and train others apart"
            )
        return self

    @model_validator(mode="after")
    def _paper_has_its_sizes(self) -> Self:
        if self.planner == "paper" and self.gpu_memory is not None:
            raise ValueError("the paper's plan does not depend on gpu_memory; choose the planner nnunet or default")
        return self

    @model_validator(mode="after")
    def _fold_is_there(self) -> Self:
        if self.fold >= (self.folds or 1):
            raise ValueError(f"fold is 0 to {(self.folds or 1) - 1}; without folds there is fold 0 alone")
        return self

    @model_validator(mode="after")
    def _restarts_within_the_run(self) -> Self:
        starts = [epoch for epoch, _ in self.rate_restarts]
        if len(set(starts)) < len(starts) or any(not 0 < epoch < self.epochs for epoch in starts):
            raise ValueError("rate_restarts are distinct epochs between the first and the last")
        return self

    @model_validator(mode="after")
    def _shares_above_zero(self) -> Self:
        if any(share <= 0 for _, share in self.rate_shares):
            raise ValueError("rate_shares are above 0")
        return self

    @model_validator(mode="after")
    def _task_shares_above_zero(self) -> Self:
        if any(share <= 0 for share in self.task_shares.values()):
            raise ValueError("task_shares are above 0; leave the data set out of datasets instead")
        return self

    @model_validator(mode="after")
    def _warm_ups_not_negative(self) -> Self:
        if any(iterations < 0 for _, iterations in self.rate_warm_ups):
            raise ValueError("rate_warm_ups are numbers of iterations, 0 or more")
        return self

    def share_of(self, name: str) -> float:
        """The factor on the learning rate for a weight.

        Args:
            name: the weight's name.

        Returns:
            The factor of the first pattern in ``rate_shares`` that matches; else 1.
        """
        return next((share for pattern, share in self.rate_shares if fnmatchcase(name, pattern)), 1.0)

    def warm_up_of(self, name: str) -> int:
        """The length of a weight's warm-up.

        Args:
            name: the weight's name.

        Returns:
            The iterations of the first pattern in ``rate_warm_ups`` that matches; else 0, no warm-up.
        """
        return next((iterations for pattern, iterations in self.rate_warm_ups if fnmatchcase(name, pattern)), 0)

    def augments_on(self, device: str) -> bool:
        """Whether the training's device augments.

        Args:
            device: its type, as torch calls it.

        Returns:
            True where it does, for the tasks that allow it.
        """
        return self.augment_on == "device" or (self.augment_on == "auto" and device == "cuda")

    @property
    def longest_gradient(self) -> float:
        """The length that a step's gradient is cut to."""
        return min(self.gradient_clip, self.task_gradient_length or self.gradient_clip)

    @property
    def total_iterations(self) -> int:
        """Iterations of the whole run."""
        return self.epochs * self.iterations_per_epoch

    @property
    def iterations_per_epoch(self) -> int:
        """``iterations_per_dataset`` for every data set (paper: 17 x 50 = 850)."""
        return self.iterations_per_dataset * len(self.datasets)

    def rate_at(self, iteration: int) -> float:
        """The learning rate of an iteration: polynomial decay to 0 (paper: power 0.9), with restarts and drops.

        Args:
            iteration: counted from 0.

        Returns:
            The rate before ``rate_shares`` and ``rate_warm_ups``.
        """
        cycles = [(0, self.learning_rate), *sorted(self.rate_restarts)]
        epoch = iteration / self.iterations_per_epoch
        index = max(number for number, (start, _) in enumerate(cycles) if epoch >= start)
        start, rate = cycles[index]
        end = cycles[index + 1][0] if index + 1 < len(cycles) else self.epochs
        rate *= (1 - (epoch - start) / (end - start)) ** self.poly_power
        for drop, factor in self.rate_drops:
            if start <= drop <= epoch:
                rate *= factor
        return float(rate)

    @classmethod
    def from_toml(cls, path: Path, *, init: str | None = None) -> TrainingConfig:
        """Read and validate a config file. ``$NAME`` in paths is replaced by the environment variable.

        Args:
            path: the file; relative paths in it are relative to its folder.
            init: takes the place of the file's ``init``; a path is relative to the current folder.

        Returns:
            The configuration.

        Raises:
            BadInputError: the file is not TOML, or a setting is wrong; the message says which.
        """
        path = Path(path)
        raw = read_toml(path)
        if init is not None:
            raw["init"] = str(Path(init).absolute()) if _is_path(init) else init
        return cls.from_settings(raw, path)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], path: Path) -> TrainingConfig:
        """Validate settings as they stand in a config file. ``$NAME`` in paths is replaced by the environment variable.

        Args:
            settings: by name.
            path: the file that they are from; relative paths are relative to its folder.

        Returns:
            The configuration.

        Raises:
            BadInputError: a setting is wrong; the message says which.
        """
        raw, root = dict(settings), path.resolve().parent
        for key in ("output", "cache", "class_embeddings"):
            if isinstance(raw.get(key), str):
                raw[key] = resolved(raw[key], root, path)
        for key in ("pretrained_weights", "init"):
            weights = raw.get(key)
            if isinstance(weights, str) and _is_path(weights):
                raw[key] = str(resolved(weights, root, path))
        if isinstance(raw.get("datasets"), list):
            raw["datasets"] = [resolved(str(entry), root, path) for entry in raw["datasets"]]
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise BadInputError(f"{path}: {first_fault(error)}; correct the config.") from error


def _is_path(weights: str) -> bool:
    """Whether weights are named by a file, not as an installed model."""
    return bool(Path(weights).suffix) or "/" in weights or "$" in weights


def resolved(text: str, root: Path, config: Path) -> Path:
    """Make a path of what a file says.

    Args:
        text: the path, with ``$NAME`` for environment variables.
        root: what a relative path is relative to.
        config: the file, for errors.

    Returns:
        The path.

    Raises:
        BadInputError: a variable is not set.
    """
    text_now = os.path.expandvars(text)
    if "$" in text_now:
        raise BadInputError(
            f"{config}: '{text}' names an environment variable that is not set; set it or write a path."
        )
    path = expanded(text_now)
    return path if path.is_absolute() else root / path
