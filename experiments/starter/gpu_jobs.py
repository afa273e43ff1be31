"""The trainings that run side by side on a borrowed GPU: which, on which cases, and the processes that run them.

A network of this size keeps a large GPU busy for a fraction of the time, so nine train at once. The starter's own run
is the first; two others ask whether a larger batch or a wider network would have been better (chosen on validation
cases); then the recipe without one source, with and without presets and absence (`sources.py`), and the single-task
networks.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import run
import sources
from pydantic import BaseModel, ConfigDict

from meduniseg_core.errors import CancelledError
from meduniseg_core.events import CancelToken, Event, Progress
from meduniseg_core.files import write_text
from meduniseg_core.training import PlanSettings, TrainingConfig, train
from meduniseg_core.training.prepare import Prepared, PreparedTask, prepare
from meduniseg_core.weights import ModelInfo, load_model, save_model
from meduniseg_core.weights.registry import SHIPPED

ROOT = Path(__file__).resolve().parents[2]
WIDE = (32, 32, 64, 128, 192, 192)
SPREAD = ("left_atrium", "brain_tumour_t1c", "fetal_head", "teeth_panoramic")
"""Tasks whose single-task networks are trained with three seeds."""
LOG = logging.getLogger("gpu")


class Job(BaseModel):
    """One training: its configuration, and by task the names of its training and validation cases."""

    model_config = ConfigDict(extra="forbid")

    name: str
    config: TrainingConfig
    info: ModelInfo
    config_hash: str
    cases: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]


class Jobs(BaseModel):
    """All trainings, the most wanted first."""

    jobs: tuple[Job, ...]


def jobs_here(config: TrainingConfig, now: Path) -> Jobs:
    """Prepare every training on the machine that has the images.

    Args:
        config: the starter's.
        now: its network at the last checkpoint, which the run with the larger batch starts from.

    Returns:
        The trainings.
    """
    wanted = {"starter": config, "starter-batch": larger_batch(config, now), "starter-wide": wider(config)}
    for fold in sources.FOLDS:
        for arm in ("presets+absence", "plain"):
            own = sources.at_the_starters_budget(arm, fold)
            wanted[own.name] = own
    seeds = [*run.baselines((), (1,)), *run.baselines(SPREAD, (2, 3))]
    wanted |= {own.name: own for own in seeds}
    return Jobs(jobs=tuple(_job(name, own) for name, own in wanted.items()))


def larger_batch(config: TrainingConfig, now: Path) -> TrainingConfig:
    """The rest of the starter's training with four times the batch, from its weights at the last checkpoint."""
    plans = {task: plan.model_copy(update={"batch": 4 * (plan.batch or 2)}) for task, plan in config.plan.items()}
    return config.model_copy(
        update={
            "output": config.output.parent / "starters" / "batch",
            "pretrained_weights": str(now),
            "epochs": 12,
            "validation_every": 12,
            "plan_2d": config.plan_2d.model_copy(update={"batch": 8}),
            "plan_3d": config.plan_3d.model_copy(update={"batch": 8}),
            "plan": plans,
        }
    )


def wider(config: TrainingConfig) -> TrainingConfig:
    """Twice the width at the finest stages, from random weights, with a larger batch."""

    def batch(plan: PlanSettings) -> PlanSettings:
        return plan.model_copy(update={"batch": 2 * (plan.batch or 2)})

    return config.model_copy(
        update={
            "output": config.output.parent / "starters" / "wide",
            "pretrained_weights": None,
            "network": config.network.model_copy(update={"features": WIDE}),
            "epochs": 20,
            "validation_every": 20,
            "plan_2d": config.plan_2d.model_copy(update={"batch": 8}),
            "plan_3d": config.plan_3d.model_copy(update={"batch": 4}),
            "plan": {task: batch(plan) for task, plan in config.plan.items()},
        }
    )


