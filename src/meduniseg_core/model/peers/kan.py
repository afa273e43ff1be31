"""A layer of a Kolmogorov-Arnold network (Liu et al.: "KAN: Kolmogorov-Arnold Networks", 2024).

The paper's idea: a dense layer has a weight on every edge and a fixed function in every node; here the nodes only add,
and every edge has a function of its own that is learned. The function is a spline: w SiLU(x) + s sum_k c_k B_k(x), with
cubic B-splines B_k on an even grid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_INTERVALS, _ORDER = 5, 3
_LOWEST, _STEP = -1.0, 2 / _INTERVALS
_SPLINES = _INTERVALS + _ORDER
_FIRST_COEFFICIENTS = 0.01


class KANLayer(nn.Module):
    """Every output is a sum of learned functions, one of each input; 10 weights an edge.

    Args:
        inputs: width of the tokens.
        outputs: width of the result.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base = nn.Parameter(torch.empty(outputs, inputs))
        self.scale = nn.Parameter(torch.empty(outputs, inputs))
        self.coefficients = nn.Parameter(torch.empty(outputs, inputs, _SPLINES))
        if not self.base.is_meta:
            bound = inputs**-0.5
            nn.init.uniform_(self.base, -bound, bound)
            nn.init.uniform_(self.scale, -bound, bound)
            nn.init.uniform_(self.coefficients, -_FIRST_COEFFICIENTS, _FIRST_COEFFICIENTS)

    def forward(self, tokens: Tensor) -> Tensor:
        """Apply the functions and add.

        Args:
            tokens: (..., inputs).

        Returns:
            (..., outputs).
        """
        edges = (self.coefficients * self.scale.unsqueeze(2)).flatten(1)
        return F.linear(F.silu(tokens), self.base) + F.linear(splines(tokens).flatten(-2), edges)


def splines(x: Tensor) -> Tensor:
    """The cubic B-splines of an even grid of 5 intervals between -1 and 1.

    Args:
        x: any shape.

    Returns:
        (..., 8): each spline's value; between -1 and 1 they add up to 1, and beyond -2.2 and 2.2 they are 0.
    """
    centres = _LOWEST + _STEP * (torch.arange(_SPLINES, device=x.device, dtype=x.dtype) - (_ORDER - 1) / 2)
    distance = ((x.unsqueeze(-1) - centres) / _STEP).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clamp(min=0) ** 3 / 6
    return torch.where(distance < 1, near, far)
