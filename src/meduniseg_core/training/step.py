"""One step of a training: forward pass, loss, gradient, optimizer (docs/spec.md section 6).

A batch may be spread over processes (`group`) and pass the network in parts; its gradient is the same up to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from meduniseg_core.errors import NonFiniteLossError
from meduniseg_core.model import UniversalNetwork, autocast
from meduniseg_core.training.averaging import update_average
from meduniseg_core.training.batches import Batch
from meduniseg_core.training.config import TrainingConfig
from meduniseg_core.training.gradients import GradientSum
from meduniseg_core.training.group import Group
from meduniseg_core.training.losses import deep_supervision_loss, deep_supervision_weights
from meduniseg_core.training.optimizer import make_optimizer, set_rates
from meduniseg_core.training.partial_losses import WholeBatch, partial_loss, pooled
from meduniseg_core.training.prepare import Prepared


@dataclass(frozen=True)
class StepFigures:
    """Figures of the whole batch: the loss, and the length (L2 norm) of its gradient before clipping.

    ``stop`` and ``requeue``: whether any process was asked to stop, and to be started again.
    """

    loss: float
    gradient: float
    stop: bool
    requeue: bool


class Step:
    """Makes the steps of a run; owns its optimizer.

    Args:
        config: the run's configuration.
        prepared: its tasks.
        network: the network, on its device.
        learner: the modules that learn: the network, or modules beside it.
        dtype: of the convolutions.
        group: the processes of the run.
    """

    def __init__(
        self,
        config: TrainingConfig,
        prepared: Prepared,
        network: UniversalNetwork,
        learner: nn.Module,
        dtype: torch.dtype,
        group: Group,
    ) -> None:
        self._config, self._prepared, self._group = config, prepared, group
        self._network, self._learner, self._dtype = network, learner, dtype
        self._device = next(network.parameters()).device
        self._forward = torch.compile(network) if config.compile else network
        self.optimizer = make_optimizer(config, learner)
        self.scaler = torch.amp.GradScaler(self._device.type, enabled=dtype == torch.float16)
        self._gradients = GradientSum(learner.parameters(), group)
        # the coarsest level has weight 0: its head is not run
        self._levels = max(1, network.levels - 1)
        self._level_weights = deep_supervision_weights(network.levels)[: self._levels]
        self._weighted = [
            any(case.looked_at is not None for case in task.train)
            or (config.correction_weight > 1 and any(case.record.changed is not None for case in task.train))
            for task in prepared.tasks
        ]

    def run(self, batch: Batch, iteration: int, *, stop: bool = False, requeue: bool = False) -> StepFigures:
        """Make one step.

        Args:
            batch: this process's share of the batch.
            iteration: its number, counted from 0.
            stop: this process was asked to stop.
            requeue: this process was asked to stop and to be started again.

        Returns:
            The step's figures, the same in every process.

        Raises:
            NonFiniteLossError: the loss or the gradient is NaN or infinite; the weights are as they were.
            LostProcessError: another process is gone; the weights are as they were.
        """
        config, optimizer = self._config, self.optimizer
        set_rates(optimizer, config, iteration)
        self._network.train()
        optimizer.zero_grad(set_to_none=True)
        asked = torch.tensor([float(stop), float(requeue)]).to(self._device)
        shares = self._gradients.add_up(torch.cat((self._backward(batch)[None], asked)))
        self.scaler.unscale_(optimizer)
        length = nn.utils.clip_grad_norm_(self._learner.parameters(), config.longest_gradient)
        # the host waits for the GPU once in a step
        value, norm, stops, requeues = torch.cat((shares[:1], length.detach()[None], shares[1:])).tolist()
        if not np.isfinite(value):
            raise NonFiniteLossError(self._diverged("loss", value, batch, iteration))
        if not np.isfinite(norm) and not self.scaler.is_enabled():  # a scaler skips such a step by itself
            raise NonFiniteLossError(self._diverged("gradient", norm, batch, iteration))
        self.scaler.step(optimizer)
        self.scaler.update()
        if config.average_decay is not None:
            update_average(optimizer, config.average_decay, iteration)
        return StepFigures(value, norm, stops > 0, requeues > 0)

    def _backward(self, batch: Batch) -> Tensor:
        """Compute the gradient of this process's share; returns its contribution to the loss."""
        size = self._config.micro_batch or max(1, len(batch.images))
        if self._group.size == 1 and size >= len(batch.images):
            plan = self._prepared.tasks[batch.task].plan
            loss = deep_supervision_loss(
                self._outputs(batch),
                batch.labels.to(self._device, non_blocking=True),
                plan.class_count,
                weights=self._level_weights,
                batch_dice=self._config.batch_dice,
                voxel_weights=self._voxel_weights(batch),
                binary=self._network.binary_classes,
            )
            self._run_back(loss)
            return loss.detach()
        return self._backward_in_parts(batch, size)

    def _backward_in_parts(self, batch: Batch, size: int) -> Tensor:
        config, plan = self._config, self._prepared.tasks[batch.task].plan
        classes, weighted, binary = plan.class_count, self._weighted[batch.task], self._network.binary_classes
        parts = [batch.part(first, first + size) for first in range(0, len(batch.images), size)]
        kept: list[Tensor] | None = None
        sums = None
        if weighted or config.batch_dice:
            sums = torch.zeros((self._levels, 2 * (classes - 1) + 1), device=self._device)
            # with several parts, the sums are known only after all of them have passed once
            with torch.set_grad_enabled(len(parts) == 1):
                for part in parts:
                    kept = self._outputs(part)
                    labels, weights = self._targets(part, weighted)
                    sums += pooled(kept, labels, classes, weights, binary=binary)
            self._group.add_up(sums)
        value = torch.zeros((), device=self._device)
        self.scaler.scale(value)  # one that has never scaled refuses to unscale, and this share may be empty
        for part in parts:
            outputs = kept if kept is not None and len(parts) == 1 else self._outputs(part)
            labels, weights = self._targets(part, weighted)
            loss = partial_loss(
                outputs,
                labels,
                classes,
                WholeBatch(plan.batch, sums),
                level_weights=self._level_weights,
                batch_dice=config.batch_dice,
                weights=weights,
                binary=binary,
            )
            self._run_back(loss)
            value += loss.detach()
        return value

    def _outputs(self, batch: Batch) -> list[Tensor]:
        plan, info = self._prepared.tasks[batch.task].plan, self._prepared.info
        images = batch.images.to(self._device, non_blocking=True)
        task = torch.full((len(images),), info.task_index(plan.task), device=self._device)
        modality = torch.full((len(images),), info.modality_index(plan.modality), device=self._device)
        with autocast(self._device, self._dtype):
            outputs: list[Tensor] = self._forward(images, task, modality, levels=self._levels)
        return outputs

    def _run_back(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def _targets(self, batch: Batch, weighted: bool) -> tuple[Tensor, Tensor | None]:
        labels = batch.labels.to(self._device, non_blocking=True)
        weights = self._voxel_weights(batch)
        if weighted and weights is None:  # other parts may have weights
            weights = torch.ones(labels.shape, device=self._device)
        return labels, weights

    def _voxel_weights(self, batch: Batch) -> Tensor | None:
        extra = self._config.correction_weight - 1
        weights = None if batch.changed is None or extra == 0 else 1 + extra * batch.changed
        if batch.looked_at is not None:
            weights = batch.looked_at if weights is None else weights * batch.looked_at
        return None if weights is None else weights.to(self._device, non_blocking=True)

    def _diverged(self, what: str, value: float, batch: Batch, iteration: int) -> str:
        cases = [text for text in self._group.all_of(", ".join(batch.cases)) if text]
        return (
            f"The {what} became {value} in iteration {iteration} on task "
            f"{self._prepared.tasks[batch.task].plan.task}, cases {', '.join(cases)}; look at these images, or "
            "lower the learning rate, and --resume."
        )
