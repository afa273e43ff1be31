"""CoTr (Xie, Zhang, Shen, Xia: "CoTr: Efficiently Bridging CNN and Transformer for 3D Medical Image Segmentation",
MICCAI 2021).

The paper's idea: a transformer on a convolutional network's features sees far, but attention among all voxels allows it
only the coarsest ones. With deformable attention it takes the two coarsest sizes together: a convolution of 7 x 7 x 7
and residual blocks of one convolution (three, three and two a stage) make features of four sizes; those of the last two
become one sequence with sines of their place and a vector for their size, which six layers of deformable attention
change. The decoder adds: transposed convolutions, plus the features of that size, two convolutions beside a shortcut;
a head at each size and one for the image's.

Here as there, but without standardised weights and dropout. For volumes whose sides are multiples of 8 x 16 x 16.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from meduniseg_core.model.baselines.attention import attended_features, heads_of, tokens_of
from meduniseg_core.model.blocks import LEAK, UpConv, initialise
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.features import Features
from meduniseg_core.model.peers.deformable import DeformableAttention, Grid
from meduniseg_core.model.peers.residual import unet_of
from meduniseg_core.model.peers.sizes import whole
from meduniseg_core.model.peers.strided_heads import StridedHeads
from meduniseg_core.model.plain_unet import ConvNorm
from meduniseg_core.model.unet import CUBE_KERNEL, Recomputed
from meduniseg_core.model.unet_config import UNetConfig

_BLOCKS, _LAST_BLOCKS = 3, 2
_LAYERS, _SIZES, _HEAD_WIDTH, _EXPAND = 6, 2, 64, 4
_LONGEST = 10_000.0  # wave of the sines


class CoTr(StridedHeads, Recomputed):
    """Deformable attention over a convolutional network's two coarsest sizes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        shape, widths, (first, *strides) = unet_of(config, bias=False), config.features[1:], config.strides
        between = list(zip(widths[:-1], widths[1:], strides, strict=True))
        self.stem = ConvNorm(shape, config.stems[0], widths[0], (7, 7, 7), first)
        self.stages = nn.ModuleList(
            nn.Sequential(
                _Residual(shape, fine, coarse, stride),
                *(_Residual(shape, coarse, coarse) for _ in range(1, _LAST_BLOCKS if coarsest else _BLOCKS)),
            )
            for (fine, coarse, stride), coarsest in zip(between, [*[False] * (len(between) - 1), True], strict=True)
        )
        self.transformer = _Transformer(widths[-1])
        self.ups = nn.ModuleList(UpConv(coarse, fine, stride) for fine, coarse, stride in between)
        self.blocks = nn.ModuleList(_Twice(shape, width) for width in widths[:-1])
        self.heads = nn.ModuleList(nn.Conv3d(width, config.classes, 1) for width in (widths[0], *widths[:-1]))
        self.apply(initialise)

    @override
    def encode(self, images: Tensor | Sequence[Tensor], modality: Tensor | None = None) -> Features:
        x = self.stem(whole(images, self.config).to(self.stem.conv.weight.dtype))
        found = [x]
        for stage in self.stages:
            x = self._run(stage, x)
            found.append(x)
        return Features(stages=(*found[:-_SIZES], *self.transformer(found[-_SIZES:])), priors=None)

    @override
    def _decoded(self, features: Features) -> Iterator[tuple[int, Tensor]]:
        x = features.stages[-1]
        for position in range(len(self.ups) - 1, -1, -1):
            x = self._run(self.blocks[position], self.ups[position](x) + features.stages[position])
            yield position, x


class _Residual(nn.Module):
    """A convolution beside a shortcut."""

    def __init__(self, shape: UNetConfig, inputs: int, outputs: int, stride: Grid = (1, 1, 1)) -> None:
        super().__init__()
        self.convolution = ConvNorm(shape, inputs, outputs, CUBE_KERNEL, stride, activate=False)
        changes = inputs != outputs or stride != (1, 1, 1)
        self.shortcut = ConvNorm(shape, inputs, outputs, (1, 1, 1), stride, activate=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Add the convolution to the shortcut.

        Args:
            x: (B, inputs, D, H, W).

        Returns:
            Features at the block's stride.
        """
        out = self.convolution(x) + (x if self.shortcut is None else self.shortcut(x))
        return F.leaky_relu(out, LEAK)


class _Twice(nn.Module):
    """Two convolutions, and the input added."""

    def __init__(self, shape: UNetConfig, width: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*(ConvNorm(shape, width, width, CUBE_KERNEL) for _ in range(2)))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block.

        Args:
            x: (B, width, D, H, W).

        Returns:
            An array of the same shape.
        """
        result: Tensor = self.convolutions(x) + x
        return result


class _Transformer(Recomputed):
    """Six layers of deformable attention over features of two sizes and one width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = nn.Parameter(torch.zeros(_SIZES, width))
        self.layers = nn.ModuleList(_Layer(width) for _ in range(_LAYERS))
        if not self.sizes.is_meta:
            nn.init.normal_(self.sizes)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Compute the layers.

        Args:
            features: (B, width, D, H, W) of two sizes.

        Returns:
            Features of the same shapes.
        """
        grids = grids_of(features)
        tokens = torch.cat([tokens_of(x) for x in features], dim=1)
        places = torch.cat([sines(grid, tokens) + size for grid, size in zip(grids, self.sizes, strict=True)])
        for layer in self.layers:
            tokens = self._run(layer, tokens, places, *features)
        found, start = [], 0
        for x, grid in zip(features, grids, strict=True):
            end = start + math.prod(grid)
            found.append(attended_features(tokens[:, start:end], x))
            start = end
        return found


class _Layer(nn.Module):
    """Deformable attention and two dense layers, each added and then normalised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = DeformableAttention(width, heads_of(width, _HEAD_WIDTH), _SIZES)
        self.norm, self.last_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dense = nn.Sequential(nn.Linear(width, _EXPAND * width), nn.GELU(), nn.Linear(_EXPAND * width, width))

    def forward(self, tokens: Tensor, places: Tensor, *features: Tensor) -> Tensor:
        """Compute the layer.

        Args:
            tokens: (B, n, width).
            places: (n, width), added to what asks.
            *features: (..., D, H, W) of every size, for its grid.

        Returns:
            (B, n, width).
        """
        tokens = self.norm(tokens + self.attention(tokens + places, tokens, grids_of(features)))
        result: Tensor = self.last_norm(tokens + self.dense(tokens))
        return result


def grids_of(features: Sequence[Tensor]) -> list[Grid]:
    """The grids of features.

    Args:
        features: (..., D, H, W).

    Returns:
        (D, H, W) of each.
    """
    return [(x.shape[-3], x.shape[-2], x.shape[-1]) for x in features]


def sines(grid: Grid, like: Tensor) -> Tensor:
    """Sines and cosines of voxels' places, a third of the width for each axis.

    Args:
        grid: (D, H, W).
        like: a tensor whose last axis is as wide as the result, with its dtype and device.

    Returns:
        (D * H * W, width); what a width has beyond multiples of 6 is 0.
    """
    width = like.shape[-1]
    waves = width // 6
    steps = torch.arange(waves, device=like.device, dtype=like.dtype)
    rates = _LONGEST ** (-steps / max(1, waves))
    axes = torch.meshgrid(*(torch.arange(side, device=like.device, dtype=like.dtype) for side in grid), indexing="ij")
    angles = [axis.flatten()[:, None] * rates for axis in axes]
    parts = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return F.pad(parts, (0, width - 6 * waves))
