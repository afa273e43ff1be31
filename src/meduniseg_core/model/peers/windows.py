"""Attention inside windows of a volume (Liu et al.: "Swin Transformer: Hierarchical Vision Transformer using Shifted
Windows", ICCV 2021; in three dimensions).

The paper's idea: attention among all voxels costs their square. So the grid is cut into windows, and a voxel attends to
those of its own window, with a learned bias for every relative position; every second block shifts the windows by half
their side, so that what is apart in one meets in the next. A shifted grid is rolled, and voxels that only this makes
neighbours do not attend to each other.

An axis that one window covers is neither cut nor shifted. An axis that windows do not divide is padded, and nobody
attends to the padding (the authors' programs let them).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meduniseg_core.model.baselines.attention import FeedForward, tokens_of

_FIRST_BIAS = 0.02
_PADDING = -1


class WindowAttention(nn.Module):
    """Multi-head attention inside windows; the caller normalises before it and adds the residual.

    Args:
        width: of the voxels' features.
        heads: number of heads.
        window: side of a window in voxels.
        queries: False where the features are the queries as they are, and only keys and values are computed.
    """

    def __init__(self, width: int, heads: int, window: int, *, queries: bool = True) -> None:
        super().__init__()
        self.queries = nn.Linear(width, width) if queries else None
        self.keys_and_values = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.empty((2 * window - 1) ** 3, heads))
        self._heads, self._window = heads, window
        if not self.bias.is_meta:
            nn.init.trunc_normal_(self.bias, std=_FIRST_BIAS)

    def forward(self, x: Tensor, of: Tensor | None = None, *, shifted: bool = False) -> Tensor:
        """Let every voxel attend to its window.

        Args:
            x: (B, D, H, W, width), channels last.
            of: (B, D, H, W, width), what it attends to; None: itself.
            shifted: whether the windows are shifted by half their side.

        Returns:
            (B, D, H, W, width).
        """
        grid = _Grid(x.shape[1:4], self._window, shifted)
        windows = grid.cut(x)
        keys, values = self._heads_of(self.keys_and_values(windows if of is None else grid.cut(of))).chunk(2, dim=-1)
        queries = self._heads_of(windows if self.queries is None else self.queries(windows))
        bias = self._bias(grid.sides).to(queries.dtype)
        apart = grid.apart(x.device)
        if apart is not None:
            bias = bias.masked_fill(apart.unsqueeze(1), -math.inf)  # (windows, heads, n, n)
        found = F.scaled_dot_product_attention(queries, keys.to(queries.dtype), values.to(queries.dtype), bias)
        return grid.joined(self.out(found.transpose(2, 3).flatten(3)))

    def _heads_of(self, x: Tensor) -> Tensor:
        """(B, windows, n, C) to (B, windows, heads, n, C / heads)."""
        return x.reshape(*x.shape[:3], self._heads, -1).transpose(2, 3)

    def _bias(self, sides: Sequence[int]) -> Tensor:
        """The bias of every pair of a window's voxels, (1, heads, n, n)."""
        across, device = 2 * self._window - 1, self.bias.device
        axes = torch.meshgrid(*(torch.arange(side, device=device) for side in sides), indexing="ij")
        d, h, w = (place.flatten()[:, None] - place.flatten() + self._window - 1 for place in axes)
        return self.bias[(d * across + h) * across + w].movedim(2, 0).unsqueeze(0)


