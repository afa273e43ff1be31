"""Fine-tuning of a model on one data set or ledger of corrections (docs/spec.md section 7)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from meduniseg_core.adaptation.transfer import Downstream
from meduniseg_core.corrections.ledger import Ledger
from meduniseg_core.errors import UsageError
from meduniseg_core.events import CancelToken, EventSink, ignore
from meduniseg_core.inference.memory import free_bytes
from meduniseg_core.model import resolve_device
from meduniseg_core.preprocessing import RawDataset, TaskPlan, load_plans, object_scale
from meduniseg_core.training import NetworkSettings, PlanSettings, TrainingConfig, TrainingResult, train
from meduniseg_core.training.memory import fitting, fitting_voxels
from meduniseg_core.training.prepare import PLANS_FILE, SPLIT_FILE
from meduniseg_core.training.split import Split, read_splits, write_splits
from meduniseg_core.validation import first_fault
from meduniseg_core.weights import Model

EPOCH = 50
DATA = "data"
ITERATIONS = 25_000
"""The paper's number (100,000 for SIIM)."""

SHORT_BELOW = 5_000
SHORT: Mapping[str, object] = {"momentum": 0.9, "learning_rate": 0.1, "batch_dice": True}
"""For short trainings: momentum 0.99 needs a hundred iterations to gain speed. Rate / (1 - momentum) is the paper's."""

_HEADS = "*.head.*"
KNOWN_CLASSES: tuple[tuple[str, float], ...] = ((_HEADS, 1), ("*", 0.1))
"""Factors on the learning rate, for a short training from a base that knows one of the classes in images of this
modality and dimension. At the full rate it forgets within a hundred iterations on a few images: the network is then
right on these images and wrong on those of other patients."""

WARM_UP = 50
"""Iterations over which the rate of all but the heads warms up, for a short training from a base that has learnt other
classes in such images: the first steps of new, untrained heads would damage what it has learnt. A base that has never
seen such images has to relearn everything, so there the rate is full from the start (experiments/transfer)."""

SMALLEST_OBJECT = 12
"""Diameter in pixels. Of smaller objects the network's deeper levels see no shape."""

QUICK_ITERATIONS = 300
QUICK: Mapping[str, object] = {
    "rate_shares": (),
    "rate_warm_ups": (),
    "learning_rate": 0.005,  # at twice that, training on a handful of cases makes the network worse on others
    "correction_oversampling": 0.5,
    "correction_weight": 2.0,  # 3 learns the corrections sooner, at the cost of what was right before
}
"""What quick adaptation changes in other short trainings: it concentrates on what the annotator corrected."""


