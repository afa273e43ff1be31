"""MiT (Xie, Zhang, Xia, Wu: "UniMiSS: Universal Medical Self-Supervised Learning via Breaking Dimensionality Barrier",
ECCV 2022).

The paper's idea: attention knows no dimensions, only tokens; what a transformer needs to know of a volume or an image
is in the layers that make tokens. So one pyramid of transformer blocks serves both, and only the layers that embed or
reduce have three or two dimensions. Convolutions with stride 2 make the tokens of four sizes, which get a learned
place; blocks attend from all of them to fewer, which a strided convolution makes of 6, 4 and 2 voxels along each axis
(at the coarsest size to all). The decoder has such blocks, too: transposed convolutions, plus the features of that
size, plus places; at the finest size one convolution. A head at each size, and one for the image's.

Here are the larger encoder and the decoder of the authors' program, as a three- or as a two-dimensional network. Places
are learned for 48 x 192 x 192 or 224 x 224 and interpolated for other sizes; what a reduction would leave over is
padded, not dropped; weights are not standardised. For volumes whose sides are multiples of 16 x 32 x 32, and 2D images
of 32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from meduniseg_core.model.baselines.attention import FeedForward, attended_features, tokens_of
from meduniseg_core.model.blocks import ConvBlock, initialise, make_conv, make_up_conv
from meduniseg_core.model.config import ModelConfig, Stride
from meduniseg_core.model.features import Features
from meduniseg_core.model.peers.sizes import whole
from meduniseg_core.model.peers.strided_heads import StridedHeads
from meduniseg_core.model.unet import CUBE_KERNEL, Recomputed

_DEPTHS, _HEADS, _REDUCTIONS = (2, 3, 4, 3), (1, 2, 4, 8), (6, 4, 2, 1)  # of the stages, finest first
_UP_DEPTHS, _UP_HEADS = (3, 4, 3), (2, 4, 8)  # of the decoder's levels, likewise
_LEARNED_FOR: dict[int, Stride] = {2: (1, 224, 224), 3: (48, 192, 192)}
_FIRST_PLACES = 0.02


class MiT(StridedHeads, Recomputed):
    """A pyramid of transformer blocks between convolutions of two or three dimensions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        dimension, widths, (first, *strides) = config.dimension, config.features[1:], config.strides
        between = list(zip(widths[:-1], widths[1:], strides, strict=True))

        def convolution(inputs: int, outputs: int, kernel: Stride, stride: Stride = (1, 1, 1)) -> nn.Module:
            return ConvBlock(make_conv(dimension, inputs, outputs, kernel, stride, bias=False), outputs)

        def blocks(width: int, heads: int, reduction: int, depth: int, *, bias: bool) -> nn.Module:
            return nn.Sequential(*(_Block(width, heads, reduction, dimension, bias=bias) for _ in range(depth)))

        self.stem = convolution(config.stems[0], widths[0], (7, 7, 7), first)
        self.embeddings = nn.ModuleList(
            convolution(fine, coarse, CUBE_KERNEL, stride) for fine, coarse, stride in between
        )
        encoder = zip(_HEADS, _REDUCTIONS, _DEPTHS, strict=True)
        self.stages = nn.ModuleList(
            blocks(width, *setting, bias=True) for width, setting in zip(widths[1:], encoder, strict=False)
        )
        self.places = nn.ParameterList(_places(config, level) for level in range(1, len(widths)))
        self.ups = nn.ModuleList(make_up_conv(dimension, coarse, fine, stride) for fine, coarse, stride in between)
        decoder = zip(_UP_HEADS, _REDUCTIONS, _UP_DEPTHS, strict=False)
        self.finest = convolution(widths[0], widths[0], CUBE_KERNEL)
        self.levels_up = nn.ModuleList(
            blocks(width, *setting, bias=False) for width, setting in zip(widths[1:-1], decoder, strict=False)
        )
        self.places_up = nn.ParameterList(_places(config, level) for level in range(1, len(widths) - 1))
        self.norm = nn.LayerNorm(widths[1])
        self.heads = nn.ModuleList(
            make_conv(dimension, width, config.classes, (1, 1, 1)) for width in (widths[0], *widths[:-1])
        )
        self.apply(initialise)

    @override
    def encode(self, images: Tensor | Sequence[Tensor], modality: Tensor | None = None) -> Features:
        volume = whole(images, self.config)
        if self.config.dimension == 2:
            volume = volume.squeeze(2)
        x = self.stem(volume.to(next(self.stem.parameters()).dtype))
        found = [x]
        for embed, places, stage in zip(self.embeddings, self.places, self.stages, strict=True):
            x = self._run(stage, _placed(embed(x), places))
            found.append(x)
        return Features(stages=tuple(found), priors=None)

    @override
    def _decoded(self, features: Features) -> Iterator[tuple[int, Tensor]]:
        x = features.stages[-1]
        for level in range(len(self.ups) - 1, -1, -1):
            x = self.ups[level](x) + features.stages[level]
            if level:
                x = self._run(self.levels_up[level - 1], _placed(x, self.places_up[level - 1]))
            if level == 1:
                x = attended_features(self.norm(tokens_of(x)), x)
            if level == 0:
                x = self.finest(x)
            yield level, x


