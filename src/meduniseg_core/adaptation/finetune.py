"""Fine-tuning on one data set, the ledger of corrections included (docs/spec.md section 7)."""

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
from meduniseg_core.training.memory import fitting
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
"""For few iterations: momentum 0.99 needs a hundred to gain speed. Rate / (1 - momentum) is the paper's."""

_HEADS = "*.head.*"
KNOWN_CLASSES: tuple[tuple[str, float], ...] = ((_HEADS, 1), ("*", 0.1))
"""Shares of the rate for few iterations from a base that knows one of the classes in images of this modality and
dimension. At the full rate what it knows is gone after a hundred iterations on a few images: the network is right on
these and lost on another patient's."""

WARM_UP = 50
"""Iterations within which all but the heads come to their rate, for few iterations from a base that has learnt other
classes in such images: the first steps of new heads, which know nothing yet, are not to shake what it has learnt. A
base that has never seen such images has to learn all anew, and at once (experiments/transfer)."""

SMALLEST_OBJECT = 12
"""Pixels. Smaller objects have no shape left where the network looks at more than their edges."""

QUICK_ITERATIONS = 300
QUICK: Mapping[str, object] = {
    "rate_shares": (),
    "rate_warm_ups": (),
    "learning_rate": 0.005,  # at twice that a handful of cases makes the network worse at others
    "correction_oversampling": 0.5,
    "correction_weight": 2.0,  # 3 fixes what was corrected sooner, at the cost of what was right
}
"""What quick adapt does differently from other short trainings: most of it happens where the annotator corrected."""


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
    """Fine-tune ``base`` on ``dataset`` as ``config`` (see :func:`finetune_config`) says; a model file in its output.

    ``finish`` ends a run that was stopped: its best checkpoint becomes the model.

    Raises what :func:`meduniseg_core.training.train` raises, and UsageError where the base does not fit the data.
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
    """The recipe for this data set: rate 0.01 and momentum 0.99, polynomial decay, and patch, batch and size of the
    base's own tasks; images with small objects are scaled down less. Below 5,000 iterations the rate is 0.1, the
    momentum 0.9, and what the base knows of such images is spared (see ``KNOWN_CLASSES`` and ``WARM_UP``).

    Batch and patch are made smaller where the device's memory is too small for them (a run that was begun keeps its
    own). ``iterations`` are rounded up to whole epochs of 50; by default 25,000. ``quick`` adapts to a handful of
    corrected cases within minutes: 300 iterations by default, in which what a ledger's annotators changed is sampled
    more often and weighted more. ``folder`` takes the run and the cache. ``overrides`` are fields of
    :class:`TrainingConfig`. UsageError for values that no training can have.
    """
    network = base.info.universal_config
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
        raise UsageError(f"A fine-tuning cannot be done so: {first_fault(error)}; give another value.") from None


def frozen(datasets: Sequence[Path], output: Path) -> tuple[Path, ...]:
    """The data sets of the run in ``output``: of a ledger a snapshot in ``output/data``, taken when the run began.

    So a run can be resumed whatever is accepted meanwhile. A ledger has decided once for all which of its cases are
    training: the run's split of its task is the ledger's. Other tasks in the run's split file keep theirs.
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
    """Where the run in ``output`` has its data of a task: its snapshot, or the data set itself."""
    snapshot = output / DATA / task
    return snapshot if Ledger.is_at(snapshot) else dataset


def _planned_like(base: Model, raw: RawDataset) -> PlanSettings:
    """Preprocessing that the base's features know: that of its task of the same name; else the size in pixels of its
    task of the same kind, and the largest patch of all, for its own task's images may have been small."""
    plans = [plan for plan in base.info.tasks if plan.dimension == raw.dimension]
    if not plans:
        return PlanSettings()
    same = [plan for plan in plans if plan.task == raw.task]
    alike = [plan for plan in plans if plan.modality == raw.modality]
    sized = max(same or plans, key=lambda plan: math.prod(plan.patch))
    return PlanSettings(
        patch=sized.patch,
        batch=sized.batch,
        spacing=same[0].spacing if same else None,
        longest_side=same[0].longest_side if same else _longest_side((alike or plans)[0], raw),
    )


def _longest_side(known: TaskPlan, raw: RawDataset) -> int | None:
    """That of ``known``, or what the data set's objects need to be told apart, as far as its images have it."""
    if known.longest_side is None:
        return None
    objects = object_scale(raw)
    if objects is None:
        return known.longest_side
    needed = 32 * math.ceil(SMALLEST_OBJECT / objects.diameter / 32)
    return max(known.longest_side, min(needed, objects.longest_side))


def _keeping(base: Model, raw: RawDataset, iterations: int) -> dict[str, object]:
    """How the rates spare what the base knows of this data set."""
    alike = [plan for plan in base.info.tasks if (plan.modality, plan.dimension) == (raw.modality, raw.dimension)]
    if any(set(plan.classes) & set(raw.classes) for plan in alike):
        return {"rate_shares": KNOWN_CLASSES}
    return {"rate_warm_ups": warm_up(iterations)} if alike else {}


def warm_up(iterations: int) -> tuple[tuple[str, int], ...]:
    """Of all but the heads: ``WARM_UP`` iterations, a third of a run that is shorter than three times that."""
    return ((_HEADS, 0), ("*", min(WARM_UP, iterations // 3)))


def _that_fits(wanted: PlanSettings, base: Model, output: Path, device: str) -> PlanSettings:
    """``wanted`` with a patch and batch that fit the memory at hand; those of a run that was begun stay."""
    if wanted.patch is None or wanted.batch is None:
        return wanted
    if (output / PLANS_FILE).is_file():
        begun = load_plans(output / PLANS_FILE)[0]
        kept = {"patch": begun.patch, "batch": begun.batch, "longest_side": begun.longest_side}
        return wanted.model_copy(update=kept)
    config, free = base.info.config, free_bytes(resolve_device(device))
    patch, batch = fitting(wanted.patch, wanted.batch, config.features[0], config.total_stride, free)
    return wanted.model_copy(update={"patch": patch, "batch": batch})
