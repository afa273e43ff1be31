"""U-Mamba_Bot (Ma, Li, Wang: "U-Mamba: Enhancing Long-range Dependency for Biomedical Image Segmentation", 2024).

The paper's idea: convolutions see what is near and attention pays for what is far with the square of the number of
voxels; a state space model carries what is far at linear cost. So nnU-Net's U-Net gets residual blocks, and at its
bottleneck (the variant "Bot"; "Enc" has one at every stage) the features are read as a sequence, in the order in which
the voxels lie in memory, normalised, and passed through a Mamba block, whose result takes their place: the block's own
gate is the only way around it. All else is nnU-Net's: deep supervision, loss, features, strides.

Here, with what the paper leaves to nnU-Net's plans: kernels of (3, 3, 3) everywhere; an encoder of one convolution and
two residual blocks a stage (the shortcut averages, then projects); decoder levels of a transposed convolution and one
residual block. That has the 48.2 million parameters that are reported for it, at the backbone's features; with two
residual blocks a level, as in the authors' first program, it would have 58 million, and as in their present one 42. In
2D all kernels and strides are flat. The Mamba block computes in single precision at least, as in their program.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from meduniseg_core.model.baselines.attention import attended_features, tokens_of
from meduniseg_core.model.blocks import initialise
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.features import Features
from meduniseg_core.model.peers.mamba import Mamba
from meduniseg_core.model.peers.residual import unet_of
from meduniseg_core.model.plain_unet import ResidualBlock
from meduniseg_core.model.unet import Decoder, Encoder
from meduniseg_core.model.universal import UniversalNetwork, flattened, with_depth

_ENCODER_BLOCKS = 2


class UMambaBot(UniversalNetwork):
    """A residual U-Net with a Mamba block at its bottleneck."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        shape = unet_of(config)
        # the 2D form has flat kernels in three-dimensional modules, as an imported U-Net has
        modules = config.model_copy(update={"dimension": 3, "strides": shape.strides[1:]})
        kernel = shape.kernels[0]
        stages, inputs = [], config.features[0]
        for width, stride in zip(config.features, shape.strides, strict=True):
            first = ResidualBlock(shape, inputs, width, kernel, stride)
            rest = (ResidualBlock(shape, width, width, kernel, (1, 1, 1)) for _ in range(_ENCODER_BLOCKS - 1))
            stages.append(nn.Sequential(first, *rest))
            inputs = width
        self.encoder = Encoder(modules, kernel, stages)
        self.norm, self.mamba = nn.LayerNorm(inputs), Mamba(inputs)
        self.decoder = Decoder(
            modules, inputs, blocks=lambda width: ResidualBlock(shape, 2 * width, width, kernel, (1, 1, 1))
        )
        self.apply(initialise)

    @override
    def encode(self, images: Tensor | Sequence[Tensor], modality: Tensor | None = None) -> Features:
        *stages, bottleneck = self._stages(flattened(images))
        with torch.autocast(bottleneck.device.type, enabled=False):
            tokens: Tensor = self.mamba(self.norm(tokens_of(bottleneck)))
        return Features(stages=(*stages, attended_features(tokens, bottleneck)), priors=None)

    @override
    def decode(self, features: Features, task: Tensor | None = None, levels: int = 1) -> list[Tensor]:
        return [with_depth(level) for level in self.decoder(features.stages[-1], features.stages[:-1], levels)]
