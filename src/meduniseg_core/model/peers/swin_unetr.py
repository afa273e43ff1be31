"""Swin UNETR (Hatamizadeh, Nath, Tang et al.: "Swin UNETR: Swin Transformers for Semantic Segmentation of Brain Tumors
in MRI Images", BrainLes 2021).

The paper's idea: a transformer that attends inside shifted windows and merges voxels between its stages has features of
every size at a cost that grows with the volume, so it can be a U-Net's encoder and see further than convolutions.
Patches of 2 x 2 x 2 become tokens; four stages of two blocks; after each, the eight voxels of a cube become one, twice
as wide. What each stage begins with, and what the last one is merged to, is normalised without weights and goes through
a residual block to a decoder of convolutions, as does the image itself: transposed convolutions, the skip, a residual
block; one head.

Here as in the authors' program, which leaves out the residual block of the second coarsest features, but for norms in
the residual blocks that scale and shift, as all of this project's do, merges that take every voxel once, and padding
that is not attended to. For volumes whose sides are multiples of 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meduniseg_core.model.baselines.attention import heads_of
from meduniseg_core.model.blocks import initialise
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.peers.lateral_blocks import LateralBlocks, residual_blocks, residual_decoder
from meduniseg_core.model.peers.windows import WindowStage, channels_first, channels_last
from meduniseg_core.model.unet import Recomputed

HEAD_WIDTH, _WINDOW = 16, 7


class SwinUNETR(LateralBlocks):
    """A Swin transformer as the encoder of a U-Net."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        residual, channels, widths = residual_blocks(config), config.stems[0], config.features
        self.hierarchy = _Hierarchy(channels, widths[1:])
        self.laterals = nn.ModuleList(
            nn.Identity() if position == len(widths) - 2 else residual(inputs, outputs)
            for position, (inputs, outputs) in enumerate(zip((channels, *widths[1:]), widths, strict=True))
        )
        self.decoder = residual_decoder(config, widths[-1], residual)
        self.head = nn.Conv3d(widths[0], config.classes, 1)
        self.apply(initialise)


class _Hierarchy(Recomputed):
    """The transformer: what each of its stages begins with, and what the last one's end is merged to."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.embedding = nn.Conv3d(channels, widths[0], 2, 2)
        self.stages = nn.ModuleList(WindowStage(width, _WINDOW, heads_of(width, HEAD_WIDTH)) for width in widths[:-1])
        self.merges = nn.ModuleList(_Merge(inputs, outputs) for inputs, outputs in pairwise(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of every size.

        Args:
            x: (B, C, D, H, W).

        Returns:
            One tensor for each width, finest first, from half the image's size on.
        """
        x = self.embedding(x)
        found = [_normalised(x)]
        for stage, merge in zip(self.stages, self.merges, strict=True):
            x = merge(self._run(stage, x))
            found.append(_normalised(x))
        return found


class _Merge(nn.Module):
    """Makes one voxel of a cube of eight."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm, self.reduce = nn.LayerNorm(8 * inputs), nn.Linear(8 * inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Merge.

        Args:
            x: (B, inputs, D, H, W), sides even.

        Returns:
            (B, outputs, D / 2, H / 2, W / 2).
        """
        voxels = channels_last(x)
        corners = [voxels[:, d::2, h::2, w::2] for d in (0, 1) for h in (0, 1) for w in (0, 1)]
        return channels_first(self.reduce(self.norm(torch.cat(corners, dim=-1))), x.dtype)


def _normalised(x: Tensor) -> Tensor:
    voxels = channels_last(x)
    return channels_first(F.layer_norm(voxels, voxels.shape[-1:]), x.dtype)
