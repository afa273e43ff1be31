"""How long a training will take: from former runs on this machine, else from the pace of one window of its base."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from meduniseg_core.adaptation.execution import training_config
from meduniseg_core.adaptation.jobs import FinetuneJob, Job
from meduniseg_core.adaptation.run import Run
from meduniseg_core.inference import Predictor
from meduniseg_core.training.config import TrainingConfig
from meduniseg_core.weights import Model, load_model

_SPREAD = 1.3
"""Beyond the slowest and the fastest former run: machines are busier at one time than at another."""

_STEP = 1.5, 6.0
"""Forward passes that a step of training is worth, at least and at most: forwards, backwards and augmentation without
the shortcuts that inference has, and what the machine does beside it."""

_SIMILAR = "kind", "base", "tasks", "device", "precision"


def expected_time(job: Job, former: Iterable[Run], folder: Path) -> tuple[float, float] | None:
    """Forecast the training of a job, without preparation of its cases and without the comparison. For a thread.

    Args:
        job: the job; nothing of it is started or written.
        former: runs of this machine.
        folder: where the run would be.

    Returns:
        The shortest and the longest time to expect, in seconds; None where nothing tells it.

    Raises:
        UsageError: the job cannot be done so.
        BadInputError: its data or its base cannot be read.
    """
    rates = [rate for run in former if _alike(run.job, job) and (rate := _seconds_of_a_step(run)) is not None]
    base = load_model(job.base)
    config = training_config(job, base, folder)
    steps = config.total_iterations
    if rates:
        return min(rates) / _SPREAD * steps, max(rates) * _SPREAD * steps
    forward = _seconds_forward(job, base, config)
    if forward is None:
        return None
    return _STEP[0] * forward * steps, _STEP[1] * forward * steps


def _alike(one: Job, other: Job) -> bool:
    """Whether the steps of two jobs take equally long: same base, tasks and device."""
    return all(getattr(one, name) == getattr(other, name) for name in _SIMILAR) and _is_quick(one) == _is_quick(other)


def _is_quick(job: Job) -> bool:
    return isinstance(job, FinetuneJob) and job.quick


def _seconds_of_a_step(run: Run) -> float | None:
    """The mean time of a step of a run that has ended an epoch at least."""
    log = run.log()
    if not log:
        return None
    seconds, steps = log[-1].get("seconds"), log[-1].get("iteration")
    if not isinstance(seconds, int | float) or not isinstance(steps, int) or min(seconds, steps) <= 0:
        return None
    return seconds / steps


def _seconds_forward(job: Job, base: Model, config: TrainingConfig) -> float | None:
    """What one forward pass of a step's samples takes, by the base's pace on a window of its most similar task."""
    sizes = [_step_size(task, base, config) for task in job.tasks]
    known = [size for size in sizes if size is not None]
    flat = all(dimension == 2 for _, dimension in known)
    tasks = [plan.task for plan in base.info.tasks if (plan.dimension == 2) == flat]
    if len(known) < len(sizes) or not tasks:
        return None
    predictor = Predictor(base, job.device, job.precision)
    predictor.measure_pace(next((task for task in job.tasks if task in tasks), tasks[0]))
    pace = predictor.seconds_per_voxel
    if pace is None:
        return None
    return pace * sum(voxels for voxels, _ in known) / len(known)


def _step_size(task: str, base: Model, config: TrainingConfig) -> tuple[int, int] | None:
    """Voxels of a step's patches and their dimension, where these are known before the data were looked at."""
    fixed = config.plan.get(task)
    if fixed is not None and fixed.batch_voxels is not None:
        return fixed.batch_voxels, 3  # fine-tuning plans only volumes so (`finetune._planned_like`)
    if fixed is not None and fixed.patch is not None and fixed.batch is not None:
        return math.prod(fixed.patch) * fixed.batch, 2 if fixed.patch[0] == 1 else 3
    known = [plan for plan in base.info.tasks if plan.task == task]
    return (math.prod(known[0].patch) * known[0].batch, known[0].dimension) if known else None
