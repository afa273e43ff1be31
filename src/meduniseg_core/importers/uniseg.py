"""Imports the published checkpoint of UniSeg, MedUniSeg's predecessor (docs/spec.md section 12).

The architecture (widths, strides, stems, classes, number of tasks, patch) is read from the tensors. Spacing,
normalisation and intensity statistics come from the plans beside the checkpoint, else from :class:`UniSegOptions`.
Images are prepared, and probabilities brought back, as by nnU-Net v1, on which UniSeg was built (scheme version 1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from meduniseg_core.catalog import UPSTREAM
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import EventSink, Message, ignore
from meduniseg_core.files import sha256_of
from meduniseg_core.importers.torch_archive import read_checkpoint, state_dict_of
from meduniseg_core.importers.uniseg_plans import NnunetPlans, read_v1_plans
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.preprocessing.plan import ClassNames, IntensityStatistics, Millimetres, Normalisation, TaskPlan
from meduniseg_core.preprocessing.scheme import Scheme
from meduniseg_core.validation import place_and_fault
from meduniseg_core.weights.info import ModelInfo
from meduniseg_core.weights.model_file import expected_shapes

Spacing = tuple[Millimetres, Millimetres, Millimetres]

_TASK_COUNT = 11  # the first eleven of the paper's upstream tasks are UniSeg's, in its order
_CT_SCHEMES = {"CT", "CT2"}


class UniSegTask(BaseModel):
    """One task of a UniSeg checkpoint, in the order of its channels in FUSE. ``classes`` are the foreground classes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    title: str = ""
    modality: str
    channels: tuple[str, ...] = Field(min_length=1)
    classes: ClassNames


PUBLISHED_TASKS: tuple[UniSegTask, ...] = tuple(
    UniSegTask(task=task.name, title=task.title, modality=task.modality, channels=task.channels, classes=task.classes)
    for task in UPSTREAM[:_TASK_COUNT]
)

# UniSeg's own preprocessing clips CT to -325 ... 325 HU and scales that to 0 ... 1; as mean and deviation: 650 wide
# from -325.
UNISEG_CT_WINDOW = IntensityStatistics(mean=-325.0, std=650.0, percentile_00_5=-325.0, percentile_99_5=325.0)

# The spacings (mm, D H W) to which UniSeg's published planners resample three of its data sets, where that differs from
# the 3 x 1.5 x 1.5 of the merged plans; for `UniSegOptions.task_spacings`.
PLANNER_SPACINGS: Mapping[str, Spacing] = {
    "vertebrae": (4.0, 2.0, 2.0),
    "brain_tumour": (1.0, 1.0, 1.0),
    "whole_body_tumour": (8.0, 4.0, 4.0),
}


