"""The gradient of a batch whose samples are spread over processes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from meduniseg_core.training.group import Group


class GradientSum:
    """Adds up the gradients of all processes, with one message a step.

    A parameter that no process used keeps no gradient, as in a single process: the optimizer skips it. So the message
    also counts, for each parameter, the processes that have a gradient.

    Args:
        parameters: those that learn.
        group: the processes.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], group: Group) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._group = group
        self._sizes = [parameter.numel() for parameter in self._parameters]
        self._buffer: Tensor | None = None

    @torch.no_grad()
    def add_up(self, extras: Tensor) -> Tensor:
        """Replace every gradient by the sum over the processes.

        Args:
            extras: float32 (n,), further numbers to add up.

        Returns:
            Their sums.

        Raises:
            LostProcessError: another process is gone.
        """
        if self._group.size == 1:
            return extras
        total, count = sum(self._sizes), len(self._parameters)
        if self._buffer is None:
            self._buffer = torch.empty(total + count + len(extras), device=extras.device)
        parts = torch.split(self._buffer[:total], self._sizes)
        used = torch.tensor([float(parameter.grad is not None) for parameter in self._parameters])
        for parameter, part in zip(self._parameters, parts, strict=True):
            if parameter.grad is None:
                part.zero_()
            else:
                part.view(parameter.shape).copy_(parameter.grad)
        self._buffer[total : total + count] = used.to(extras.device)
        self._buffer[total + count :] = extras
        self._group.add_up(self._buffer)
        anywhere = self._buffer[total : total + count].tolist()
        for parameter, part, processes in zip(self._parameters, parts, anywhere, strict=True):
            if processes == 0:
                continue
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
            parameter.grad.copy_(part.view(parameter.shape))  # keeps its memory layout
        return self._buffer[total + count :].clone()
