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

from meduniseg_core.errors import BadInputError, CancelledError, LostProcessError
from meduniseg_core.events import CancelToken, EventSink, Message, Metric, Progress, ignore
from meduniseg_core.files import remove_leftovers
from meduniseg_core.inference.engine import Engine
from meduniseg_core.inference.memory import out_of_memory_means
from meduniseg_core.model import UniversalNetwork, build_model, resolve_precision
from meduniseg_core.model.unet import Recomputed
from meduniseg_core.training.averaging import averaged
from meduniseg_core.training.batches import BatchSource, TaskData, batches_from
from meduniseg_core.training.checkpoint import BEST, LAST, RunState, load_checkpoint, newest_checkpoint, save_checkpoint
from meduniseg_core.training.config import TrainingConfig
from meduniseg_core.training.curves import write_curves
from meduniseg_core.training.devices import device_of
from meduniseg_core.training.group import ALONE, Group, asked_to_stop, raise_if_asked
from meduniseg_core.training.log import RunLog, gradient_figures, loss_figures
from meduniseg_core.training.prepare import Prepared, prepare
from meduniseg_core.training.pretrained import start_of
from meduniseg_core.training.shared_preparation import read_preparation, write_preparation
from meduniseg_core.training.standing import CONFIG_HASH, model_path, move_former_run, standing_of
from meduniseg_core.training.start import Start
from meduniseg_core.training.step import Step
from meduniseg_core.training.validation import validate_tasks
from meduniseg_core.weights import save_model
from meduniseg_core.weights.model_file import read_info

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
    only_changed: bool = False,
    start: Start | None = None,
    prepared: Prepared | None = None,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
    group: Group = ALONE,
) -> TrainingResult:
    """Train a network and write ``output/NAME.safetensors``; ``output`` also holds checkpoints, log and split.

    On the CPU, a resumed run gives the same result as an uninterrupted one, bit for bit. Several processes train what
    one would: the batches are the same, and sums differ by rounding only.

    Args:
        config: the configuration.
        resume: resume from the last checkpoint.
        finish: do not train further; make the model from the best checkpoint of a stopped run (from the last one if
            none was validated yet).
        only_changed: do what is not done yet. A run that is finished with these settings and data stays as it is, one
            that was broken off goes on, and else a new one begins (what another left is put aside into ``former``).
            Files whose size and times are those of the last preprocessing are not read again.
        start: the weights to start from; None for those that the configuration names, or random ones.
        prepared: a packed run to train on instead of the data sets (see `packed`); None preprocesses the data sets.
        events: receives progress and metrics.
        cancel: stops the run within one iteration; a checkpoint is written first.
        group: the processes that train together, all with the same arguments; all of them can read ``output`` and
            ``cache``.

    Returns:
        The model file and the figures of the training.

    Raises:
        BadInputError: the data or the configuration cannot be used, there is nothing to resume from, or another
            process is training in ``output``.
        OutOfMemoryError: memory ran out; the last checkpoint is kept.
        NonFiniteLossError: the loss became NaN or infinite; the message names the cases.
        LostProcessError: another process of the group is gone.
        CancelledError: ``cancel`` was set.
    """
    if not group.leads:
        with out_of_memory_means(_REMEDY, "train"):
            trainer = Trainer(config, ignore, cancel, start, prepared, group)
            return trainer.run_unless_done() if only_changed else trainer.run(resume, finish)
    config.output.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(config.output / ".lock", timeout=0), out_of_memory_means(_REMEDY, "train"):
            remove_leftovers(config.output)  # of a process killed while it wrote a checkpoint
            trainer = Trainer(config, events, cancel, start, prepared, group, trust_times=only_changed)
            return trainer.run_unless_done() if only_changed else trainer.run(resume, finish)
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
        group: Group = ALONE,
        *,
        trust_times: bool = False,
    ) -> None:
        self._config, self._events, self._cancel, self._group = config, events, cancel, group
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self._device = device_of(config.device, group)
        group.connect(self._device)
        self._dtype = self._agreed_precision()
        start = start or start_of(config)
        self._prepared = self._prepare(start, trust_times) if prepared is None else prepared
        torch.manual_seed(config.seed)
        network = build_model(self._prepared.info.universal_config)
        if start is not None:
            start.load(network, self._prepared.info)
        self._start = start
        self._network: UniversalNetwork = network.to(self._device)
        self._learner: nn.Module = network if start is None else start.learner(network)
        self._learner.to(self._device)
        if self._device.type == "cuda":
            # on the CPU the training step of plain layouts is the faster one
            self._network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        for part in self._network.modules():
            if isinstance(part, Recomputed):
                part.recompute = config.activation_checkpointing
        self._step = Step(config, self._prepared, self._network, self._learner, self._dtype, group)
        self._optimizer = self._step.optimizer
        self._state = RunState(config_hash=self._prepared.config_hash)
        self._log = RunLog(config.output)
        self._info = self._prepared.info

    def _agreed_precision(self) -> torch.dtype:
        """The leading process's choice for all: "auto" may depend on the machine's speed, and machines differ."""
        own = resolve_precision(self._config.precision, self._device) if self._group.leads else None
        name = self._group.told("precision", None if own is None else str(own).removeprefix("torch."))
        return own or {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]

    def _prepare(self, start: Start | None, trust_times: bool) -> Prepared:
        """One process prepares the run; the others read its result."""
        config, group = self._config, self._group
        if not group.leads:
            return read_preparation(group.told("preparation", None), config)
        prepared = prepare(config, start=start, trust_times=trust_times, events=self._events, cancel=self._cancel)
        group.told("preparation", write_preparation(prepared) if group.size > 1 else "")
        for task in prepared.tasks:
            if task.plan.batch < group.size:
                idle = f"Task {task.plan.task} has a batch of {task.plan.batch} for {group.size} processes"
                self._events(Message("warning", f"{idle}; in its steps some of them have nothing to do."))
        return prepared

    def run_unless_done(self) -> TrainingResult:
        """Train what is not trained yet with these settings and data; see :func:`train`.

        Returns:
            The model file and the figures of the training, of the former one if it was done already.

        Raises:
            BadInputError: a checkpoint is damaged.
            NonFiniteLossError: the loss became NaN or infinite.
            LostProcessError: another process of the group is gone; a checkpoint has been written.
            CancelledError: the run was cancelled; a checkpoint has been written.
        """
        config, found = self._config, None
        if self._group.leads:
            found = standing_of(config, self._prepared.config_hash)
            if found == "new":
                move_former_run(config, self._events)
        standing = self._group.told("standing", found)
        if standing != "finished":
            return self.run(resume=standing == "begun")
        self._events(Message("info", "The model is that of these settings and data: nothing is left to train."))
        path = model_path(config)
        done, lines = read_info(path).provenance, self._log.read()
        self._group.leave()
        epochs = len(lines) or config.epochs
        return TrainingResult(
            path,
            epochs,
            done.get("validation_dice"),
            int(done.get("selected_epoch", epochs)),
            float(done.get("training_seconds", 0.0)),
            stopped_early=epochs < config.epochs,
        )

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
            LostProcessError: another process of the group is gone; a checkpoint has been written.
            CancelledError: the run was cancelled; a checkpoint has been written.
        """
        config, state = self._config, self._state
        if resume or finish:
            # if checkpoints are rarer than validations, the best may be newer than the last; its state describes its
            # own weights only
            newest = newest_checkpoint(config.output, self._prepared.config_hash)
            state = self._state = load_checkpoint(newest, self._learner, self._optimizer, self._prepared.config_hash)
            if state.scaling is not None:
                self._step.scaler.load_state_dict(dict(state.scaling))
            self._events(Message("info", f"Resuming after epoch {state.epoch} of {config.epochs}."))
        self._group.take_over(self._learner.state_dict().values())
        if self._group.leads:
            self._log.restart(state.epoch)
            if self._start is not None and not (resume or finish):
                self._start.report(config.output, self._events)
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
            config.task_sampling_power,
            self._group,
            on_device=config.augments_on(self._device.type),
        )
        batches = batches_from(
            source, state.iteration, config.workers, pin=self._device.type == "cuda", device=self._device
        )
        before, began, first, stopped_early = state.seconds, time.monotonic(), state.iteration, False
        while state.epoch < config.epochs and not stopped_early:
            losses: dict[int, list[float]] = defaultdict(list, {task: list(of) for task, of in state.losses.items()})
            gradients = defaultdict(list, {task: list(of) for task, of in (state.gradients or {}).items()})
            try:
                while state.iteration < (state.epoch + 1) * config.iterations_per_epoch:
                    if self._cancel is not None and self._group.size == 1:
                        self._cancel.raise_if_cancelled()
                    batch = next(batches)
                    stop, requeue = asked_to_stop(self._cancel, self._group)
                    made = self._step.run(batch, state.iteration, stop=stop, requeue=requeue)
                    losses[batch.task].append(made.loss)
                    if np.isfinite(made.gradient):  # otherwise fp16 overflowed and the step was skipped
                        gradients[batch.task].append(made.gradient)
                    state.iteration += 1
                    self._report(first, time.monotonic() - began, losses)
                    raise_if_asked(made.stop, made.requeue)  # by all processes in the same step
                state.seconds = before + time.monotonic() - began
                stopped_early = self._finish_epoch(losses, gradients)
            except (CancelledError, LostProcessError) as error:
                self._pause(losses, gradients, before + time.monotonic() - began)
                if isinstance(error, CancelledError):
                    self._group.leave()
                raise
        return self._export(stopped_early)

    def _pause(self, losses: dict[int, list[float]], gradients: dict[int, list[float]], seconds: float) -> None:
        """Save the steps of an unfinished epoch, so that a pause loses nothing."""
        if self._state.iteration:
            parts = {"losses": dict(losses), "gradients": dict(gradients)}
            self._save(LAST, self._state.model_copy(update={"seconds": seconds, **parts}))

    def _save(self, name: str, state: RunState) -> None:
        if not self._group.leads:
            return
        if self._step.scaler.is_enabled():
            state = state.model_copy(update={"scaling": self._step.scaler.state_dict()})
        with self._group.uninterrupted():
            save_checkpoint(self._config.output / name, self._learner, self._optimizer, state)

    def _report(self, first: int, seconds: float, losses: dict[int, list[float]]) -> None:
        state, config = self._state, self._config
        recent = float(np.mean([values[-1] for values in losses.values()]))
        detail = f"epoch {state.epoch + 1}/{config.epochs}, loss {recent:.3f}"
        self._events(Progress("train", state.iteration - first, config.total_iterations - first, seconds, detail))

    def _finish_epoch(self, losses: dict[int, list[float]], gradients: dict[int, list[float]]) -> bool:
        """Validate, log and save checkpoints; returns whether to stop early."""
        config, state = self._config, self._state
        epoch = state.epoch + 1  # the state counts it once its validation is complete
        names = [task.plan.task for task in self._prepared.tasks]
        line: dict[str, Any] = {
            "epoch": state.epoch,
            "iteration": state.iteration,
            **loss_figures(names, losses),
            **gradient_figures(names, gradients, config.longest_gradient),
            "seconds": round(state.seconds, 1),
        }
        self._events(Metric("loss", line["loss"], state.iteration))
        better = False
        self._group.take_over(self._learner.state_dict().values())  # different machines round differently
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
        state.epoch, state.losses, state.gradients = epoch, {}, None
        stop = (
            config.patience is not None
            and state.best_dice is not None
            and state.epoch - state.best_epoch >= config.patience
        )
        if self._group.leads:
            self._log.append(line)  # before the checkpoint: a resume drops lines that are newer than it
            write_curves(config.output, config.name, self._log.read(), config.longest_gradient)
        # the best one first: a kill between the two writes must not leave a state without its best
        if better:
            self._save(BEST, state)
        if state.epoch % config.checkpoint_every == 0 or state.epoch == config.epochs or stop:
            self._save(LAST, state)
        return stop

    def _validate(self) -> dict[str, dict[str, float]]:
        """Compute the mean Dice by task and class over the validation cases."""
        engine = Engine.borrowing(self._network.eval(), self._device, self._dtype)
        tasks, most = self._prepared.tasks, self._config.validation_cases
        with averaged(self._optimizer):
            dice = validate_tasks(engine, self._info, tasks, most, self._group, self._cancel)
        scores = {}
        for task in tasks:
            if len(dice[task.plan.task]):
                means = dice[task.plan.task].mean(axis=0)
                scores[task.plan.task] = dict(zip(task.plan.classes, means.tolist(), strict=True))
                self._events(Metric("dice", float(means.mean()), self._state.iteration, task.plan.task))
        return scores

    def _export(self, stopped_early: bool) -> TrainingResult:
        config, state = self._config, self._state
        best = config.select == "best" and state.best_dice is not None
        # a run paused within an epoch is further than the weights that were validated at the epoch's start
        validated = state.best_epoch == state.epoch and state.iteration == state.epoch * config.iterations_per_epoch
        if best and not validated and self._group.leads:
            best = self._load_best()
        selected = state.best_epoch if best else state.epoch
        provenance = {
            **self._info.provenance,
            CONFIG_HASH: self._prepared.config_hash,
            "selected_epoch": selected,
            "validation_dice": state.best_dice if best or validated else None,
            "training_seconds": round(state.seconds, 1),
            "precision": str(self._dtype).removeprefix("torch."),
            "device": self._device.type,
        }
        path = model_path(config)
        info = self._info.model_copy(update={"provenance": provenance})
        if self._group.leads:
            with averaged(self._optimizer):
                if self._start is None:
                    save_model(path, info, self._learner.state_dict())
                else:
                    self._start.save(path, info, self._learner)
        self._group.leave()
        return TrainingResult(path, state.epoch, state.best_dice, state.best_epoch, state.seconds, stopped_early)

    def _load_best(self) -> bool:
        """Take the best checkpoint's weights; where it was lost the last ones stay, which is said."""
        path, state = self._config.output / BEST, self._state
        try:
            load_checkpoint(path, self._learner, self._optimizer, self._prepared.config_hash)
        except BadInputError:
            text = (
                f"{path} is missing or damaged: the model has the weights of epoch {state.epoch}, where the run is, "
                f"not those of its best epoch ({state.best_epoch})."
            )
            self._events(Message("warning", text))
            return False
        return True