def _job(name: str, config: TrainingConfig) -> Job:
    prepared = prepare(config)
    cases = {
        task.plan.task: (tuple(c.case for c in task.train), tuple(c.case for c in task.validation))
        for task in prepared.tasks
    }
    return Job(name=name, config=config, info=prepared.info, config_hash=prepared.config_hash, cases=cases)


def run_jobs(
    jobs: Jobs,
    prepared: Prepared,
    folder: Path,
    *,
    minutes: float,
    device: str,
    slots: int,
    before: Callable[[Job, TrainingConfig, Prepared], bool],
) -> None:
    """Run trainings side by side until all have ended or the time is over; every one has a log and a folder.

    Args:
        jobs: the trainings.
        prepared: the unpacked images.
        folder: where they write; finished models go to ``done`` in it.
        minutes: the time.
        device: where they run.
        slots: how many at a time.
        before: called in the training's process; True where it left a checkpoint to resume from.
    """
    end = time.monotonic() + 60 * minutes
    context = multiprocessing.get_context("fork")  # nothing is imported or unpacked twice; CUDA begins in the children
    waiting, running = list(jobs.jobs), {}
    (folder / "done").mkdir(parents=True, exist_ok=True)
    while waiting or running:
        for name, process in list(running.items()):
            if not process.is_alive():
                LOG.info("%s ended (%s)", name, process.exitcode)
                del running[name]
        while waiting and len(running) < slots and time.monotonic() < end:
            job = waiting.pop(0)
            process = context.Process(target=_one, args=(job, prepared, folder, end, device, before))
            process.start()
            running[job.name] = process
        if time.monotonic() > end:
            waiting = []
        time.sleep(0.3)
    write_text(folder / "ended", "")


def _one(
    job: Job,
    prepared: Prepared,
    folder: Path,
    end: float,
    device: str,
    before: Callable[[Job, TrainingConfig, Prepared], bool],
) -> None:
    log = os.open(folder / f"{job.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    first = job.name.startswith("starter")
    weights = job.config.pretrained_weights
    if weights is not None:
        carried = ROOT / "runs" / "gpu" / Path(weights).name
        weights = str(carried if carried.is_file() else SHIPPED / "starter.safetensors")
    config = job.config.model_copy(
        update={
            "output": folder / job.name,
            "pretrained_weights": weights,
            "device": device,
            "workers": 3 if first else 1,
            "threads": 1,
        }
    )
    config.output.mkdir(parents=True, exist_ok=True)
    own = _chosen(job, prepared)
    resume = before(job, config, own)
    token = CancelToken()
    timer = threading.Timer(max(1.0, end - time.monotonic()), token.cancel)
    timer.daemon = True
    timer.start()
    try:
        result = train(config, resume=resume, prepared=own, events=_Log(), cancel=token)
    except CancelledError:
        LOG.info("stopped: the time is over")
        return
    finally:
        timer.cancel()
    model = load_model(result.model)
    save_model(folder / "done" / f"{job.name}.safetensors", model.info, model.network.state_dict(), "fp16")
    LOG.info("finished in %.0f s", result.seconds)


def _chosen(job: Job, prepared: Prepared) -> Prepared:
    """A training's own cases among the unpacked ones."""
    known = {task.plan.task: {c.case: c for c in (*task.train, *task.validation)} for task in prepared.tasks}
    tasks = []
    for plan in job.info.tasks:
        learn, check = job.cases[plan.task]
        by_name = known[plan.task]
        tasks.append(PreparedTask(plan, tuple(by_name[c] for c in learn), tuple(by_name[c] for c in check)))
    return Prepared(info=job.info, tasks=tuple(tasks), config_hash=job.config_hash)


class _Log:
    """Metrics, messages and every ten seconds the progress."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Progress):
            run.log_event(event)
        elif time.monotonic() > self._next:
            self._next = time.monotonic() + 10
            LOG.info("%d of %d after %.0f s, %s", event.done, event.total, event.seconds, event.detail)