class UniSegOptions(BaseModel):
    """What the tensors do not say. The defaults are those of the published checkpoint.

    ``spacing`` (mm, D H W) and ``ct_figures`` are used where the plans do not give them; ``task_spacings`` override
    both for the tasks they name. Channels called "ct" get CT normalisation, all others a z-score per image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "uniseg"
    title: str = "UniSeg, 11 tasks"
    tasks: tuple[UniSegTask, ...] = PUBLISHED_TASKS
    spacing: Spacing = (3.0, 1.5, 1.5)
    task_spacings: Mapping[str, Spacing] = Field(default_factory=dict)
    ct_figures: IntensityStatistics = UNISEG_CT_WINDOW
    mirror_axes: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True)
class Imported:
    """An imported network, ready for ``save_model`` or ``Registry.save``."""

    info: ModelInfo
    state_dict: dict[str, Tensor]


def import_uniseg(
    checkpoint: Path,
    plans: Path | None = None,
    options: UniSegOptions | None = None,
    *,
    events: EventSink = ignore,
) -> Imported:
    """Import a UniSeg checkpoint (a ``.model`` file of nnU-Net v1).

    Args:
        checkpoint: the checkpoint.
        plans: its ``.model.pkl`` or ``plans*.pkl``; by default ``CHECKPOINT.pkl`` if it exists.
        options: names and what the tensors do not say; by default those of the published checkpoint.
        events: receives messages about what was assumed.

    Returns:
        Description and weights, ready for ``Registry.save``.

    Raises:
        BadInputError: a file is not what it should be, or asks for code.
        UsageError: the options do not fit the checkpoint.
    """
    checkpoint = Path(checkpoint)
    options = options or UniSegOptions()
    content = read_checkpoint(checkpoint)
    original = state_dict_of(checkpoint, content)
    config = _infer_config(checkpoint, original)
    state = _translate(checkpoint, original, config)
    if len(options.tasks) != config.tasks:
        raise UsageError(
            f"{checkpoint} has {config.tasks} tasks and the options name {len(options.tasks)}; name its tasks in order."
        )
    beside = checkpoint.with_name(checkpoint.name + ".pkl")
    source = plans if plans is not None else (beside if beside.is_file() else None)
    read = read_v1_plans(Path(source)) if source is not None else NnunetPlans(None, None, {}, {}, {})
    _report(source, read, options, events)
    patch = _patch(config, read, events)
    unknown = options.task_spacings.keys() - {task.task for task in options.tasks}
    if unknown:
        raise UsageError(f"A spacing is given for '{sorted(unknown)[0]}', which is not a task of the checkpoint.")
    try:
        info = ModelInfo(
            name=options.name,
            title=options.title,
            description="Imported from a UniSeg checkpoint (Ye et al., MICCAI 2023).",
            licence="the checkpoint's own; ask those who published it",
            config=config,
            tasks=tuple(_task_plan(task, patch, read, options) for task in options.tasks),
            provenance={
                "imported_from": checkpoint.name,
                "sha256": sha256_of(checkpoint),
                "plans": Path(source).name if source is not None else None,
                "epoch": content["epoch"] if isinstance(content.get("epoch"), int) else None,
            },
        )
    except ValidationError as error:
        _, message = place_and_fault(error)
        raise UsageError(f"The options do not fit {checkpoint}: {message}; name its tasks in order.") from error
    return Imported(info=info, state_dict=state)


def _infer_config(path: Path, state: Mapping[str, Tensor]) -> ModelConfig:
    """The architecture that follows from the tensors' names and shapes."""

    def shape(name: str) -> tuple[int, ...]:
        tensor = state.get(name)
        if tensor is None or tensor.dim() != 5:
            _refuse(path, f"'{name}' is missing or not a 3D kernel")
        return tuple(tensor.shape)

    stem = re.compile(r"conv_blocks_context\.0\.blocks\.0\.conv_(\d{1,3})\.weight")
    stems = sorted(int(match[1]) for name in state if (match := stem.fullmatch(name)))
    if not stems:
        _refuse(path, "it has no stems by number of channels")
    levels = 0
    while f"tu.{levels}.weight" in state:
        levels += 1
    features = [shape(f"conv_blocks_context.0.blocks.0.conv_{stems[0]}.weight")[0]]
    features += [shape(f"conv_blocks_context.{level}.blocks.0.conv.weight")[0] for level in range(1, levels)]
    features += [shape(f"conv_blocks_context.{levels}.0.blocks.0.conv.weight")[0]]
    ups = [shape(f"tu.{level}.weight") for level in reversed(range(levels))]
    prompt = shape("intermedia_prompt")
    try:
        return ModelConfig(
            features=tuple(features),
            strides=tuple((up[2], up[3], up[4]) for up in ups),
            stems=tuple(stems),
            classes=shape("seg_outputs.0.weight")[0],
            modalities=0,
            tasks=shape("fusion_layer.blocks.2.conv.weight")[0],
            task_prompt_channels=prompt[1],
            task_prompt_size=(prompt[2], prompt[3], prompt[4]),
        )
    except ValidationError as error:
        _, message = place_and_fault(error)
        raise BadInputError(
            f"{path}: not a UniSeg checkpoint, because its tensors fit no network ({message}); check the file."
        ) from error


# UniSeg's names, by nnU-Net v1's, and ours (docs/spec.md section 12's table).
_NAMES: tuple[tuple[str, str], ...] = (
    (r"conv_blocks_context\.0\.blocks\.0\.conv_(\d+)\.(\w+)", r"encoder.stems.\1.\2"),
    (r"conv_blocks_context\.0\.blocks\.0\.instnorm\.(\w+)", r"encoder.stem_norm.\1"),
    (r"conv_blocks_context\.0\.blocks\.1\.(\w+)\.(\w+)", r"encoder.stages.0.0.\1.\2"),
    (r"conv_blocks_context\.(\d+)\.blocks\.(\d+)\.(\w+)\.(\w+)", r"encoder.stages.\1.\2.\3.\4"),
    (r"conv_blocks_context\.(\d+)\.(\d+)\.blocks\.0\.(\w+)\.(\w+)", r"encoder.stages.\1.\2.\3.\4"),
    (r"intermedia_prompt", r"fuse.prompt"),
    (r"fusion_layer\.blocks\.(\d+)\.(\w+)\.(\w+)", r"fuse.blocks.\1.\2.\3"),
    (r"tu\.(\d+)\.weight", r"decoder.levels.\1.up.weight"),
    (r"conv_blocks_localization\.(\d+)\.(\d+)\.blocks\.0\.(\w+)\.(\w+)", r"decoder.levels.\1.blocks.\2.\3.\4"),
    (r"seg_outputs\.(\d+)\.weight", r"decoder.levels.\1.head.weight"),
)


