"""Turns a configuration into everything a run needs: plans, preprocessed cases, splits and the model's description."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import CancelToken, EventSink, ignore
from meduniseg_core.files import sha256_of
from meduniseg_core.preprocessing import (
    CachedCase,
    CachedDataset,
    RawDataset,
    TaskPlan,
    plan_dataset,
    preprocess_dataset,
    save_plans,
)
from meduniseg_core.preprocessing.cache import source_files
from meduniseg_core.preprocessing.class_statistics import task_statistics
from meduniseg_core.preprocessing.plan import unsaid_before, with_former_names
from meduniseg_core.preprocessing.statistics import join_statistics
from meduniseg_core.training.augmentation.config import AppearanceConfig
from meduniseg_core.training.config import TrainingConfig
from meduniseg_core.training.config_check import OF_THE_MACHINE, architecture_of, check_config, dimension_of
from meduniseg_core.training.pretrained import start_of
from meduniseg_core.training.settings import NetworkSettings, PlanSettings
from meduniseg_core.training.split import Fold, Split, load_or_draw_splits, write_splits
from meduniseg_core.training.start import Start
from meduniseg_core.version import __version__
from meduniseg_core.weights import ModelInfo

SPLIT_FILE = "split.json"
CASES_FILE = "cases.json"  # the split without what was left out
PLANS_FILE = "plans.json"

# the order of the prompts in every model trained here (docs/spec.md section 3)
MODALITIES = ("ct", "mri", "pet", "dermoscopy", "fundus", "pathology", "ultrasound", "xray", "endoscopy")


@dataclass(frozen=True)
class PreparedTask:
    """One task, ready for training."""

    plan: TaskPlan
    train: tuple[CachedCase, ...]
    validation: tuple[CachedCase, ...]


@dataclass(frozen=True)
class Prepared:
    """A run, ready to start. ``config_hash`` covers everything that must not change between start and resume."""

    info: ModelInfo
    tasks: tuple[PreparedTask, ...]
    config_hash: str


def prepare(
    config: TrainingConfig,
    *,
    start: Start | None = None,
    trust_times: bool = False,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> Prepared:
    """Plan, preprocess (into the cache, unless already there) and split every data set.

    Args:
        config: the run's configuration.
        start: the weights to start from; None for those that the configuration names, or random ones.
        trust_times: do not read files again whose size and times are those of the last preprocessing.
        events: receives the progress.
        cancel: stops the work.

    Returns:
        The run, ready to start.

    Raises:
        BadInputError: a data set cannot be used.
        UsageError: two data sets hold the same task, the configuration plans a task that none holds or leaves out a
            case that none holds, or its network cannot be built.
        CancelledError: ``cancel`` was set.
    """
    start = start or start_of(config)
    datasets = [RawDataset.open(folder) for folder in config.datasets]
    total_stride = check_config(config, datasets)
    cached = [
        _with_statistics(
            _cache(config, dataset, total_stride, start, trust_times, events, cancel), dataset, config, events, cancel
        )
        for dataset in datasets
    ]
    config.output.mkdir(parents=True, exist_ok=True)
    save_plans([entry.plan for entry in cached], config.output / PLANS_FILE)
    splits = load_or_draw_splits(
        config.output / SPLIT_FILE,
        [(entry.task, {case.case: case.patient for case in entry.cases}) for entry in cached],
        config.validation_fraction if config.folds is None else Fold(config.fold, config.folds),
        config.seed,
    )
    tasks = tuple(_divided(entry, splits[entry.task], set(config.leave_out)) for entry in cached)
    used = {
        task.plan.task: Split(tuple(c.case for c in task.train), tuple(c.case for c in task.validation))
        for task in tasks
    }
    write_splits(config.output / CASES_FILE, used)
    info = _describe(config, [task.plan for task in tasks], datasets, used)
    if start is not None:
        info = start.describe(info)
    return Prepared(info=info, tasks=tasks, config_hash=_config_hash(config, info, tasks, start))


def _cache(
    config: TrainingConfig,
    dataset: RawDataset,
    total_stride: tuple[int, int, int],
    start: Start | None,
    trust_times: bool,
    events: EventSink,
    cancel: CancelToken | None,
) -> CachedDataset:
    sources = source_files(dataset, config.cache, trust_times=trust_times)

    def cached(plan: TaskPlan) -> CachedDataset:
        return preprocess_dataset(
            dataset,
            plan,
            config.cache,
            events,
            cancel,
            parallel=max(1, config.workers),
            predictions=config.predictions,
            sources=sources,
        )

    fixed = None if start is None else start.plan_of(dataset)
    if fixed is not None:
        # the start decides how data are preprocessed, this run what fits into its memory
        own = config.plan.get(dataset.task, PlanSettings())
        size = {"patch": own.patch or fixed.patch, "batch": own.batch or fixed.batch}
        fixed = fixed.model_copy(update=size)
        return cached(fixed)
    defaults = config.plan_2d if dataset.dimension == 2 else config.plan_3d
    chosen = config.plan[dataset.task].over(defaults) if dataset.task in config.plan else defaults
    plan = plan_dataset(
        dataset,
        config.planner,
        gpu_memory=config.gpu_memory,
        width=config.network.features[0],
        total_stride=total_stride,
        fixed=chosen.model_dump(exclude={"hu_window", "largest_only", "classes"}),
        parallel=max(1, config.workers),
        cache_dir=config.cache,
        sources=sources,
        events=events,
        cancel=cancel,
    )
    if chosen.hu_window is not None:
        plan = plan.model_copy(update={"hu_window": chosen.hu_window})
    if chosen.classes is not None:
        if len(chosen.classes) != len(plan.classes):
            raise UsageError(
                f"The config names {len(chosen.classes)} classes of task {plan.task}, which has {len(plan.classes)}."
            )
        plan = plan.model_copy(update={"classes": chosen.classes})
    strangers = sorted(set(chosen.largest_only or ()) - set(plan.classes))
    if strangers:
        raise UsageError(f"The config's largest_only names {strangers[0]}, which is no class of task {plan.task}.")
    return cached(plan.model_copy(update={"largest_only": chosen.largest_only or ()}))


def _with_statistics(
    entry: CachedDataset,
    dataset: RawDataset,
    config: TrainingConfig,
    events: EventSink,
    cancel: CancelToken | None,
) -> CachedDataset:
    """Add statistics of the training images and classes to the plan; those of the start's own plan count, too."""
    keys = {case.case: case.record.key for case in entry.cases if case.case not in set(config.leave_out)}
    parallel = max(1, config.workers)
    found = task_statistics(
        dataset, entry.plan, keys=keys, folder=entry.folder, parallel=parallel, events=events, cancel=cancel
    )
    before = entry.plan.statistics
    if found is not None and before is not None and before.size_unit == found.size_unit:
        found = join_statistics(before, found)
    return replace(entry, plan=entry.plan.model_copy(update={"statistics": found or before}))


