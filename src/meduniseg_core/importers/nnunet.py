"""Imports models trained with nnU-Net v2: the folder ``TRAINER__PLANS__CONFIGURATION`` with its folds.

Everything that decides a prediction is kept: the network of every fold, and a plan with nnU-Net's own preprocessing
(`preprocessing.scheme`). The checkpoints are pickles and are read only by the restricted reader.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import EventSink, Message, ignore
from meduniseg_core.files import sha256_of
from meduniseg_core.importers.nnunet_network import has_affine_norms, network_of, translate
from meduniseg_core.importers.nnunet_plans import (
    DATASET,
    PLANS,
    Configuration,
    Dataset,
    Plans,
    configuration_of,
    labels_of,
    read_dataset,
    read_plans,
    refuse,
)
from meduniseg_core.importers.torch_archive import read_checkpoint, state_dict_of
from meduniseg_core.importers.uniseg import Imported
from meduniseg_core.preprocessing.channel_names import is_colour, modality_of_channel, modality_of_channels
from meduniseg_core.preprocessing.dataset import task_name
from meduniseg_core.preprocessing.plan import IntensityStatistics, Normalisation, TaskPlan
from meduniseg_core.preprocessing.scheme import Resampling, Scheme
from meduniseg_core.validation import place_and_fault
from meduniseg_core.weights.info import ModelInfo

_UNKNOWN_MODALITY = "other"
_NORMALISATIONS: Mapping[str, Normalisation] = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "RescaleTo01Normalization": "rescale01",
    "RGBTo01Normalization": "rgb01",
    "NoNormalization": "none",
}
# image readers: the orientation in which they hand images over, and whether sizes are pixels
_READERS: Mapping[str, tuple[Literal["file", "RAS"], bool]] = {
    "SimpleITKIO": ("file", False),
    "SimpleITKIOWithReorient": ("RAS", False),
    "NibabelIO": ("file", False),
    "NibabelIOWithReorient": ("RAS", False),
    "Tiff3DIO": ("file", False),
    "NaturalImage2DIO": ("file", True),
}
# nnU-Net's own trainers that train the network of the plans, by the parts of their names: loss, schedule, augmentation
_TRAINER = re.compile(
    r"nnUNetTrainer(_?("
    r"\d+ep(och)?s?|Benchmark_5epochs(_noDataLoading)?|NoMirroring|onlyMirror01|DA5(ord0|Segord0)?|NoDA|DASegOrd0|"
    r"DAOrd0|noDummy2DDA|warmup|CosAnneal|Adan(1en1|1en3|3en4)?|(Vanilla)?Adam(1en3|3en4)?|DiceLoss|CELoss|"
    r"DiceCELoss_noSmooth|Topk10Loss(LS01)?|DiceTopK10Loss|NoDeepSupervision|probabilisticOversampling(_\d+)?))*"
)


class NnunetOptions(BaseModel):
    """What to import from the folder, and under which names.

    ``folds`` are fold names ("0", "all"); None imports all numbered ones. ``task`` and ``modality`` default to the
    names of the data set and of its channels. ``any_trainer`` also accepts trainers that are not nnU-Net's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    folds: tuple[str, ...] | None = Field(default=None, min_length=1)
    checkpoint: Literal["final", "best"] = "final"
    task: str | None = None
    modality: str | None = None
    any_trainer: bool = False