def our_name_of_uniseg(original: str) -> str | None:
    """Translate the name of a tensor.

    Args:
        original: UniSeg's name.

    Returns:
        Our name; None for a name that UniSeg does not have.
    """
    for pattern, ours in _NAMES:
        match = re.fullmatch(pattern, original)
        if match:
            return match.expand(ours).replace(".instnorm.", ".norm.")
    return None


def _translate(path: Path, state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The tensors by our names, each finite and checked against the architecture."""
    expected = expected_shapes(config)
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        ours = our_name_of_uniseg(name)
        if ours is None or ours not in expected:
            _refuse(path, f"its tensor {name!r:.80} has no place in the network")
        if tuple(tensor.shape) != expected[ours]:
            _refuse(path, f"tensor {name} has shape {tuple(tensor.shape)} and should have {expected[ours]}")
        if not bool(torch.isfinite(tensor).all()):
            _refuse(path, f"tensor {name} holds NaN or infinite values")
        result[ours] = tensor
    missing = sorted(expected.keys() - result.keys())
    if missing:
        _refuse(path, f"{len(missing)} tensors are missing, the first is what we call {missing[0]}")
    # UniSeg fuses (features, prompt) where MedUniSeg's FUSE takes (prompt, features): swap the kernel's inputs
    first = result["fuse.blocks.0.conv.weight"]
    features = config.features[-1]
    result["fuse.blocks.0.conv.weight"] = torch.cat((first[:, features:], first[:, :features]), dim=1)
    return result


def _patch(config: ModelConfig, plans: NnunetPlans, events: EventSink) -> tuple[int, int, int]:
    """The training patch: the prompt's size times the network's total stride."""
    d, h, w = (side * step for side, step in zip(config.task_prompt_size, config.total_stride, strict=True))
    if plans.patch is not None and plans.patch != (d, h, w):
        text = f"The plans' patch is {plans.patch}, the tensors speak of {(d, h, w)}: the tensors' is used."
        events(Message("warning", text))
    return d, h, w


def _report(source: Path | None, plans: NnunetPlans, options: UniSegOptions, events: EventSink) -> None:
    """Report what the plans leave open and what is assumed instead."""
    origin = f"{Path(source).name} does not give it" if source is not None else "no plans were given"
    if plans.spacing is None:
        events(Message("info", f"Spacing {_text(options.spacing)} mm is assumed ({origin})."))
    low, high = options.ct_figures.percentile_00_5, options.ct_figures.percentile_99_5
    if plans.uniseg_s_own:
        ignored = ": the plans' intensity figures are not its" if plans.figures else ""
        text = f"CT is clipped to {low:g} ... {high:g} HU, as UniSeg's own preprocessing does{ignored}."
        events(Message("info", text))
    elif not plans.figures:
        events(Message("info", f"CT is clipped to {low:g} ... {high:g} HU, an assumption ({origin})."))
    if "CT2" in plans.schemes.values():
        text = "The plans normalise CT by each image's own mean ('CT2'), which is not done here: results may differ."
        events(Message("warning", text))
    for task, spacing in options.task_spacings.items():
        events(Message("info", f"Task {task}: spacing {_text(spacing)} mm as asked for."))


def _text(spacing: Spacing) -> str:
    return " x ".join(f"{value:g}" for value in spacing)


def _task_plan(task: UniSegTask, patch: tuple[int, int, int], plans: NnunetPlans, options: UniSegOptions) -> TaskPlan:
    kinds = [_normalisation(name, channel, plans) for channel, name in enumerate(task.channels)]
    known = {} if plans.uniseg_s_own else plans.figures
    return TaskPlan(
        task=task.task,
        title=task.title,
        modality=task.modality,
        dimension=3,
        channels=task.channels,
        classes=task.classes,
        spacing=options.task_spacings.get(task.task, plans.spacing or options.spacing),
        patch=patch,
        batch=2,
        normalisation=tuple(kinds),
        figures=tuple(
            known.get(channel, options.ct_figures) if kind == "ct" else None for channel, kind in enumerate(kinds)
        ),
        mirror_axes=options.mirror_axes,
        crop_to_body=False,
        averaging="probabilities",
        scheme=Scheme(version=1, logit_resampling=plans.export),
    )


def _normalisation(name: str, channel: int, plans: NnunetPlans) -> Normalisation:
    """Decided by the channel's name. The plans can only refine it: their channels are shared by tasks of all
    modalities."""
    scheme = plans.schemes.get(channel)
    if scheme == "noNorm" and not plans.uniseg_s_own:  # which has no such case
        return "none"
    if name.lower() == "ct" and (scheme is None or scheme in _CT_SCHEMES):
        return "ct"
    return "zscore_nonzero" if plans.masked.get(channel) else "zscore"


def _refuse(path: Path, reason: str) -> NoReturn:
    raise BadInputError(f"{path}: not a UniSeg checkpoint, because {reason}; check that it is the right file.")
