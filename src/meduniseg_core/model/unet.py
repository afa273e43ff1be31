"""The backbone: encoder with several stems, decoder with a head at every level (docs/spec.md section 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meduniseg_core.model.blocks import LEAK, ConvBlock, InstanceNorm, concatenated, make_conv, make_up_conv
from meduniseg_core.model.config import ModelConfig

Kernel = tuple[int, int, int]
FLAT_KERNEL: Kernel = (1, 3, 3)
CUBE_KERNEL: Kernel = (3, 3, 3)


class Encoder(nn.Module):
    """Six stages of two blocks. The very first convolution exists once per number of input channels."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        features, dimension = config.features, config.dimension

        def block(inputs: int, outputs: int, kernel: Kernel, stride: Kernel = (1, 1, 1)) -> ConvBlock:
            return ConvBlock(make_conv(dimension, inputs, outputs, kernel, stride), outputs)

        self.stems = nn.ModuleDict(
            {str(channels): make_conv(dimension, channels, features[0], FLAT_KERNEL) for channels in config.stems}
        )
        self.stem_norm = InstanceNorm(features[0])
        stages: list[nn.Module] = [nn.Sequential(block(features[0], features[0], FLAT_KERNEL))]
        for before, now, stride in zip(features[:-1], features[1:], config.strides, strict=True):
            stages.append(nn.Sequential(block(before, now, CUBE_KERNEL, stride), block(now, now, CUBE_KERNEL)))
        self.stages = nn.ModuleList(stages)

    def stem(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """The first convolution, by the samples' channel counts.

        Args:
            images: (B, C, ...), or a list of (C_i, ...) whose channel counts differ.

        Returns:
            (B, features, ...).

        Raises:
            ValueError: there is no stem for so many channels.
        """
        if isinstance(images, Tensor):
            result: Tensor = self._stem_of(images.shape[1])(images)
            return result
        outputs: list[Tensor | None] = [None] * len(images)
        for channels in sorted({sample.shape[0] for sample in images}):
            members = [index for index, sample in enumerate(images) if sample.shape[0] == channels]
            out = self._stem_of(channels)(torch.stack([images[index] for index in members]))
            for position, index in enumerate(members):
                outputs[index] = out[position]
        return torch.stack([out for out in outputs if out is not None])

    def stem_dtype(self) -> torch.dtype:
        """The dtype of the convolutions' weights, which their input must have.

        Returns:
            The dtype.
        """
        return next(iter(self.stems.parameters())).dtype

    def _stem_of(self, channels: int) -> nn.Module:
        key = str(channels)
        if key not in self.stems:
            raise ValueError(f"this network has stems for {', '.join(self.stems)} channels, not for {channels}")
        return self.stems[key]

    def forward(self, images: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Features of the six stages.

        Args:
            images: (B, C, ...), or a list of (C_i, ...).

        Returns:
            One tensor for each stage, finest first; the last is the bottleneck.
        """
        x = F.leaky_relu(self.stem_norm(self.stem(images)), LEAK, inplace=True)
        stages = []
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        return stages


class DecoderLevel(nn.Module):
    """Up-sample, crop to the skip's size, concatenate, two blocks; and this level's head."""

    def __init__(self, config: ModelConfig, level: int, inputs: int) -> None:
        super().__init__()
        dimension, skip = config.dimension, config.features[level]
        self.up = make_up_conv(dimension, inputs, skip, config.strides[level])
        self.blocks = nn.Sequential(
            ConvBlock(make_conv(dimension, 2 * skip, skip, CUBE_KERNEL), skip),
            ConvBlock(make_conv(dimension, skip, skip, CUBE_KERNEL), skip),
        )
        self.head = make_conv(dimension, skip, config.classes, (1, 1, 1), bias=False)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Features of this level; the head is applied by the decoder, where its logits are wanted.

        Args:
            x: features of the next coarser level.
            skip: the encoder's features of this level.

        Returns:
            Features on the grid of ``skip``.
        """
        result: Tensor = self.blocks(concatenated(self.up(x), skip))
        return result


class Decoder(nn.Module):
    """Levels from the deepest to the finest."""

    def __init__(self, config: ModelConfig, bottleneck: int) -> None:
        super().__init__()
        inputs = [bottleneck, *config.features[1:-1][::-1]]
        levels = range(len(config.features) - 2, -1, -1)
        self.levels = nn.ModuleList(
            DecoderLevel(config, level, channels) for level, channels in zip(levels, inputs, strict=True)
        )

    def finest(self, bottleneck: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """The last level's features, to which its head would be applied.

        Args:
            bottleneck: the encoder's last features, with the task prior where there is one.
            skips: the features of the other stages, finest first.

        Returns:
            (B, features, ...) on the image's grid.
        """
        x = bottleneck
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            x = level(x, skip)
        return x

    def forward(self, bottleneck: Tensor, skips: Sequence[Tensor], levels: int) -> list[Tensor]:
        """Decode from the bottleneck to the finest level.

        Args:
            bottleneck: the encoder's last features, with the task prior where there is one.
            skips: the features of the other stages, finest first.
            levels: how many of the finest levels' logits are wanted.

        Returns:
            Logits, finest first.
        """
        x = bottleneck
        logits: list[Tensor] = []
        for position, (level, skip) in enumerate(zip(self.levels, reversed(skips), strict=True)):
            x = level(x, skip)
            if position >= len(self.levels) - levels:
                head = level.get_submodule("head")
                logits.insert(0, head(x))
        return logits