class _Grid:
    """How a volume is cut into windows."""

    def __init__(self, size: Sequence[int], window: int, shifted: bool) -> None:
        self.size = tuple(size)
        self.sides = [min(window, side) for side in self.size]
        self.shifts = [window // 2 if shifted and side > window else 0 for side in self.size]
        self.padded = [math.ceil(side / own) * own for side, own in zip(self.size, self.sides, strict=True)]
        self.counts = [side // own for side, own in zip(self.padded, self.sides, strict=True)]

    def cut(self, x: Tensor) -> Tensor:
        """(B, D, H, W, C) to (B, windows, n, C)."""
        d, h, w = (after - before for after, before in zip(self.padded, self.size, strict=True))
        if d or h or w:
            x = F.pad(x, (0, 0, 0, w, 0, h, 0, d))
        if any(self.shifts):
            x = x.roll([-shift for shift in self.shifts], (1, 2, 3))
        (nd, nh, nw), (sd, sh, sw) = self.counts, self.sides
        return x.reshape(len(x), nd, sd, nh, sh, nw, sw, -1).permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6).flatten(1, 3)

    def joined(self, windows: Tensor) -> Tensor:
        """(B, windows, n, C) back to (B, D, H, W, C)."""
        parts = windows.reshape(len(windows), *self.counts, *self.sides, -1)
        x = parts.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(len(windows), *self.padded, -1)
        if any(self.shifts):
            x = x.roll(self.shifts, (1, 2, 3))
        depth, height, width = self.size
        return x[:, :depth, :height, :width]

    def apart(self, device: torch.device) -> Tensor | None:
        """Which voxels of a window do not attend to each other, (windows, n, n); None where all do."""
        if not any(self.shifts) and self.padded == list(self.size):
            return None
        region = torch.zeros(1, *self.size, 1, dtype=torch.int64, device=device)
        for axis, (side, shift) in enumerate(zip(self.size, self.shifts, strict=True)):
            # rolled to the far end, away from its neighbours
            wrapped = torch.arange(side, device=device) < shift
            region = 2 * region + wrapped.view([-1 if axis == own else 1 for own in range(-1, 4)])
        region = self.cut(region + 1)[0, :, :, 0] - 1  # zeros that padding adds become -1
        return region.unsqueeze(2) != region.unsqueeze(1)


class WindowBlock(nn.Module):
    """A transformer's block with attention inside windows, and two layers on each voxel.

    Args:
        width: of the voxels' features.
        heads: number of heads.
        window: side of a window in voxels.
        shifted: whether the windows are shifted by half their side.
        queries: as `WindowAttention` has it.
    """

    def __init__(self, width: int, heads: int, window: int, *, shifted: bool, queries: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = WindowAttention(width, heads, window, queries=queries)
        self.feed_forward = FeedForward(width)
        self._shifted = shifted

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block.

        Args:
            x: (B, D, H, W, width), channels last.

        Returns:
            An array of the same shape.
        """
        return self._fed(x + self.attention(self.norm(x), shifted=self._shifted))

    def between(self, x: Tensor, of: Tensor) -> Tensor:
        """Compute the block with attention from one volume to another; their sum takes the place of the input.

        Args:
            x: (B, D, H, W, width).
            of: (B, D, H, W, width).

        Returns:
            An array of the same shape.
        """
        return self._fed(x + of + self.attention(self.norm(x), self.norm(of), shifted=self._shifted))

    def _fed(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.feed_forward(x)
        return result


class WindowStage(nn.Module):
    """Two blocks on features, the second with shifted windows.

    Args:
        width: of the features.
        window: side of a window in voxels.
        heads: number of heads.
    """

    def __init__(self, width: int, window: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(WindowBlock(width, heads, window, shifted=shifted) for shifted in (False, True))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the blocks.

        Args:
            x: (B, width, D, H, W).

        Returns:
            An array of the same shape and dtype.
        """
        voxels = channels_last(x)
        for block in self.blocks:
            voxels = block(voxels)
        return channels_first(voxels, x.dtype)


def channels_last(x: Tensor) -> Tensor:
    """Put the channels last.

    Args:
        x: (B, C, D, H, W).

    Returns:
        (B, D, H, W, C), in at least single precision, as `tokens_of` gives them.
    """
    return tokens_of(x).reshape(len(x), *x.shape[2:], x.shape[1])


def channels_first(voxels: Tensor, dtype: torch.dtype) -> Tensor:
    """Put the channels back.

    Args:
        voxels: (B, D, H, W, C).
        dtype: of the result.

    Returns:
        (B, C, D, H, W).
    """
    return voxels.movedim(-1, 1).to(dtype)
