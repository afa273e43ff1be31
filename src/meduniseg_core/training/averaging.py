"""A running mean of the weights (exponential moving average, EMA), kept beside the weights that learn.

Each parameter's mean is stored in the optimizer's state, like its momentum, so checkpoints keep it and a resumed run
continues it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_KEY = "average"


@torch.no_grad()
def update_average(optimizer: torch.optim.Optimizer, decay: float, iteration: int) -> None:
    """Move the means towards the weights. Early in a run the start is forgotten quickly.

    Args:
        optimizer: its state holds the means.
        decay: the share of a mean that one step keeps.
        iteration: the number of the step just made.
    """
    share = 1 - min(decay, (1 + iteration) / (10 + iteration))
    means, values = [], []
    for parameter in _parameters(optimizer):
        known = optimizer.state.get(parameter, {})
        if _KEY in known:
            means.append(known[_KEY])
            values.append(parameter.detach())
        elif known or parameter.grad is not None:
            # the first batches may not reach all weights; AdamW takes a weight with any state for one that it has moved
            optimizer.state[parameter][_KEY] = parameter.detach().clone()
    if means:
        torch._foreach_lerp_(means, values, share)  # on a GPU one launch instead of hundreds


@contextmanager
def averaged(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Replace the weights by their means within a block; parameters without a mean stay as they are.

    Args:
        optimizer: its state holds the means.

    Yields:
        Nothing; afterwards the weights are restored.
    """
    held: list[tuple[nn.Parameter, torch.Tensor]] = []
    try:
        for parameter in _parameters(optimizer):
            mean = optimizer.state.get(parameter, {}).get(_KEY)
            if mean is not None:
                held.append((parameter, parameter.data))
                parameter.data = mean
        yield
    finally:
        for parameter, own in held:
            parameter.data = own


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[nn.Parameter]:
    for group in optimizer.param_groups:
        yield from group["params"]