class _Fold(BaseModel):
    """The training settings in a checkpoint, which are the same for all folds of one training."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    trainer_name: str
    configuration: str
    mirror_axes: tuple[int, ...]


def import_nnunet(folder: Path, options: NnunetOptions, *, events: EventSink = ignore) -> Imported:
    """Import a model folder of nnU-Net v2.

    Args:
        folder: ``TRAINER__PLANS__CONFIGURATION``.
        options: what to import, and under which names.
        events: receives messages about what was assumed.

    Returns:
        Description and weights, ready for ``Registry.save``.

    Raises:
        BadInputError: the folder or a file is not what it should be, a checkpoint asks for code, the network cannot be
            built here (a cascade, for example), or the folds do not belong together.
        UsageError: a fold is missing, or a name is not valid.
    """
    folder = Path(folder)
    _check_folder(folder)
    plans, dataset = read_plans(folder), read_dataset(folder)
    files = _fold_files(folder, options, events)
    config = configuration = None
    known: _Fold | None = None
    state: dict[str, Tensor] = {}
    for member, path in enumerate(files.values()):
        content = read_checkpoint(path)
        fold = _fold_of(path, content)
        if known is None:
            known = fold
            _check_trainer(folder, fold.trainer_name, options)
            configuration = configuration_of(folder, plans, fold.configuration)
            labels = labels_of(folder, dataset)
            config = network_of(folder, configuration, len(dataset.channels), labels.outputs, len(files))
        elif fold != known:
            refuse(path, "its trainer, configuration or mirroring is not the other folds'", "choose with --folds")
        assert config is not None and configuration is not None
        weights = state_dict_of(path, content, "network_weights")
        own = translate(path, weights, config, has_affine_norms(configuration))
        state |= {f"members.{member}.{name}": tensor for name, tensor in own.items()}
    assert known is not None and config is not None and configuration is not None
    try:
        info = ModelInfo(
            name=options.name,
            title=f"{dataset.name or plans.dataset_name or folder.parent.name} ({known.configuration}, nnU-Net)",
            description="Imported from nnU-Net v2 (Isensee et al., Nature Methods 2021).",
            licence=dataset.licence or "the model's own; ask those who trained it",
            config=config,
            tasks=(_task_plan(folder, plans, dataset, configuration, known, options, events),),
            provenance={
                "imported_from": folder.name,
                "trainer": known.trainer_name,
                "plans": plans.plans_name,
                "configuration": known.configuration,
                "folds": list(files),
                "checkpoint": options.checkpoint,
                "sha256": {fold: sha256_of(path) for fold, path in files.items()},
            },
        )
    except ValidationError as error:
        place, fault = place_and_fault(error)
        raise UsageError(
            f"{folder}: no model can be made of it ({place or 'the whole'}: {fault}); "
            "check its plans and the names that you give."
        ) from error
    return Imported(info=info, state_dict=state)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise BadInputError(f"{folder} is not a folder; give the folder TRAINER__PLANS__CONFIGURATION of nnU-Net v2.")
    if not (folder / PLANS).is_file() and (folder / "plans.pkl").is_file():
        refuse(folder, "nnU-Net v1 wrote it (plans.pkl)", "only models of nnU-Net v2 can be imported")
    for name in (PLANS, DATASET):
        if not (folder / name).is_file():
            refuse(folder, f"it holds no {name}", "give the folder TRAINER__PLANS__CONFIGURATION of nnU-Net v2")


def _fold_files(folder: Path, options: NnunetOptions, events: EventSink) -> dict[str, Path]:
    """The checkpoint of each fold. "all" is the fold of that name, or all numbered ones if there is none."""
    name = f"checkpoint_{options.checkpoint}.pth"
    there = {path.parent.name.removeprefix("fold_"): path for path in folder.glob(f"fold_*/{name}") if path.is_file()}
    numbered = sorted((fold for fold in there if fold.isdecimal()), key=int)
    if options.folds is None or (options.folds == ("all",) and "all" not in there):
        wanted = tuple(numbered) or tuple(fold for fold in there if fold == "all")
    else:
        wanted = tuple(dict.fromkeys(options.folds))
    if not wanted:
        other = "final" if options.checkpoint == "best" else "best"
        there_is = any(folder.glob(f"fold_*/checkpoint_{other}.pth"))
        remedy = (
            f"there is another: --checkpoint {other}" if there_is else "training has not ended, or take a whole copy"
        )
        refuse(folder, f"no fold_0, fold_1, ... of it holds {name}", remedy)
    for fold in wanted:
        if fold not in there:
            known = ", ".join(there) or "none"
            raise UsageError(f"{folder} has no {name} of fold '{fold:.20}'; there is: {known}.")
    events(Message("info", f"Folds that are averaged: {', '.join(wanted)} ({name})."))
    return {fold: there[fold] for fold in wanted}


def _fold_of(path: Path, content: Mapping[str, Any]) -> _Fold:
    arguments = content.get("init_args")
    axes = content.get("inference_allowed_mirroring_axes")
    try:
        return _Fold.model_validate(
            {
                "trainer_name": content.get("trainer_name"),
                "configuration": arguments.get("configuration") if isinstance(arguments, dict) else None,
                "mirror_axes": () if axes is None else axes,
            }
        )
    except ValidationError:
        refuse(path, "it does not say its trainer, configuration and mirroring as nnU-Net v2's checkpoints do")


def _check_trainer(folder: Path, trainer: str, options: NnunetOptions) -> None:
    if options.any_trainer or _TRAINER.fullmatch(trainer):
        return
    refuse(
        folder,
        f"its trainer '{trainer:.80}' is not one of nnU-Net's own that train the plans' network",
        "give --any-trainer where you know that its network is the one in the plans",
    )


def _task_plan(
    folder: Path,
    plans: Plans,
    dataset: Dataset,
    configuration: Configuration,
    fold: _Fold,
    options: NnunetOptions,
    events: EventSink,
) -> TaskPlan:
    channels = dataset.channels
    dimension: Literal[2, 3] = 2 if len(configuration.patch_size) == 2 else 3
    reader = _READERS.get(plans.image_reader_writer)
    if reader is None:
        refuse(folder, f"its images are read by '{plans.image_reader_writer:.60}', which this program does not know")
    if any(not 0 <= axis < dimension for axis in fold.mirror_axes):
        refuse(folder, f"its mirroring axes {fold.mirror_axes!s:.40} are not those of {dimension}D images")
    kinds = _normalisations(folder, configuration, len(channels))
    labels = labels_of(folder, dataset)
    spacing, patch = tuple(configuration.spacing), tuple(configuration.patch_size)
    if dimension == 2:  # the depth is the image's own
        spacing, patch = (1.0, *spacing), (1, *patch)
    return TaskPlan.model_validate(
        {
            "task": options.task or task_name(dataset.name or plans.dataset_name),
            "title": dataset.description[:200],
            "modality": options.modality or _modality(channels, kinds, events),
            "dimension": dimension,
            "channels": channels,
            "classes": labels.classes,
            "spacing": spacing,
            "patch": patch,
            "normalisation": kinds,
            "figures": tuple(_figures(plans, index) if kind == "ct" else None for index, kind in enumerate(kinds)),
            "mirror_axes": tuple(sorted({axis + 3 - dimension for axis in fold.mirror_axes})),
            "crop_to_body": False,
            "scheme": Scheme(
                orientation=reader[0],
                transpose=plans.transpose_forward,
                image_resampling=_resampling(
                    folder, configuration.resampling_fn_data, configuration.resampling_fn_data_kwargs
                ),
                logit_resampling=_resampling(
                    folder, configuration.resampling_fn_probabilities, configuration.resampling_fn_probabilities_kwargs
                ),
                region_labels=labels.regions,
                pixels=reader[1],
            ),
        }
    )


def _normalisations(folder: Path, configuration: Configuration, channels: int) -> tuple[Normalisation, ...]:
    schemes, masks = configuration.normalization_schemes, configuration.use_mask_for_norm
    if len(schemes) != channels or len(masks) != channels:
        refuse(folder / PLANS, f"it normalises {len(schemes)} channel(s) and {DATASET} names {channels}")
    kinds: list[Normalisation] = []
    for scheme, masked in zip(schemes, masks, strict=True):
        kind = _NORMALISATIONS.get(scheme)
        if kind is None:
            refuse(folder, f"it normalises by '{scheme:.60}', which this program does not know")
        kinds.append("zscore_nonzero" if kind == "zscore" and masked else kind)
    return tuple(kinds)


def _figures(plans: Plans, channel: int) -> IntensityStatistics | None:
    found = plans.figures.get(str(channel))
    return None if found is None else IntensityStatistics.model_validate(found.model_dump())


def _modality(channels: tuple[str, ...], kinds: tuple[Normalisation, ...], events: EventSink) -> str:
    found = modality_of_channels(channels)
    if found is None and set(kinds) == {"ct"}:
        found = "ct"
    known = {modality_of_channel(name) for name in channels} - {None}
    if found is None and not is_colour(channels) and known == {"mri"}:
        found = "mri"
    if found is None:
        text = f"The channels ({', '.join(channels)}) do not say the modality: it is '{_UNKNOWN_MODALITY}'."
        events(Message("info", f"{text} Give --modality to name it."))
        return _UNKNOWN_MODALITY
    return found


def _resampling(folder: Path, function: str, settings: Mapping[str, Any]) -> Resampling:
    if function == "no_resampling_hack":
        return Resampling(kind="none")
    across: Any
    if function == "resample_data_or_seg_to_shape":
        order, across = settings.get("order", 3), settings.get("order_z", 0)
        separate = settings.get("force_separate_z", False)
    elif function == "resample_torch_fornnunet" and settings.get("mode", "linear") == "linear":
        across = {"nearest-exact": 0, "linear": 1}.get(str(settings.get("aniso_axis_mode", "nearest-exact")))
        order, separate = 1, settings.get("force_separate_z")
    else:
        refuse(folder, f"it resamples by '{function:.60}' in a way that this program does not know")
    threshold = settings.get("separate_z_anisotropy_threshold", 3.0)
    try:
        return Resampling.model_validate(
            {"order": order, "order_across": across, "separate": separate, "anisotropy": threshold}
        )
    except ValidationError:
        refuse(folder / PLANS, f"the settings of its resampling are impossible ({dict(settings)!s:.120})")
