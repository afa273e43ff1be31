"""Mamba's block (Gu, Dao: "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023).

The paper's idea: a linear recurrence carries a state along the sequence, h_t = exp(delta_t A) h_(t-1) + delta_t B_t
x_t and y_t = C_t h_t + D x_t. Step delta and the vectors B and C are computed from the token itself, so the block
selects what it keeps and what it forgets, at a cost that grows linearly with the sequence. A short causal convolution
stands before the recurrence, a gate behind it.

Weights have the names and shapes of the package ``mamba_ssm``, whose fused kernel runs the recurrence on CUDA where it
is installed; elsewhere it is a loop over the tokens in plain PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FASTEST, _SLOWEST = 1e-1, 1e-3  # steps delta at the start, drawn evenly on a logarithmic scale


class Mamba(nn.Module):
    """The block, on tokens; the caller normalises before it.

    Args:
        width: of the tokens.
        states: numbers that each channel of the recurrence carries.
        kernel: length of the causal convolution.
        expand: the recurrence has so many times the tokens' width.
    """

    def __init__(self, width: int, states: int = 16, kernel: int = 4, expand: int = 2) -> None:
        super().__init__()
        inner, rank = expand * width, math.ceil(width / 16)
        self._sizes = [rank, states, states]
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, kernel, groups=inner, padding=kernel - 1)
        self.x_proj = nn.Linear(inner, sum(self._sizes), bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.empty(inner, states))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)
        if not self.A_log.is_meta:
            self._begin(rank)

    @torch.no_grad()
    def _begin(self, rank: int) -> None:
        """Mamba's initialisation: A is -1 ... -states, and softplus of the projection's bias gives the first steps."""
        self.A_log.copy_(torch.arange(1, self.A_log.shape[1] + 1).log().expand_as(self.A_log))
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        steps = torch.empty_like(self.dt_proj.bias).uniform_(math.log(_SLOWEST), math.log(_FASTEST)).exp()
        self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))

    def forward(self, tokens: Tensor) -> Tensor:
        """Run the block along the sequence.

        Args:
            tokens: (B, L, width), in single or double precision.

        Returns:
            (B, L, width).
        """
        x, gate = self.in_proj(tokens).transpose(1, 2).chunk(2, dim=1)
        x = F.silu(self.conv1d(x)[..., : tokens.shape[1]])
        low, into, out = self.x_proj(x.transpose(1, 2)).split(self._sizes, dim=2)
        steps = F.softplus(self.dt_proj(low)).transpose(1, 2)
        y = selective_scan(x, steps, -self.A_log.exp(), into.transpose(1, 2), out.transpose(1, 2), self.D)
        result: Tensor = self.out_proj((y * F.silu(gate)).transpose(1, 2))
        return result


def selective_scan(x: Tensor, steps: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Run the recurrence of the head of this file.

    Args:
        x: (B, channels, L).
        steps: (B, channels, L), delta, above 0.
        a: (channels, states), below 0.
        b: (B, states, L).
        c: (B, states, L).
        d: (channels,).

    Returns:
        (B, channels, L).
    """
    fused = _fused_scan() if x.is_cuda and x.dtype != torch.float64 else None
    if fused is not None:
        y: Tensor = fused(x.contiguous(), steps.contiguous(), a, b.contiguous(), c.contiguous(), d)
        return y
    kept = torch.exp(steps.unsqueeze(3) * a.unsqueeze(1))
    added = (steps * x).unsqueeze(3) * b.transpose(1, 2).unsqueeze(1)
    state, found = torch.zeros_like(added[:, :, 0]), []
    for keep, add, read in zip(kept.unbind(2), added.unbind(2), c.unbind(2), strict=True):
        state = keep * state + add
        found.append((state @ read.unsqueeze(2)).squeeze(2))
    return torch.stack(found, dim=2) + d[:, None] * x


@cache
def _fused_scan() -> Callable[..., Any] | None:
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except (ImportError, OSError):  # not there, or built for another torch
        return None
    fused: Callable[..., Any] = selective_scan_fn
    return fused
