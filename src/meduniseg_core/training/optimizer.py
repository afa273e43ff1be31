"""The optimizer of a run, and the learning rate of every weight at every iteration (docs/spec.md section 6)."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import nn

from meduniseg_core.training.config import TrainingConfig


def make_optimizer(config: TrainingConfig, network: nn.Module) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum as in the paper, or AdamW (``momentum`` is its first beta).

    Args:
        config: the run's configuration.
        network: the modules that learn; frozen parameters are left out.

    Returns:
        The optimizer. Every group has its ``share`` of the learning rate and its ``warm_up``; see :func:`set_rates`.
    """
    alike: dict[tuple[float, int], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            alike[config.share_of(name), config.warm_up_of(name)].append(parameter)
    # one kernel for all weights; the CPU's results must not change between versions
    fused = True if any(own.is_cuda for own in network.parameters()) else None
    groups = [{"params": own, "share": share, "warm_up": warm_up} for (share, warm_up), own in alike.items()]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(
            groups,
            lr=config.learning_rate,
            betas=(config.momentum, 0.999),
            weight_decay=config.weight_decay,
            fused=fused,
        )
    return torch.optim.SGD(
        groups,
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=fused,
    )


def set_rates(optimizer: torch.optim.Optimizer, config: TrainingConfig, iteration: int) -> None:
    """Set the learning rates of an iteration: the schedule's times the group's share, rising from 0 during its warm-up.

    Args:
        optimizer: made by :func:`make_optimizer`.
        config: the run's configuration.
        iteration: counted from 0.
    """
    rate = config.rate_at(iteration)
    for group in optimizer.param_groups:
        warm_up = group["warm_up"]
        group["lr"] = rate * group["share"] * (min(1.0, iteration / warm_up) if warm_up else 1.0)