def finetune(
    dataset: Path,
    base: Model,
    config: TrainingConfig,
    *,
    modality: str | None = None,
    resume: bool = False,
    finish: bool = False,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> TrainingResult:
    """Fine-tune ``base`` on a data set; the model file is written into the configuration's output folder.

    Args:
        dataset: a folder in nnU-Net's raw layout, or a ledger of corrections.
        base: the model to start from.
        config: the training, see :func:`finetune_config`.
        modality: the base's modal prompt to start from; by default that of the data's modality.
        resume: resume from the last checkpoint.
        finish: turn the best checkpoint of a stopped run into the model without training further.
        events: receives the progress.
        cancel: stops the training at the next safe point.

    Returns:
        The model file and the figures of the training.

    Raises:
        UsageError: the base does not fit the data.
        BadInputError: the data or a checkpoint cannot be read.
        NonFiniteLossError: the loss became NaN or infinite.
        CancelledError: ``cancel`` was set.
    """
    start = Downstream(base, modality)
    data = frozen([dataset], config.output)
    changes: dict[str, object] = {"datasets": data}
    if config.predictions:
        changes["predictions"] = Ledger.open(data[0]).predictions()
    return train(
        config.model_copy(update=changes),
        resume=resume,
        finish=finish,
        start=start,
        events=events,
        cancel=cancel,
    )


def finetune_config(
    dataset: Path,
    base: Model,
    name: str,
    folder: Path,
    *,
    iterations: int | None = None,
    quick: bool = False,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    overrides: Mapping[str, object] | None = None,
) -> TrainingConfig:
    """The configuration of a fine-tuning (docs/spec.md section 7).

    Learning rate 0.01, momentum 0.99, polynomial decay; patch, batch and image size are those of the base's own tasks,
    but images with small objects are scaled down less. Below 5,000 iterations the rate is 0.1 and the momentum 0.9, and
    features the base has learnt from such images change more slowly (see ``KNOWN_CLASSES`` and ``WARM_UP``). Patch and
    batch shrink where the device's memory is too small for them; a run that has begun keeps its own.

    Args:
        dataset: a folder in nnU-Net's raw layout, or a ledger of corrections.
        base: the model to start from.
        name: the name of the new model.
        folder: the folder for the run and its cache.
        iterations: rounded up to whole epochs of 50; by default 25,000, or 300 if ``quick``.
        quick: adapt to a handful of corrected cases within minutes: voxels that annotators changed are sampled more
            often and weigh more in the loss.
        seed: seed of the training.
        device: device to train on.
        precision: precision to train in.
        overrides: values for other fields of :class:`TrainingConfig`.

    Returns:
        The configuration.

    Raises:
        UsageError: a value that no training can have, or ``base`` is not a universal model.
        BadInputError: the data set cannot be read.
    """
    network = base.info.meduniseg_config
    raw = RawDataset.open(dataset)
    if iterations is None:
        iterations = QUICK_ITERATIONS if quick else ITERATIONS
    epochs = max(1, math.ceil(iterations / EPOCH))
    fields: dict[str, object] = {
        "name": name,
        "title": f"{raw.task}, fine-tuned from {base.info.title or base.info.name}",
        "licence": base.info.licence,
        "datasets": (dataset,),
        "output": folder / "run",
        "cache": folder / "cache",
        "network": NetworkSettings(
            features=network.features,
            strides=network.strides,
            modal_prompt_length=network.modal_prompt_length,
        ),
        "plan": {raw.task: _that_fits(_planned_like(base, raw), base, folder / "run", device)},
        "epochs": epochs,
        "iterations_per_dataset": EPOCH,
        "learning_rate": 0.01,
        "validation_every": max(1, epochs // 10),
        "seed": seed,
        "device": device,
        "precision": precision,
    }
    if iterations < SHORT_BELOW:
        fields |= SHORT
        fields |= _keeping(base, raw, epochs * EPOCH)
    if quick:
        predictions = Ledger.open(dataset).predictions() if Ledger.is_at(dataset) else {}
        fields |= {**QUICK, "predictions": predictions}
    try:
        return TrainingConfig.model_validate({**fields, **(overrides or {})})
    except ValidationError as error:
        raise UsageError(f"The fine-tuning is not possible: {first_fault(error)}; give another value.") from None


def frozen(datasets: Sequence[Path], output: Path) -> tuple[Path, ...]:
    """The data sets of a run, each ledger replaced by a snapshot of it from when the run began (``output/data``).

    The run can then be resumed whatever is accepted into the ledger meanwhile. A ledger has already divided its cases
    into training and validation, so its split becomes the run's split for its task. Other tasks in the run's split file
    keep theirs.

    Args:
        datasets: folders in nnU-Net's raw layout or ledgers.
        output: the run's output folder.

    Returns:
        The folders to train on, in the order of ``datasets``.

    Raises:
        BadInputError: a ledger or the split file is damaged.
    """
    path = output / SPLIT_FILE
    splits = read_splits(path) if path.is_file() else {}
    found = []
    for folder in datasets:
        if not Ledger.is_at(folder):
            found.append(folder)
            continue
        ledger = Ledger.open(folder)
        (output / DATA).mkdir(parents=True, exist_ok=True)
        ledger = ledger.snapshot(output / DATA / ledger.task)
        found.append(ledger.folder)
        split = sorted(ledger.split().items())
        splits[ledger.task] = Split(
            train=tuple(case for case, subset in split if subset == "training"),
            validation=tuple(case for case, subset in split if subset == "validation"),
        )
    if splits:
        write_splits(path, splits)
    return tuple(found)


def data_of(dataset: Path, task: str, output: Path) -> Path:
    """Where a run finds a task's data: in its snapshot if there is one, else in the data set itself.

    Args:
        dataset: the data set's folder.
        task: its task.
        output: the run's output folder.

    Returns:
        The folder.
    """
    snapshot = output / DATA / task
    return snapshot if Ledger.is_at(snapshot) else dataset


def _planned_like(base: Model, raw: RawDataset) -> PlanSettings:
    """Preprocessing that suits the base's features.

    That of the base's task of the same name, with its window for CT in HU and its classes in one piece; else the image
    size of its task of the same modality and the largest patch of all its tasks, for images of that one task may have
    been small. Of volumes only the patch's number of voxels is taken, its shape follows theirs: eight slices of a heart
    fill a sixth of a patch that was made for a head.
    """
    plans = [plan for plan in base.info.tasks if plan.dimension == raw.dimension]
    if not plans:
        return PlanSettings()
    same = next((plan for plan in plans if plan.task == raw.task), None)
    if same is not None:
        return PlanSettings(
            patch=same.patch,
            batch=same.batch,
            spacing=same.spacing,
            longest_side=same.longest_side,
            hu_window=same.hu_window,
            largest_only=tuple(name for name in same.largest_only if name in raw.classes),
        )
    largest = max(plans, key=lambda plan: math.prod(plan.patch))
    if raw.dimension == 3:
        voxels = math.prod(largest.patch)
        return PlanSettings(patch_voxels=voxels, batch_voxels=voxels * largest.batch)
    alike = next((plan for plan in plans if plan.modality == raw.modality), plans[0])
    return PlanSettings(patch=largest.patch, batch=largest.batch, longest_side=_longest_side(alike, raw))


def _longest_side(known: TaskPlan, raw: RawDataset) -> int | None:
    """The longest side of ``known``, or what the data set's objects need to be told apart, as far as its images have
    it."""
    if known.longest_side is None:
        return None
    objects = object_scale(raw)
    if objects is None:
        return known.longest_side
    needed = 32 * math.ceil(SMALLEST_OBJECT / objects.diameter / 32)
    return max(known.longest_side, min(needed, objects.longest_side))


def _keeping(base: Model, raw: RawDataset, iterations: int) -> dict[str, object]:
    """The configuration's fields that preserve what the base knows about this data set."""
    alike = [plan for plan in base.info.tasks if (plan.modality, plan.dimension) == (raw.modality, raw.dimension)]
    if any(set(plan.classes) & set(raw.classes) for plan in alike):
        return {"rate_shares": KNOWN_CLASSES}
    return {"rate_warm_ups": warm_up(iterations)} if alike else {}


def warm_up(iterations: int) -> tuple[tuple[str, int], ...]:
    """Warm-up lengths of the learning rate for a short fine-tuning: all but the heads warm up.

    Args:
        iterations: of the whole training.

    Returns:
        Pairs of a parameter-name pattern and iterations: none for the heads, for all others ``WARM_UP`` or a third of a
        shorter training.
    """
    return ((_HEADS, 0), ("*", min(WARM_UP, iterations // 3)))


def _that_fits(wanted: PlanSettings, base: Model, output: Path, device: str) -> PlanSettings:
    """``wanted`` with a patch and batch that fit into the device's memory; a run that has begun keeps its own."""
    if wanted == PlanSettings():
        return wanted
    if (output / PLANS_FILE).is_file():
        begun = load_plans(output / PLANS_FILE)[0]
        kept = begun.model_dump(include={"patch", "batch", "longest_side", "hu_window", "largest_only"})
        return wanted.model_copy(update={**kept, "patch_voxels": None, "batch_voxels": None})
    config, free = base.info.config, free_bytes(resolve_device(device))
    if wanted.patch_voxels is not None and wanted.batch_voxels is not None:
        together = fitting_voxels(wanted.batch_voxels, config.features[0], free)
        return wanted.model_copy(update={"patch_voxels": min(wanted.patch_voxels, together), "batch_voxels": together})
    assert wanted.patch is not None and wanted.batch is not None
    patch, batch = fitting(wanted.patch, wanted.batch, config.features[0], config.total_stride, free)
    return wanted.model_copy(update={"patch": patch, "batch": batch})
