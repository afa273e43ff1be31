"""U-Nets of any size for one task, as nnU-Net trains them, for inference only (no heads for deep supervision).

The blocks are the backbone's, so 2D images run through 2D kernels, and CPUs use channels-last layouts and the fast form
of InstanceNorm.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meduniseg_core.model.blocks import Conv, InstanceNorm, UpConv, initialise
from meduniseg_core.model.config import Stride
from meduniseg_core.model.features import Features
from meduniseg_core.model.unet_config import Kernel, UNetConfig

_ONE: Stride = (1, 1, 1)


class ConvNorm(nn.Module):
    """Convolution and InstanceNorm; with ``slope`` a leaky ReLU after them."""

    def __init__(
        self,
        config: UNetConfig,
        inputs: int,
        outputs: int,
        kernel: Kernel,
        stride: Stride = _ONE,
        *,
        bias: bool | None = None,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.conv = Conv(inputs, outputs, kernel, stride, config.bias if bias is None else bias)
        self.norm = InstanceNorm(outputs, config.norm_epsilon)
        self._slope = config.negative_slope if activate else None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise and, if so made, activate.

        Args:
            x: (B, C, D, H, W), or (B, C, H, W) for volumes of depth 1.

        Returns:
            Features at the convolution's stride.
        """
        x = self.norm(self.conv(x))
        return x if self._slope is None else F.leaky_relu(x, self._slope, inplace=True)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, which averages where the block is strided and projects where it widens."""

    def __init__(self, config: UNetConfig, inputs: int, outputs: int, kernel: Kernel, stride: Stride) -> None:
        super().__init__()
        self.first = ConvNorm(config, inputs, outputs, kernel, stride)
        self.second = ConvNorm(config, outputs, outputs, kernel, activate=False)
        self.projection = (
            ConvNorm(config, inputs, outputs, _ONE, bias=False, activate=False) if inputs != outputs else None
        )
        self._stride = stride
        self._slope = config.negative_slope

    def forward(self, x: Tensor) -> Tensor:
        """Add two convolutions to the shortcut.

        Args:
            x: (B, C, D, H, W), or (B, C, H, W) for volumes of depth 1.

        Returns:
            Features at the block's stride.
        """
        out = self.second(self.first(x))
        if self._stride != _ONE:
            x = _average(x, self._stride)
        if self.projection is not None:
            x = self.projection(x)
        return F.leaky_relu(out.add_(x), self._slope, inplace=True)


def _average(x: Tensor, stride: Stride) -> Tensor:
    """Average at a stride; what is left over of an odd size counts, as it does for the strided convolution."""
    sides = x.shape[2:]
    steps = stride[-len(sides) :]
    kernel = [min(step, side) for step, side in zip(steps, sides, strict=True)]
    if x.dim() == 4:
        return F.avg_pool2d(x, kernel, steps, ceil_mode=True)
    if x.dtype == torch.bfloat16 and x.device.type == "cpu":  # torch 2.13 has no such kernel
        return F.avg_pool3d(x.float(), kernel, steps, ceil_mode=True).bfloat16()
    return F.avg_pool3d(x, kernel, steps, ceil_mode=True)


class UNet(nn.Module):
    """One U-Net for one task. ``encode`` and ``decode`` are those of `MedUniSeg`."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, residual = config.features, config.encoder == "residual"
        self.stem = ConvNorm(config, config.channels, widths[0], config.kernels[0]) if residual else None
        inputs = widths[0] if residual else config.channels
        stages = []
        for width, kernel, stride, count in zip(
            widths, config.kernels, config.strides, config.encoder_blocks, strict=True
        ):
            block = ResidualBlock if residual else ConvNorm
            first = block(config, inputs, width, kernel, stride)
            stages.append(nn.Sequential(first, *(block(config, width, width, kernel, _ONE) for _ in range(count - 1))))
            inputs = width
        self.stages = nn.ModuleList(stages)
        ups, levels = [], []
        for position, count in enumerate(config.decoder_blocks):
            level = len(widths) - 2 - position
            width, kernel = widths[level], config.kernels[level]
            ups.append(UpConv(widths[level + 1], width, config.strides[level + 1], config.bias))
            first = ConvNorm(config, 2 * width, width, kernel)
            levels.append(nn.Sequential(first, *(ConvNorm(config, width, width, kernel) for _ in range(count - 1))))
        self.ups = nn.ModuleList(ups)
        self.levels = nn.ModuleList(levels)
        self.head = Conv(widths[0], config.classes, _ONE)
        self.apply(initialise)

    def encode(self, images: Tensor, modality: Tensor | None = None) -> Features:
        """Run the encoder.

        Args:
            images: (B, C, D, H, W).
            modality: not needed.

        Returns:
            Features of all stages, finest first.
        """
        x = (images.squeeze(2) if images.shape[2] == 1 else images).to(self.head.weight.dtype)
        if self.stem is not None:
            x = self.stem(x)
        stages = []
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        return Features(stages=tuple(stages), priors=None)

    def decode(self, features: Features, task: Tensor | None = None, levels: int = 1) -> list[Tensor]:
        """Run the decoder.

        Args:
            features: what :meth:`encode` gave.
            task: not needed.
            levels: 1: there are no heads for deep supervision.

        Returns:
            One tensor of logits (B, classes, D, H, W).

        Raises:
            ValueError: more than one level.
        """
        if levels != 1:
            raise ValueError("this network has one head")
        logits: Tensor = self.head(self._finest(features))
        return [logits.unsqueeze(2) if logits.dim() == 4 else logits]

    def decode_features(self, features: Features, task: Tensor | None = None) -> Tensor:
        """What the head would make logits of.

        Args:
            features: what :meth:`encode` gave.
            task: not needed.

        Returns:
            (B, features, D, H, W).
        """
        x = self._finest(features)
        return x.unsqueeze(2) if x.dim() == 4 else x

    def _finest(self, features: Features) -> Tensor:
        x = features.stages[-1]
        for up, blocks, skip in zip(self.ups, self.levels, reversed(features.stages[:-1]), strict=True):
            assert isinstance(up, UpConv)
            x = blocks(up.join(x, skip))
        return x

    def forward(self, images: Tensor) -> Tensor:
        """Encode and decode.

        Args:
            images: (B, C, D, H, W).

        Returns:
            Logits (B, classes, D, H, W).
        """
        return self.decode(self.encode(images))[0]


class UNetEnsemble(nn.Module):
    """``config.members`` U-Nets of one shape, usually one; their logits are averaged."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(UNet(config) for _ in range(config.members))

    @property
    def parts(self) -> Sequence[UNet]:
        """The members."""
        return [member for member in self.members if isinstance(member, UNet)]

    def forward(self, images: Tensor) -> Tensor:
        """Run one member after the other.

        Args:
            images: (B, C, D, H, W).

        Returns:
            The members' mean logits (B, classes, D, H, W).
        """
        first, *others = self.parts
        logits: Tensor = first(images)
        for member in others:
            logits = logits + member(images)
        return logits / len(self.parts)
