"""Universal training: nnU-Net's recipe over many tasks, one task per batch (docs/spec.md section 6)."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn

from meduniseg_core.errors import BadInputError, CancelledError, NonFiniteLossError
from meduniseg_core.events import CancelToken, EventSink, Message, Metric, Progress, ignore
from meduniseg_core.files import remove_leftovers
from meduniseg_core.inference.engine import Engine
from meduniseg_core.inference.memory import out_of_memory_means
from meduniseg_core.model import MedUniSeg, autocast, build_model, resolve_device, resolve_precision
from meduniseg_core.training.averaging import averaged, update_average
from meduniseg_core.training.batches import Batch, BatchSource, TaskData, batches_from
from meduniseg_core.training.checkpoint import BEST, LAST, RunState, load_checkpoint, newest_checkpoint, save_checkpoint
from meduniseg_core.training.config import TrainingConfig
from meduniseg_core.training.log import RunLog
from meduniseg_core.training.losses import deep_supervision_loss, deep_supervision_weights
from meduniseg_core.training.optimizer import make_optimizer, set_rates
from meduniseg_core.training.prepare import Prepared, prepare
from meduniseg_core.training.pretrained import start_of
from meduniseg_core.training.start import Start
from meduniseg_core.training.validation import validate
from meduniseg_core.weights import save_model

_REMEDY = "close other programs or make patch, batch or workers smaller"


@dataclass(frozen=True)
class TrainingResult:
    """The result of a run: model or pack file, epochs, best mean validation Dice (None without validation)."""

    model: Path
    epochs: int
    best_dice: float | None
    best_epoch: int
    seconds: float
    stopped_early: bool


def train(
    config: TrainingConfig,
    *,
    resume: bool = False,
    finish: bool = False,
    start: Start | None = None,
    prepared: Prepared | None = None,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> TrainingResult:
    """Train a network and write ``output/NAME.safetensors``; checkpoints, log and split are in ``output``, too.

    On the CPU the result of a resumed run is bit for bit that of an uninterrupted one.

    Args:
        config: the configuration.
        resume: resume from the last checkpoint.
        finish: do not train further: the best checkpoint of a stopped run (the last one if none was validated yet)
            becomes the model.
        start: the weights to start from; None for those of ``config.pretrained_weights``, or random ones.
        prepared: a packed run to train on instead of the data sets (see `packed`); None preprocesses the data sets.
        events: receives progress and metrics.
        cancel: stops the run within one iteration; a checkpoint is written first.

    Returns:
        The model file and the figures of the training.

    Raises:
        BadInputError: the data or the configuration cannot be used, there is nothing to resume from, or another process
            trains in ``output``.
        OutOfMemoryError: memory ran out; the last checkpoint is kept.
        NonFiniteLossError: the loss became NaN or infinite; the message names the cases.
        CancelledError: ``cancel`` was set.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(config.output / ".lock", timeout=0), out_of_memory_means(_REMEDY, "train"):
            remove_leftovers(config.output)  # of a process killed while it wrote a checkpoint
            return Trainer(config, events, cancel, start, prepared).run(resume, finish)
    except Timeout as error:
        raise BadInputError(
            f"{config.output}: another process trains there; wait for it or choose another output folder."
        ) from error


