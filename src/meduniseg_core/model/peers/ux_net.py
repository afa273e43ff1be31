"""3D UX-Net (Lee, Bao, Huo, Landman: "3D UX-Net: A Large Kernel Volumetric ConvNet Modernizing Hierarchical
Transformer for Medical Image Segmentation", ICLR 2023).

The paper's idea: what makes Swin UNETR good is less its attention than its wide view and its few mixing of channels,
and convolutions have both for less. So every block of the transformer becomes a depth-wise convolution of 7 x 7 x 7, a
norm over the channels, and in place of the two dense layers two that work on each channel by itself ("depth-wise
convolutional scaling": one channel to four, and back); what it computes is scaled, at first by almost nothing, and
added. Two blocks a stage, four stages at 1/2 to 1/16 of the image; between them a norm and a strided convolution. As in
Swin UNETR a residual block takes each stage (and the image itself) to the decoder: transposed convolutions, the skip,
a residual block, one more at full resolution, and one head.

Here as there, but for norms in the residual blocks that scale and shift, as all of this project's do (13,440 weights of
53.0 million). For volumes whose sides are multiples of 16; images of depth 1 cannot be halved.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from meduniseg_core.model.blocks import initialise
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.features import Features
from meduniseg_core.model.peers.channel_norm import ChannelNorm
from meduniseg_core.model.peers.lateral_blocks import LateralBlocks, residual_blocks, residual_decoder
from meduniseg_core.model.unet import Recomputed

_KERNEL, _EXPAND, _BLOCKS = 7, 4, 2
_FIRST_SCALE = 1e-6


class UXNet(LateralBlocks):
    """Large depth-wise kernels in the hierarchy of a Swin transformer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        residual, channels, widths = residual_blocks(config), config.stems[0], config.features
        self.hierarchy = _Hierarchy(channels, widths[:-1])
        self.laterals = nn.ModuleList(
            residual(inputs, outputs) for inputs, outputs in zip((channels, *widths[:-1]), widths, strict=True)
        )
        self.decoder = residual_decoder(config, widths[-1], residual)
        self.last = residual(widths[0], widths[0])
        self.head = nn.Conv3d(widths[0], config.classes, 1)
        self.apply(initialise)

    @override
    def _finest(self, features: Features) -> Tensor:
        x: Tensor = self.last(super()._finest(features))
        return x


class _Hierarchy(Recomputed):
    """The stages of large kernels, each normalised for the decoder."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        before = (channels, *widths[:-1])
        stem = nn.Sequential(nn.Conv3d(channels, widths[0], 7, 2, 3), _norm(widths[0]))
        self.down = nn.ModuleList(
            [
                stem,
                *(
                    nn.Sequential(_norm(inputs), nn.Conv3d(inputs, outputs, 2, 2))
                    for inputs, outputs in zip(before[1:], widths[1:], strict=True)
                ),
            ]
        )
        self.stages = nn.ModuleList(nn.Sequential(*(_Block(width) for _ in range(_BLOCKS))) for width in widths)
        self.norms = nn.ModuleList(_norm(width) for width in widths)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of the stages.

        Args:
            x: (B, C, D, H, W).

        Returns:
            One tensor for each stage, finest first, from half the image's size on.
        """
        found = []
        for down, stage, norm in zip(self.down, self.stages, self.norms, strict=True):
            x = self._run(stage, down(x))
            found.append(norm(x))
        return found


class _Block(nn.Module):
    """Depth-wise convolution, norm, and each channel's own expansion, scaled and added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv3d(width, width, _KERNEL, padding=_KERNEL // 2, groups=width)
        self.norm = _norm(width)
        self.expand = nn.Conv3d(width, _EXPAND * width, 1, groups=width)
        self.reduce = nn.Conv3d(_EXPAND * width, width, 1, groups=width)
        self.scale = nn.Parameter(torch.full((width,), _FIRST_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block.

        Args:
            x: (B, width, D, H, W).

        Returns:
            An array of the same shape.
        """
        change = self.reduce(F.gelu(self.expand(self.norm(self.depthwise(x)))))
        result: Tensor = x + (self.scale[:, None, None, None] * change).to(x.dtype)
        return result


def _norm(width: int) -> ChannelNorm:
    return ChannelNorm(width, eps=1e-6)
