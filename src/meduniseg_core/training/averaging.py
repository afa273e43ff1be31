"""A running mean of the weights beside the ones that learn (exponential moving average, EMA).

Each parameter's mean lies in the optimizer's state, as its momentum does, so that checkpoints keep it and a resume
goes on with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_KEY = "average"


@torch.no_grad()
def update_average(optimizer: torch.optim.Optimizer, decay: float, iteration: int) -> None:
    """Move the means towards the weights; early ones forget the start quickly.

    Args:
        optimizer: whose state holds the means.
        decay: the share of a mean that is kept in a step.
        iteration: of the step that was made.
    """
    share = 1 - min(decay, (1 + iteration) / (10 + iteration))
    for parameter in _parameters(optimizer):
        state = optimizer.state[parameter]
        if _KEY in state:
            state[_KEY].lerp_(parameter, share)
        else:
            state[_KEY] = parameter.detach().clone()


@contextmanager
def averaged(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Put the means in the weights' place for a while; parameters without a mean stay as they are.

    Args:
        optimizer: whose state holds the means.

    Yields:
        Nothing; afterwards the weights are back.
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
