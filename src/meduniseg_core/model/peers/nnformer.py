"""nnFormer (Zhou, Guo, Zhang et al.: "nnFormer: Volumetric Medical Image Segmentation via a 3D Transformer", IEEE TIP
2023).

The paper's idea: convolutions and attention take turns instead of one serving the other. Convolutions read the image in
patches of 2 x 4 x 4 and halve it between the stages, because they know places and details; in the stages, and in the
decoder's, transformer blocks attend inside windows, shifted in every second block, and at the two coarsest stages to
everything in reach (windows of 8 and 4, in an image of 64 x 128 x 128). A skip is attended to instead of joined: the
enlarged features ask, as they are, and the encoder's answer with keys and values. Each decoder level has a head that
enlarges its logits by the patch of the beginning.

Here as there (the sizes are those for Synapse), but without stochastic depth in training, and images of another size
keep the windows. For volumes whose sides are multiples of 16 x 32 x 32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from typing_extensions import override

from meduniseg_core.model.baselines.attention import heads_of
from meduniseg_core.model.blocks import Conv, UpConv, initialise
from meduniseg_core.model.config import ModelConfig, Stride
from meduniseg_core.model.features import Features
from meduniseg_core.model.peers.channel_norm import ChannelNorm
from meduniseg_core.model.peers.sizes import whole
from meduniseg_core.model.peers.windows import WindowBlock, WindowStage, channels_first, channels_last
from meduniseg_core.model.unet import CUBE_KERNEL, Recomputed
from meduniseg_core.model.universal import UniversalNetwork

_WINDOWS = (4, 4, 8, 4)  # of the stages, finest first


class NNFormer(UniversalNetwork, Recomputed):
    """Attention inside windows between convolutions, and to the skips."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        widths, (patch, *strides) = config.features[1:], config.strides
        self.embedding = _embedding(config.stems[0], widths[0], patch)
        self.stages = nn.ModuleList(
            WindowStage(width, window, heads_of(width)) for width, window in zip(widths, _WINDOWS, strict=False)
        )
        self.norms = nn.ModuleList(ChannelNorm(width) for width in widths)
        between = list(zip(widths[:-1], widths[1:], strides, strict=True))
        self.down = nn.ModuleList(
            nn.Sequential(nn.GELU(), ChannelNorm(fine), Conv(fine, coarse, CUBE_KERNEL, stride))
            for fine, coarse, stride in between
        )
        self.levels_up = nn.ModuleList(
            _Level(fine, coarse, stride, window)
            for (fine, coarse, stride), window in zip(between, _WINDOWS, strict=False)
        )
        self.heads = nn.ModuleList(UpConv(width, config.classes, patch, bias=True) for width in widths[:-1])
        self.apply(initialise)

    @property
    def levels(self) -> int:
        """Number of decoder levels, each with a head."""
        return len(self.heads)

    @override
    def encode(self, images: Tensor | Sequence[Tensor], modality: Tensor | None = None) -> Features:
        x = self.embedding(whole(images, self.config).to(next(self.embedding.parameters()).dtype))
        found = []
        for position, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            if position:
                x = self.down[position - 1](x)
            x = self._run(stage, x)
            found.append(norm(x))
        return Features(stages=tuple(found), priors=None)

    @override
    def decode(self, features: Features, task: Tensor | None = None, levels: int = 1) -> list[Tensor]:
        logits: list[Tensor] = []
        for position, x in self._decoded(features):
            if position < levels:
                logits.insert(0, self.heads[position](x))
        return logits

    @override
    def decode_features(self, features: Features, task: Tensor | None = None) -> Tensor:
        *_, (_, x) = self._decoded(features)
        for axis, step in enumerate(self.config.strides[0]):  # one voxel of them is a patch of the image
            x = x.repeat_interleave(step, dim=2 + axis)
        return x

    def _decoded(self, features: Features) -> Iterator[tuple[int, Tensor]]:
        """The decoder's levels by position, the finest last."""
        x = features.stages[-1]
        for position in range(len(self.levels_up) - 1, -1, -1):
            x = self._run(self.levels_up[position], x, features.stages[position])
            yield position, x


def _embedding(channels: int, width: int, patch: Stride) -> nn.Module:
    """Two strided convolutions, each followed by one more, that make a token of every patch."""
    first = (min(2, patch[0]), min(2, patch[1]), min(2, patch[2]))
    second = (patch[0] // first[0], patch[1] // first[1], patch[2] // first[2])
    half = width // 2
    return nn.Sequential(
        *(Conv(channels, half, CUBE_KERNEL, first), nn.GELU(), ChannelNorm(half)),
        *(Conv(half, half, CUBE_KERNEL), nn.GELU(), ChannelNorm(half)),
        *(Conv(half, width, CUBE_KERNEL, second), nn.GELU(), ChannelNorm(width)),
        *(Conv(width, width, CUBE_KERNEL), ChannelNorm(width)),
    )


class _Level(nn.Module):
    """Enlarges features; they attend to the encoder's, then to themselves with shifted windows."""

    def __init__(self, width: int, inputs: int, stride: Stride, window: int) -> None:
        super().__init__()
        self.norm, self.up = ChannelNorm(inputs), UpConv(inputs, width, stride, bias=True)
        self.first = WindowBlock(width, heads_of(width), window, shifted=False, queries=False)
        self.second = WindowBlock(width, heads_of(width), window, shifted=True)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Compute the level.

        Args:
            x: (B, inputs, ...), of the next coarser level.
            skip: (B, width, D, H, W), the encoder's features of this level.

        Returns:
            An array of the shape of ``skip``.
        """
        mine, theirs = channels_last(self.up(self.norm(x))), channels_last(skip)
        return channels_first(self.second(self.first.between(mine, theirs)), skip.dtype)