class _Block(nn.Module):
    """Attention from all tokens to fewer, and two layers on each."""

    def __init__(self, width: int, heads: int, reduction: int, dimension: int, *, bias: bool) -> None:
        super().__init__()
        self._heads, self._reduction = math.gcd(width, heads), reduction
        self.norm = nn.LayerNorm(width)
        self.queries, self.keys_and_values = nn.Linear(width, width, bias), nn.Linear(width, 2 * width, bias)
        self.out = nn.Linear(width, width)
        self.reduce: nn.Module | None = None
        self.reduced_norm: nn.Module | None = None
        if reduction > 1:
            conv = nn.Conv3d if dimension == 3 else nn.Conv2d
            self.reduce, self.reduced_norm = conv(width, width, reduction, reduction), nn.LayerNorm(width)
        self.feed_forward = FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block.

        Args:
            x: (B, width, ...).

        Returns:
            An array of the same shape.
        """
        tokens = tokens_of(x)
        normed = self.norm(tokens)
        fewer = normed
        if self.reduce is not None and self.reduced_norm is not None:
            fewer = self.reduced_norm(tokens_of(self.reduce(self._padded(attended_features(normed, x)))))
        queries = self._heads_of(self.queries(normed))
        keys, values = (self._heads_of(part) for part in self.keys_and_values(fewer).chunk(2, dim=2))
        found = F.scaled_dot_product_attention(queries, keys, values)
        tokens = tokens + self.out(found.transpose(1, 2).flatten(2))
        return attended_features(tokens + self.feed_forward(tokens), x)

    def _heads_of(self, tokens: Tensor) -> Tensor:
        """(B, n, width) to (B, heads, n, width / heads)."""
        return tokens.reshape(*tokens.shape[:2], self._heads, -1).transpose(1, 2)

    def _padded(self, x: Tensor) -> Tensor:
        """To multiples of the reduction."""
        missing = [(0, -side % self._reduction) for side in reversed(x.shape[2:])]
        return F.pad(x, [value for pair in missing for value in pair])


def _places(config: ModelConfig, level: int) -> nn.Parameter:
    """A vector for every place of a size, at the image's size that places are learned for."""
    steps = config.strides[: level + 1]
    sides = [
        max(1, side // math.prod(stride[axis] for stride in steps))
        for axis, side in enumerate(_LEARNED_FOR[config.dimension])
    ]
    places = nn.Parameter(torch.zeros(1, config.features[level + 1], *sides[3 - config.dimension :]))
    if not places.is_meta:
        nn.init.trunc_normal_(places, std=_FIRST_PLACES)
    return places


def _placed(x: Tensor, places: Tensor) -> Tensor:
    """Features and their places, interpolated to the grid."""
    size = tuple(x.shape[2:])
    if tuple(places.shape[2:]) != size:
        places = F.interpolate(places, size=size, mode="bilinear" if x.dim() == 4 else "trilinear")
    return x + places.to(x.dtype)
