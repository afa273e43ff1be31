"""The backbone: encoder with several stems, decoder with a head at every level (docs/spec.md section 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from meduniseg_core.model.blocks import LEAK, ConvBlock, InstanceNorm, concatenated, make_conv, make_up_conv
from meduniseg_core.model.config import ModelConfig

Kernel = tuple[int, int, int]
FLAT_KERNEL: Kernel = (1, 3, 3)
CUBE_KERNEL: Kernel = (3, 3, 3)
Touch = Callable[[int, Tensor], Tensor]
"""Changes a decoder level's features, given the level's position, deepest first."""
Blocks = Callable[[int], nn.Module]
"""Makes what a decoder level of this width does with the up-sampled features beside the skip's (twice the width)."""


class Recomputed(nn.Module):
    """A part of the network that can compute its activations twice in training instead of keeping them."""

    recompute = False

    def _run(self, module: nn.Module, *inputs: Tensor) -> Tensor:
        if self.recompute and self.training and torch.is_grad_enabled():
            again: Tensor = checkpoint(module, *inputs, use_reentrant=False)
            return again
        once: Tensor = module(*inputs)
        return once


class Encoder(Recomputed):
    """Six stages of two blocks. The very first convolution exists once per number of input channels.

    Args:
        config: the architecture.
        kernel: of the first convolution.
        stages: other blocks, a module for each stage; None for the backbone's.
    """

    def __init__(
        self, config: ModelConfig, kernel: Kernel = FLAT_KERNEL, stages: Iterable[nn.Module] | None = None
    ) -> None:
        super().__init__()
        features, dimension = config.features, config.dimension

        def block(inputs: int, outputs: int, kernel: Kernel, stride: Kernel = (1, 1, 1)) -> ConvBlock:
            return ConvBlock(make_conv(dimension, inputs, outputs, kernel, stride), outputs)

        self.stems = nn.ModuleDict(
            {str(channels): make_conv(dimension, channels, features[0], kernel) for channels in config.stems}
        )
        self.stem_norm = InstanceNorm(features[0])
        if stages is None:
            own: list[nn.Module] = [nn.Sequential(block(features[0], features[0], FLAT_KERNEL))]
            for before, now, stride in zip(features[:-1], features[1:], config.strides, strict=True):
                own.append(nn.Sequential(block(before, now, CUBE_KERNEL, stride), block(now, now, CUBE_KERNEL)))
            stages = own
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

    def forward(self, images: Tensor | Sequence[Tensor], count: int | None = None) -> list[Tensor]:
        """Features of the six stages.

        Args:
            images: (B, C, ...), or a list of (C_i, ...).
            count: only so many of the finest stages; None for all.

        Returns:
            One tensor for each stage, finest first; the last of all is the bottleneck.
        """
        x = F.leaky_relu(self.stem_norm(self.stem(images)), LEAK, inplace=True)
        stages = []
        for stage in list(self.stages)[:count]:
            x = self._run(stage, x)
            stages.append(x)
        return stages


class DecoderLevel(nn.Module):
    """Up-sample, crop to the skip's size, concatenate, two blocks; and this level's head."""

    def __init__(
        self, config: ModelConfig, level: int, inputs: int, outputs: int, late: int, blocks: Blocks | None
    ) -> None:
        super().__init__()
        dimension, skip = config.dimension, config.features[level]
        self.up = make_up_conv(dimension, inputs, skip, config.strides[level])
        self.blocks = (
            nn.Sequential(
                ConvBlock(make_conv(dimension, 2 * skip, skip, CUBE_KERNEL), skip),
                ConvBlock(make_conv(dimension, skip, skip, CUBE_KERNEL), skip),
            )
            if blocks is None
            else blocks(skip)
        )
        self.head = make_conv(dimension, skip + late, outputs, (1, 1, 1), bias=False) if outputs else None

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


class Decoder(Recomputed):
    """Levels from the deepest to the finest.

    Args:
        config: the architecture.
        bottleneck: channels of the deepest input.
        outputs: channels that the heads give; None for the classes, 0 for no heads.
        late: channels that join the features of every level before its head.
        blocks: other blocks for the levels; None for the backbone's.
    """

    def __init__(
        self,
        config: ModelConfig,
        bottleneck: int,
        *,
        outputs: int | None = None,
        late: int = 0,
        blocks: Blocks | None = None,
    ) -> None:
        super().__init__()
        inputs = [bottleneck, *config.features[1:-1][::-1]]
        levels = range(len(config.features) - 2, -1, -1)
        given = config.classes if outputs is None else outputs
        self.levels = nn.ModuleList(
            DecoderLevel(config, level, channels, given, late, blocks)
            for level, channels in zip(levels, inputs, strict=True)
        )

    def finest(
        self, bottleneck: Tensor, skips: Sequence[Tensor], late: Tensor | None = None, touch: Touch | None = None
    ) -> Tensor:
        """What the last level's head would be applied to.

        Args:
            bottleneck: the encoder's last features, with the priors that join them there.
            skips: the features of the other stages, finest first.
            late: (B, channels, ...) on any grid, a prior that joins the features before the head.
            touch: changes each level's features.

        Returns:
            (B, features, ...) on the image's grid.
        """
        x = bottleneck
        for _, features in self._walk(bottleneck, skips, touch):
            x = features
        return x if late is None else _joined(x, late)

    def forward(
        self,
        bottleneck: Tensor,
        skips: Sequence[Tensor],
        levels: int,
        late: Tensor | None = None,
        touch: Touch | None = None,
    ) -> list[Tensor]:
        """Decode from the bottleneck to the finest level.

        Args:
            bottleneck: the encoder's last features, with the priors that join them there.
            skips: the features of the other stages, finest first.
            levels: how many of the finest levels' logits are wanted.
            late: (B, channels, ...) on any grid, a prior that joins the features before every head.
            touch: changes each level's features.

        Returns:
            Logits, finest first.
        """
        logits: list[Tensor] = []
        for position, (level, x) in enumerate(self._walk(bottleneck, skips, touch)):
            if position >= len(self.levels) - levels:
                head = level.get_submodule("head")
                logits.insert(0, head(x if late is None else _joined(x, late)))
        return logits

    def _walk(
        self, bottleneck: Tensor, skips: Sequence[Tensor], touch: Touch | None
    ) -> Iterator[tuple[nn.Module, Tensor]]:
        x = bottleneck
        for position, (level, skip) in enumerate(zip(self.levels, reversed(skips), strict=True)):
            x = self._run(level, x, skip)
            if touch is not None:
                x = touch(position, x)
            yield level, x


def _joined(x: Tensor, prior: Tensor) -> Tensor:
    """Features and a prior, interpolated to their grid."""
    size = tuple(x.shape[2:])
    if tuple(prior.shape[2:]) != size:
        mode = "bilinear" if x.dim() == 4 else "trilinear"
        prior = F.interpolate(prior, size=size, mode=mode, align_corners=False)
    return torch.cat((x, prior.to(x.dtype)), dim=1)
