"""Attention between tokens (class queries, priors) and features, and what turns the one into the other."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_HEAD_WIDTH = 32


class Attention(nn.Module):
    """Multi-head attention from one set of tokens to another, both normalised first; the caller adds the residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.norm_of = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries, self.keys, self.values = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self._heads = heads_of(width)

    def forward(self, tokens: Tensor, of: Tensor) -> Tensor:
        """Let tokens attend to others.

        Args:
            tokens: (B, n, width).
            of: (B, m, width), the tokens that they attend to.

        Returns:
            (B, n, width), the attended values of each token.
        """
        tokens, of = self.norm(tokens), self.norm_of(of)
        queries, keys, values = (
            part.unflatten(-1, (self._heads, -1)).transpose(1, 2)
            for part in (self.queries(tokens), self.keys(of), self.values(of))
        )
        found = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        result: Tensor = self.out(found)
        return result


class FeedForward(nn.Module):
    """Two layers on each token, normalised first; the caller adds the residual."""

    def __init__(self, width: int, factor: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, factor * width), nn.Linear(factor * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform each token on its own.

        Args:
            tokens: (B, n, width).

        Returns:
            (B, n, width).
        """
        result: Tensor = self.down(F.gelu(self.up(self.norm(tokens))))
        return result


def heads_of(width: int, head_width: int = _HEAD_WIDTH) -> int:
    """The number of heads that attention of a width has.

    Args:
        width: of the tokens.
        head_width: what a head has if it divides the width.

    Returns:
        A divisor of the width.
    """
    return math.gcd(width, max(1, width // head_width))


def tokens_of(x: Tensor) -> Tensor:
    """Turn features into tokens.

    Args:
        x: (B, C, ...).

    Returns:
        (B, voxels, C), in at least single precision: the weights of attention are never stored in half precision.
    """
    whole = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    return whole.flatten(2).transpose(1, 2)


def attended_features(tokens: Tensor, like: Tensor) -> Tensor:
    """Turn tokens back into features.

    Args:
        tokens: (B, voxels, C).
        like: features (B, C, ...) with the grid and dtype of the result.

    Returns:
        (B, C, ...).
    """
    return tokens.transpose(1, 2).reshape(like.shape).to(like.dtype)