class Trainer:
    """One training run, as :func:`train` sets it up."""

    def __init__(
        self,
        config: TrainingConfig,
        events: EventSink,
        cancel: CancelToken | None,
        start: Start | None = None,
        prepared: Prepared | None = None,
    ) -> None:
        self._config, self._events, self._cancel = config, events, cancel
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self._device = resolve_device(config.device)
        self._dtype = resolve_precision(config.precision, self._device)
        start = start or start_of(config)
        if prepared is None:
            prepared = prepare(config, start=start, events=events, cancel=cancel)
        self._prepared: Prepared = prepared
        torch.manual_seed(config.seed)
        network = build_model(self._prepared.info.universal_config)
        if start is not None:
            start.load(network, self._prepared.info)
        self._start = start
        self._network: MedUniSeg = network.to(self._device)
        self._learner: nn.Module = network if start is None else start.learner(network)
        self._learner.to(self._device)
        if self._device.type == "cuda":
            # on the CPU the training step of plain layouts is the faster one
            self._network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._optimizer = make_optimizer(config, self._learner)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._dtype == torch.float16)
        self._state = RunState(config_hash=self._prepared.config_hash)
        self._log = RunLog(config.output)
        self._info = self._prepared.info

    def run(self, resume: bool, finish: bool = False) -> TrainingResult:
        """Train to the end or to an early stop.

        Args:
            resume: resume from the newest checkpoint.
            finish: turn the newest checkpoint into the model instead.

        Returns:
            The model file and the figures of the training.

        Raises:
            BadInputError: there is no checkpoint to resume from, or it is damaged.
            NonFiniteLossError: the loss became NaN or infinite.
            CancelledError: the run was cancelled; a checkpoint has been written.
        """
        config, state = self._config, self._state
        if resume or finish:
            # with checkpoints further apart than validations the best may stand further than the last: what it says of
            # the best epoch is true of it alone
            newest = newest_checkpoint(config.output, self._prepared.config_hash)
            state = self._state = load_checkpoint(newest, self._learner, self._optimizer, self._prepared.config_hash)
            self._events(Message("info", f"Resuming after epoch {state.epoch} of {config.epochs}."))
        self._log.restart(state.epoch)
        if finish:
            return self._export(state.epoch < config.epochs)
        source = BatchSource(
            [TaskData(task.plan, task.train) for task in self._prepared.tasks],
            config.iterations_per_dataset,
            config.total_iterations,
            config.seed,
            config.foreground_oversampling,
            config.augmentation,
            config.correction_oversampling,
            config.absence,
            config.task_shares,
        )
        batches = batches_from(source, state.iteration, config.workers, pin=self._device.type == "cuda")
        before, began, first = state.seconds, time.monotonic(), state.iteration
        stopped_early = False
        while state.epoch < config.epochs and not stopped_early:
            losses: dict[int, list[float]] = defaultdict(list, {task: list(of) for task, of in state.losses.items()})
            try:
                while state.iteration < (state.epoch + 1) * config.iterations_per_epoch:
                    if self._cancel is not None:
                        self._cancel.raise_if_cancelled()
                    batch = next(batches)
                    losses[batch.task].append(self._step(batch))
                    state.iteration += 1
                    self._report(first, time.monotonic() - began, losses)
                state.seconds = before + time.monotonic() - began
                stopped_early = self._finish_epoch(losses)
            except CancelledError:
                self._pause(losses, before + time.monotonic() - began)
                raise
        return self._export(stopped_early)

    def _pause(self, losses: dict[int, list[float]], seconds: float) -> None:
        """Save what was trained within an epoch, or before its validation was interrupted: a pause loses nothing."""
        if self._state.iteration:
            kept = self._state.model_copy(update={"seconds": seconds, "losses": dict(losses)})
            save_checkpoint(self._config.output / LAST, self._learner, self._optimizer, kept)

    def _step(self, batch: Batch) -> float:
        config, plan = self._config, self._prepared.tasks[batch.task].plan
        set_rates(self._optimizer, config, self._state.iteration)
        images = batch.images.to(self._device, non_blocking=True)
        labels = batch.labels.to(self._device, non_blocking=True)
        size = len(images)
        task = torch.full((size,), self._info.task_index(plan.task), device=self._device)
        modality = torch.full((size,), self._info.modality_index(plan.modality), device=self._device)
        # the coarsest level has weight 0: its head is not run
        levels = max(1, self._network.levels - 1)
        weights = deep_supervision_weights(self._network.levels)[:levels]
        self._network.train()
        with autocast(self._device, self._dtype):
            outputs = self._network(images, task, modality, levels=levels)
        loss = deep_supervision_loss(
            outputs,
            labels,
            plan.class_count,
            weights=weights,
            batch_dice=config.batch_dice,
            voxel_weights=self._voxel_weights(batch),
        )
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._optimizer)
        length = nn.utils.clip_grad_norm_(self._learner.parameters(), config.gradient_clip)
        # a GPU is waited for once in a step
        value, norm = (float(number) for number in torch.stack([loss.detach(), length.detach()]).tolist())
        if not np.isfinite(value):
            raise NonFiniteLossError(self._diverged("loss", value, batch))
        if not np.isfinite(norm) and not self._scaler.is_enabled():  # a scaler passes over such a step by itself
            raise NonFiniteLossError(self._diverged("gradient", norm, batch))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if config.average_decay is not None:
            update_average(self._optimizer, config.average_decay, self._state.iteration)
        return value

    def _diverged(self, what: str, value: float, batch: Batch) -> str:
        return (
            f"The {what} became {value} in iteration {self._state.iteration} on task "
            f"{self._prepared.tasks[batch.task].plan.task}, cases {', '.join(batch.cases)}; look at these images, or "
            "lower the learning rate, and --resume."
        )

    def _voxel_weights(self, batch: Batch) -> torch.Tensor | None:
        extra = self._config.correction_weight - 1
        weights = None if batch.changed is None or extra == 0 else 1 + extra * batch.changed
        if batch.looked_at is not None:
            weights = batch.looked_at if weights is None else weights * batch.looked_at
        return None if weights is None else weights.to(self._device, non_blocking=True)

    def _report(self, first: int, seconds: float, losses: dict[int, list[float]]) -> None:
        state, config = self._state, self._config
        recent = float(np.mean([values[-1] for values in losses.values()]))
        detail = f"epoch {state.epoch + 1}/{config.epochs}, loss {recent:.3f}"
        self._events(Progress("train", state.iteration - first, config.total_iterations - first, seconds, detail))

    def _finish_epoch(self, losses: dict[int, list[float]]) -> bool:
        """Validate, log and save a checkpoint; returns whether to stop early."""
        config, state = self._config, self._state
        epoch = state.epoch + 1  # which it is only when its validation has come to an end
        names = [task.plan.task for task in self._prepared.tasks]
        means = {names[task]: float(np.mean(values)) for task, values in sorted(losses.items())}
        line: dict[str, Any] = {
            "epoch": state.epoch,
            "iteration": state.iteration,
            "loss": float(np.mean(list(means.values()))),
            "task_loss": means,
            "seconds": round(state.seconds, 1),
        }
        self._events(Metric("loss", line["loss"], state.iteration))
        better = False
        if epoch % config.validation_every == 0 or epoch == config.epochs:
            classes = self._validate()
            if classes:
                line["class_dice"] = classes
                line["dice"] = {task: float(np.mean(list(of.values()))) for task, of in classes.items()}
                line["mean_dice"] = mean = float(np.mean(list(line["dice"].values())))
                self._events(Metric("dice", mean, state.iteration))
                better = state.best_dice is None or mean > state.best_dice
                if better:
                    state.best_dice, state.best_epoch = mean, epoch
        state.epoch, state.losses = epoch, {}
        stop = (
            config.patience is not None
            and state.best_dice is not None
            and state.epoch - state.best_epoch >= config.patience
        )
        self._log.append(line)  # before the checkpoint: a resume takes back what is logged beyond it
        # the best one first: a kill between the two writes must not leave a state whose best is missing
        if better:
            save_checkpoint(config.output / BEST, self._learner, self._optimizer, state)
        if state.epoch % config.checkpoint_every == 0 or state.epoch == config.epochs or stop:
            save_checkpoint(config.output / LAST, self._learner, self._optimizer, state)
        return stop

    def _validate(self) -> dict[str, dict[str, float]]:
        """Mean Dice over the validation cases by task and class."""
        engine = Engine.borrowing(self._network.eval(), self._device, self._dtype)
        scores = {}
        for task in self._prepared.tasks:
            cases = task.validation[: self._config.validation_cases]
            if not cases:
                continue
            with averaged(self._optimizer):
                means = validate(engine, self._info, task.plan, cases, self._cancel).mean(axis=0)
            scores[task.plan.task] = dict(zip(task.plan.classes, means.tolist(), strict=True))
            self._events(Metric("dice", float(means.mean()), self._state.iteration, task.plan.task))
        return scores

    def _export(self, stopped_early: bool) -> TrainingResult:
        config, state = self._config, self._state
        if config.select == "best" and state.best_dice is not None and state.best_epoch != state.epoch:
            load_checkpoint(config.output / BEST, self._learner, self._optimizer, self._prepared.config_hash)
        selected = state.best_epoch if config.select == "best" and state.best_dice is not None else state.epoch
        provenance = {
            **self._info.provenance,
            "selected_epoch": selected,
            "validation_dice": state.best_dice if selected == state.best_epoch else None,
            "training_seconds": round(state.seconds, 1),
            "precision": str(self._dtype).removeprefix("torch."),
            "device": self._device.type,
        }
        path = config.output / f"{config.name}.safetensors"
        info = self._info.model_copy(update={"provenance": provenance})
        with averaged(self._optimizer):
            if self._start is None:
                save_model(path, info, self._learner.state_dict())
            else:
                self._start.save(path, info, self._learner)
        return TrainingResult(path, state.epoch, state.best_dice, state.best_epoch, state.seconds, stopped_early)
