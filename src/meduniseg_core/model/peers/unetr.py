"""UNETR (Hatamizadeh, Tang, Nath et al.: "UNETR: Transformers for 3D Medical Image Segmentation", WACV 2022).

The paper's idea: convolutions see what is near, but what is far decides about a volume, too. So the encoder is a plain
vision transformer: patches of 16 x 16 x 16 become tokens with a learned place, and twelve blocks attend among all of
them. It has one size only, so a U-Net's others are made of its inner states: what comes of the fourth, seventh and
tenth block is enlarged, the earlier the further, by transposed convolutions and residual blocks; the image itself goes
through a residual block. Then the decoder of a U-Net: transposed convolutions, the skip, a residual block; one head.

Here as in the authors' program, but for norms in the residual blocks that scale and shift, as all of this project's do,
and for places, which are learned on a grid of 6 x 6 x 6 (an image of 96 x 96 x 96) and interpolated for others, where
the program takes one size of image. For volumes whose sides are multiples of 16.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from meduniseg_core.model.baselines.attention import FeedForward, attended_features, heads_of, tokens_of
from meduniseg_core.model.blocks import initialise
from meduniseg_core.model.config import ModelConfig, Stride
from meduniseg_core.model.features import Features
from meduniseg_core.model.peers.lateral_blocks import residual_blocks, residual_decoder
from meduniseg_core.model.peers.one_head import OneHead
from meduniseg_core.model.peers.sizes import whole
from meduniseg_core.model.unet import Recomputed

_BLOCKS, _HEAD_WIDTH = 12, 64
_TAPS = (4, 7, 10)  # after so many blocks, for the finest size first
_PLACES, _FIRST_PLACES = (6, 6, 6), 0.02


class UNETR(OneHead, Recomputed):
    """A vision transformer as the encoder of a U-Net."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        residual = residual_blocks(config)
        channels, (*widths, hidden) = config.stems[0], config.features
        patch = config.total_stride

        def enlarging(width: int, strides: Sequence[Stride]) -> nn.Module:
            first, *others = (
                nn.ConvTranspose3d(inputs, width, stride, stride, bias=False)
                for inputs, stride in zip((hidden, *[width] * len(strides)), strides, strict=False)
            )
            return nn.Sequential(first, *(part for up in others for part in (up, residual(width, width))))

        self.embedding = nn.Conv3d(channels, hidden, patch, patch)
        self.places = nn.Parameter(torch.zeros(1, hidden, *_PLACES))
        self.blocks = nn.ModuleList(_Block(hidden) for _ in range(_BLOCKS))
        self.norm = nn.LayerNorm(hidden)
        self.lateral = residual(channels, widths[0])
        self.laterals = nn.ModuleList(
            enlarging(width, config.strides[level:][::-1]) for level, width in enumerate(widths[1:], 1)
        )
        self.decoder = residual_decoder(config, hidden, residual)
        self.head = nn.Conv3d(widths[0], config.classes, 1)
        self.apply(initialise)
        if not self.places.is_meta:
            nn.init.trunc_normal_(self.places, std=_FIRST_PLACES)

    @override
    def encode(self, images: Tensor | Sequence[Tensor], modality: Tensor | None = None) -> Features:
        volume = whole(images, self.config).to(self.dtype)
        patches = self.embedding(volume)
        tokens, found = tokens_of(patches) + self._places(patches.shape[2:]), []
        for count, block in enumerate(self.blocks, 1):
            tokens = self._run(block, tokens)
            if count in _TAPS[: len(self.laterals)]:
                found.append(attended_features(tokens, patches))
        skips = [lateral(state) for lateral, state in zip(self.laterals, found, strict=True)]
        return Features(
            stages=(self.lateral(volume), *skips, attended_features(self.norm(tokens), patches)), priors=None
        )

    def _places(self, grid: Sequence[int]) -> Tensor:
        """The tokens' places on a grid, (1, tokens, hidden)."""
        places: Tensor = self.places
        if tuple(grid) != _PLACES:
            places = F.interpolate(places, size=tuple(grid), mode="trilinear")
        return tokens_of(places)


class _Block(nn.Module):
    """Attention among all tokens, and two layers on each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.feed_forward = FeedForward(width)
        self._heads = heads_of(width, _HEAD_WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute the block.

        Args:
            tokens: (B, n, width).

        Returns:
            An array of the same shape.
        """
        count, length, _ = tokens.shape
        parts = self.queries_keys_values(self.norm(tokens)).view(count, length, 3, self._heads, -1)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(found)
        result: Tensor = tokens + self.feed_forward(tokens)
        return result
