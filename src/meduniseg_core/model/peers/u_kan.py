"""U-KAN (Li, Liu, Li et al.: "U-KAN Makes Strong Backbone for Medical Image Segmentation and Generation", AAAI 2025).

The paper's idea: what a U-Net learns between its fixed non-linearities is linear; a Kolmogorov-Arnold network learns
the functions themselves, one on every edge, and can be looked into. So the U-Net keeps its convolutions where the image
is large (three stages of two, each halved by pooling), and at 1/16 and 1/32 the features become tokens (a convolution
with stride 2, a norm over channels), which a block of three KAN layers changes, each followed by a depth-wise
convolution, norm and ReLU, so that neighbours meet. The decoder convolves, enlarges, adds the stage of that size to the
result, and has such a block again at 1/16 and 1/8.

Here as there, but for the norms of the convolutions: of each image, as in all networks here, not of the batch, so that
a gradient does not depend on how a batch is divided. The widths are those of the paper's main results (6.36 million
parameters). For 2D images whose sides are multiples of 32.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from meduniseg_core.model.baselines.attention import attended_features, tokens_of
from meduniseg_core.model.blocks import InstanceNorm, initialise
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.features import Features
from meduniseg_core.model.peers.channel_norm import ChannelNorm
from meduniseg_core.model.peers.kan import KANLayer
from meduniseg_core.model.peers.one_head import OneHead
from meduniseg_core.model.peers.sizes import whole
from meduniseg_core.model.unet import Recomputed

_CONVOLVED = 3  # stages of convolutions, before those of tokens
_LAYERS = 3


class UKAN(OneHead, Recomputed):
    """Convolutions at large sizes, Kolmogorov-Arnold networks on tokens at small ones."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        last, *widths = config.features  # of the decoder's last level, at the image's size, and of the stages
        before = (config.stems[0], *widths[:-1])
        self.stages = nn.ModuleList(
            _convolutions(inputs, outputs, outputs) if stage < _CONVOLVED else _tokens(inputs, outputs)
            for stage, (inputs, outputs) in enumerate(zip(before, widths, strict=True))
        )
        after = (last, *widths[:-1])
        self.levels_up = nn.ModuleList(
            _convolutions(inputs, inputs, outputs) for inputs, outputs in zip(widths, after, strict=True)
        )
        self.mixers = nn.ModuleList(
            nn.Sequential(_KANBlock(width), ChannelNorm(width)) for width in widths[_CONVOLVED - 1 : -1]
        )
        self.head = nn.Conv2d(last, config.classes, 1)
        self.apply(initialise)

    @override
    def encode(self, images: Tensor | Sequence[Tensor], modality: Tensor | None = None) -> Features:
        x = whole(images, self.config).squeeze(2).to(self.dtype)
        found = []
        for position, stage in enumerate(self.stages):
            x = self._run(stage, x)
            if position < _CONVOLVED:
                x = F.max_pool2d(x, 2)
            found.append(x)
        return Features(stages=tuple(found), priors=None)

    @override
    def _finest(self, features: Features) -> Tensor:
        x = features.stages[-1]
        for position in range(len(features.stages) - 1, -1, -1):
            x = F.interpolate(self._run(self.levels_up[position], x), scale_factor=2, mode="bilinear")
            if position:
                x = x + features.stages[position - 1]
            if position >= _CONVOLVED:
                x = self._run(self.mixers[position - _CONVOLVED], x)
        return x


def _convolutions(inputs: int, middle: int, outputs: int) -> nn.Module:
    first, second = nn.Conv2d(inputs, middle, 3, padding=1), nn.Conv2d(middle, outputs, 3, padding=1)
    return nn.Sequential(first, InstanceNorm(middle), nn.ReLU(), second, InstanceNorm(outputs), nn.ReLU())


def _tokens(inputs: int, width: int) -> nn.Module:
    halved = nn.Conv2d(inputs, width, 3, 2, 1)
    return nn.Sequential(halved, ChannelNorm(width), _KANBlock(width), ChannelNorm(width))


class _KANBlock(nn.Module):
    """Three KAN layers on every token, each followed by a depth-wise convolution of their neighbourhood."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.kans = nn.ModuleList(KANLayer(width, width) for _ in range(_LAYERS))
        self.mixes = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, groups=width), InstanceNorm(width), nn.ReLU())
            for _ in range(_LAYERS)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block.

        Args:
            x: (B, width, H, W).

        Returns:
            An array of the same shape.
        """
        change = self.norm(x)
        for kan, mix in zip(self.kans, self.mixes, strict=True):
            change = mix(attended_features(kan(tokens_of(change)), x))
        result: Tensor = x + change
        return result
