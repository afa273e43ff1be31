"""Deformable attention (Zhu et al.: "Deformable DETR: Deformable Transformers for End-to-End Object Detection", ICLR
2021), in three dimensions.

The paper's idea: a voxel need not compare itself with all others to know where to look. It computes from its own
features a few places, relative to its own, at every size of the features, and how much each of them counts; what is
there is read by interpolation. So the cost grows with the number of voxels, not with its square, and several sizes can
be attended to at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Grid = tuple[int, int, int]
_POINTS = 4


class DeformableAttention(nn.Module):
    """Multi-head attention to a few places; the caller adds the residual and normalises.

    At first the heads look along the six directions of the axes in turn, 1 to 4 voxels away, and all places count the
    same.

    Args:
        width: of the tokens.
        heads: number of heads.
        sizes: number of sizes of the features.
    """

    def __init__(self, width: int, heads: int, sizes: int) -> None:
        super().__init__()
        self._shape = (heads, sizes, _POINTS)
        places = math.prod(self._shape)
        self.offsets, self.weights = nn.Linear(width, 3 * places), nn.Linear(width, places)
        self.values, self.out = nn.Linear(width, width), nn.Linear(width, width)
        if not self.offsets.weight.is_meta:
            self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        heads, sizes, points = self._shape
        for layer in (self.offsets, self.weights):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.weights.bias)
        directions = torch.cat((torch.eye(3), -torch.eye(3)))[torch.arange(heads) % 6]
        steps = torch.arange(1, points + 1).view(1, 1, points, 1) * directions.view(heads, 1, 1, 3)
        self.offsets.bias.copy_(steps.expand(heads, sizes, points, 3).flatten())

    def forward(self, queries: Tensor, tokens: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Let every token attend to its places.

        Args:
            queries: (B, n, width), what places and weights are computed from.
            tokens: (B, n, width), the voxels of all sizes, one size after the other.
            grids: (D, H, W) of every size.

        Returns:
            (B, n, width).
        """
        with torch.autocast(tokens.device.type, enabled=False):  # places in half precision would be voxels off
            return self._attended(queries, tokens, grids)

    def _attended(self, queries: Tensor, tokens: Tensor, grids: Sequence[Grid]) -> Tensor:
        batch, count, width = tokens.shape
        heads, sizes, points = self._shape
        rows = batch * heads
        offsets = self.offsets(queries).view(batch, count, heads, sizes, points, 3)
        weights = self.weights(queries).view(batch, count, heads, sizes * points).softmax(-1)
        weights = weights.view(batch, count, heads, sizes, points)
        own = places_of(grids, tokens).view(1, count, 1, 1, 3)
        found = tokens.new_zeros(rows, width // heads, count)
        for index, values in enumerate(self.values(tokens).split([math.prod(grid) for grid in grids], dim=1)):
            grid = grids[index]
            volume = values.transpose(1, 2).reshape(rows, width // heads, *grid)
            places = own + offsets[:, :, :, index] / tokens.new_tensor(grid)
            # grid_sample counts from -1 to 1, the last axis first
            places = (2 * places - 1).flip(-1).transpose(1, 2).reshape(rows, count, points, 1, 3)
            read = F.grid_sample(volume, places, align_corners=False).squeeze(-1)
            found = found + (read * weights[:, :, :, index].transpose(1, 2).reshape(rows, 1, count, points)).sum(-1)
        result: Tensor = self.out(found.reshape(batch, width, count).transpose(1, 2))
        return result


def places_of(grids: Sequence[Grid], like: Tensor) -> Tensor:
    """Where the voxels' centres are.

    Args:
        grids: (D, H, W) of every size.
        like: a tensor with the result's dtype and device.

    Returns:
        (n, 3), between 0 and 1 along (D, H, W).
    """
    places = []
    for grid in grids:
        axes = [(torch.arange(side, device=like.device, dtype=like.dtype) + 0.5) / side for side in grid]
        places.append(torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2))
    return torch.cat(places)
