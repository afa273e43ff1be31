"""Whether a run's configuration, its network and its data sets go together: before images are read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import ValidationError

from meduniseg_core.errors import UsageError
from meduniseg_core.model.config import ModelConfig, PriorDesign
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.training.config import TrainingConfig
from meduniseg_core.validation import first_fault
from meduniseg_core.weights.model_file import has_sane_sizes

OF_THE_MACHINE = frozenset(
    {
        *("output", "cache", "datasets", "title", "description"),
        *("device", "workers", "augment_on", "threads", "micro_batch", "activation_checkpointing", "compile"),
        "checkpoint_every",
    }
)
"""Settings that may change between a run's start and its end: where files lie, how a model is described, how many
processes there are, and how they go through a batch."""


def check_config(config: TrainingConfig, datasets: Sequence[RawDataset]) -> tuple[int, int, int]:
    """Check what can be known of a run before any image is read.

    Args:
        config: the run's configuration.
        datasets: its data sets.

    Returns:
        The network's total stride (D, H, W).

    Raises:
        UsageError: two data sets hold the same task, the configuration names a task that none holds or leaves out a
            case that none holds, or its network cannot be built.
    """
    stride = architecture_of(config, 2, tasks=1, stems=(1,), modalities=1, dimension=dimension_of(config, datasets))
    names = [dataset.task for dataset in datasets]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"Two data sets hold the task '{name}'; give one of them another \"task\" in dataset.json."
            )
    check_named_tasks(names, plan=config.plan, absence=config.absence, task_shares=config.task_shares)
    if config.leave_out:
        _check_left_out(config.leave_out, datasets)
    return stride.total_stride


def check_named_tasks(known: Sequence[str], **settings: Iterable[str]) -> None:
    """Check the tasks that settings name.

    Args:
        known: the tasks of the data sets.
        **settings: by the setting's name, the tasks that it names.

    Raises:
        UsageError: no data set holds one of them.
    """
    for setting, named in settings.items():
        unknown = sorted(set(named) - set(known))
        if unknown:
            raise UsageError(
                f"The config's {setting} names the task '{unknown[0]}', which no data set holds; they hold: "
                f"{', '.join(known)}."
            )


def _check_left_out(names: Sequence[str], datasets: Sequence[RawDataset]) -> None:
    """UsageError for a case that is nowhere: with its name misspelt, it would be trained on."""
    known = {case.case for dataset in datasets for case in dataset.cases()}
    unknown = sorted(set(names) - known)
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, 1)
        where = ", ".join(dataset.name for dataset in datasets)
        hint = f"; the nearest is '{near[0]}'" if near else ""
        raise UsageError(f"There is no case '{unknown[0]}' to leave out in {where}{hint}; correct the name.")


def architecture_of(
    config: TrainingConfig,
    classes: int,
    tasks: int,
    stems: tuple[int, ...],
    modalities: int,
    dimension: Literal[2, 3] = 3,
) -> ModelConfig:
    """The architecture of a run's network.

    Args:
        config: the run's configuration.
        classes: background included.
        tasks: their number.
        stems: the channel counts that the network takes.
        modalities: their number.
        dimension: see :func:`dimension_of`.

    Returns:
        The architecture.

    Raises:
        UsageError: the network cannot be built.
    """
    network = config.network
    design: dict[str, Any] = {name: getattr(network, name) for name in PriorDesign.model_fields}
    try:
        built = ModelConfig(
            features=network.features,
            strides=network.strides,
            stems=stems,
            classes=classes,
            modalities=modalities if network.told_modality else 0,
            modal_prompt_length=network.modal_prompt_length,
            tasks=tasks if network.told_task else 0,
            task_prompt_channels=network.task_prompt_channels,
            task_prompt_size=network.task_prompt_size,
            dimension=dimension,
            **design,
        )
    except ValidationError as error:
        raise UsageError(f"The config's network cannot be built: {first_fault(error)}; correct the config.") from None
    if not has_sane_sizes(built):
        raise UsageError("The config's network has impossible sizes; correct the config.")
    return built


def dimension_of(config: TrainingConfig, datasets: Sequence[RawDataset]) -> Literal[2, 3]:
    """The dimension of a run's network. Universal networks' three-dimensional kernels take images of depth 1; others
    have a two-dimensional form.

    Args:
        config: the run's configuration.
        datasets: its data sets.

    Returns:
        2 or 3.
    """
    return datasets[0].dimension if config.network.single_task else 3
