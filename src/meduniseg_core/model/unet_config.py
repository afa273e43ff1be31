"""U-Nets of any size as data: nnU-Net's PlainConvUNet and ResidualEncoderUNet, in 2D and 3D."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from meduniseg_core.model.config import Stride

Kernel = tuple[int, int, int]
Count = Annotated[int, Field(ge=1)]


class UNetConfig(BaseModel):
    """Everything that fixes the shape of a U-Net for one task.

    Kernels and strides are given along (D, H, W), one per encoder stage; ``dimension = 2`` has depth 1 in all of them.
    ``encoder`` "plain": every stage is ``encoder_blocks`` convolutions, the first of them strided. "residual": a stem
    of one convolution, then stages of residual blocks of two convolutions (ResNet-D: the shortcut averages, then
    projects). The decoder's stages are given from the deepest to the finest. ``members``: networks of this shape, with
    weights of their own (the folds of a cross-validation), whose logits are averaged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: Literal["plain", "residual"]
    dimension: Literal[2, 3]
    channels: Count = Field(description="of the input")
    classes: Count = Field(description="output channels: classes with background, or regions")
    features: tuple[Count, ...] = Field(min_length=2)
    kernels: tuple[Kernel, ...]
    strides: tuple[Stride, ...]
    encoder_blocks: tuple[Count, ...]
    decoder_blocks: tuple[Count, ...]
    bias: bool = True
    norm_epsilon: float = Field(default=1e-5, gt=0, le=1, allow_inf_nan=False)
    negative_slope: float = Field(default=0.01, ge=0, le=1, description="of the leaky ReLU; 0: a ReLU")
    members: Count = 1

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        stages = len(self.features)
        if not len(self.kernels) == len(self.strides) == len(self.encoder_blocks) == stages:
            raise ValueError("features, kernels, strides and encoder_blocks need one entry per stage")
        if len(self.decoder_blocks) != stages - 1:
            raise ValueError("decoder_blocks need one entry per stage but the deepest")
        if any(size < 1 or size % 2 == 0 for kernel in self.kernels for size in kernel):
            raise ValueError("kernels have odd sizes")
        if any(step < 1 for stride in self.strides for step in stride) or self.strides[0] != (1, 1, 1):
            raise ValueError("strides are at least 1, and the first stage has none")
        if self.dimension == 2 and any(sizes[0] != 1 for sizes in (*self.kernels, *self.strides)):
            raise ValueError("a 2D network has kernels and strides of depth 1")
        return self

    @property
    def total_stride(self) -> Stride:
        """Down-sampling from image to bottleneck along (D, H, W)."""
        d, h, w = (math.prod(stride[axis] for stride in self.strides) for axis in range(3))
        return d, h, w

    @property
    def stems(self) -> tuple[int, ...]:
        """The channel counts that the network takes: one."""
        return (self.channels,)

    @property
    def modalities(self) -> int:
        """Modal prompts: none."""
        return 0

    @property
    def tasks(self) -> int:
        """Task prompts: none."""
        return 0