def _divided(entry: CachedDataset, split: Split, left_out: set[str]) -> PreparedTask:
    by_name = {case.case: case for case in entry.cases if case.case not in left_out}
    train = tuple(by_name[name] for name in split.train if name in by_name)
    if not train:
        raise BadInputError(
            f"Task {entry.task} has no training cases left; lower validation_fraction or leave fewer cases out."
        )
    return PreparedTask(entry.plan, train, tuple(by_name[name] for name in split.validation if name in by_name))


def _describe(
    config: TrainingConfig, plans: list[TaskPlan], datasets: list[RawDataset], splits: dict[str, Split]
) -> ModelInfo:
    modalities = (*MODALITIES, *sorted({plan.modality for plan in plans} - set(MODALITIES)))
    provenance: dict[str, Any] = {
        "kind": _kind(config.network),
        "version": __version__,
        "seed": config.seed,
        "epochs": config.epochs,
        "iterations_per_dataset": config.iterations_per_dataset,
        "datasets": [
            {
                "name": dataset.name,
                "task": dataset.task,
                "dataset_json_sha256": sha256_of(dataset.folder / "dataset.json"),
                "train_cases": len(splits[dataset.task].train),
                "validation_cases": len(splits[dataset.task].validation),
            }
            for dataset in datasets
        ],
    }
    stems = (1, 2, 3, 4) if config.network.told_task else tuple(sorted({len(plan.channels) for plan in plans}))
    classes = max(plan.class_count for plan in plans)
    built = architecture_of(config, classes, len(plans), stems, len(modalities), dimension_of(config, datasets))
    return ModelInfo(
        name=config.name,
        title=config.title,
        description=config.description,
        licence=config.licence,
        config=built,
        tasks=tuple(plans),
        modalities=modalities if built.modalities else (),
        provenance=provenance,
    )


def _kind(network: NetworkSettings) -> str:
    if network.single_task:
        return "single-task network"
    return "universal training" if network.priors else "plain backbone"


# settings added later: runs that do not use them keep the hash they had
_OPTIONAL = (
    "rate_shares",
    "rate_warm_ups",
    "absence",
    "average_decay",
    "task_shares",
    "task_gradient_length",
    "task_sampling_power",
    "folds",
    "fold",
)


_LATER_APPEARANCE = ("p_class_contrast", "class_contrast")
"""Settings that runs of the versions before do not know: they keep their hash where these stand at their defaults."""


def _config_hash(config: TrainingConfig, info: ModelInfo, tasks: tuple[PreparedTask, ...], start: Start | None) -> str:
    settings = config.model_dump(
        mode="json",
        exclude={
            *OF_THE_MACHINE,
            # what they choose stands in the plans
            "planner",
            "gpu_memory",
            # its hash stands in the identity of the start
            "pretrained_weights",
            "init",
            "class_embeddings",
            # hashed with the cases; and runs without corrections keep the hash they have
            "predictions",
            *(("correction_oversampling", "correction_weight") if not config.predictions else ()),
            *(name for name in _OPTIONAL if not getattr(config, name)),
        },
    )
    appearance = settings["augmentation"]["appearance"]
    for name in _LATER_APPEARANCE:
        if appearance[name] == AppearanceConfig.model_fields[name].default:
            del appearance[name]
    for own in (settings["plan_2d"], settings["plan_3d"], *settings["plan"].values()):
        for name in ("patch_voxels", "batch_voxels", "largest_only"):
            del own[name]  # what they choose stands in the plans
    for plan in info.tasks:
        wanted = config.plan.get(plan.task)
        if wanted is not None and wanted.patch_voxels is not None:
            # as where a resumed run fixes what was chosen
            settings["plan"][plan.task] |= {"patch": list(plan.patch), "batch": plan.batch}
    cases = [[case.run_key for case in (*task.train, *task.validation)] for task in tasks]
    # statistics follow from the cases, which are hashed
    plans = [plan.model_dump(mode="json", exclude={"statistics"} | unsaid_before(plan)) for plan in info.tasks]
    content = {
        "settings": with_former_names(settings),
        "config": info.config.model_dump(mode="json"),
        "plans": [with_former_names(plan) for plan in plans],
        "cases": cases,
        **({} if start is None else {"start": start.identity}),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()
