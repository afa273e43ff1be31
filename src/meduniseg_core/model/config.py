"""The architecture as data: the paper's network, smaller variants and its predecessor UniSeg."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Stride = tuple[int, int, int]


class ModelConfig(BaseModel):
    """Everything that fixes the network's shape (docs/spec.md sections 2-4).

    ``modalities = 0`` leaves MMap out (UniSeg); ``tasks = 0`` leaves FUSE out (downstream networks, plain backbone);
    both 0 is the bare backbone. ``dimension = 2`` is the 2D counterpart of the backbone (Conv2d modules).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: tuple[int, ...] = (32, 64, 128, 256, 320, 320)
    strides: tuple[Stride, ...] = ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    stems: tuple[int, ...] = (1, 2, 3, 4)
    classes: int = Field(
        default=4, ge=2, description="output channels: the largest class count of all tasks, with background"
    )
    dimension: Literal[2, 3] = 3

    modalities: int = Field(default=9, ge=0)
    modal_prompt_length: int = Field(default=512, ge=1)

    tasks: int = Field(default=17, ge=0)
    task_prompt_channels: int = Field(default=100, ge=1, description="K")
    task_prompt_size: tuple[int, int, int] = (4, 6, 6)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.strides) != len(self.features) - 1:
            raise ValueError("one stride for every encoder stage after the first")
        if not self.stems or list(self.stems) != sorted(set(self.stems)) or self.stems[0] < 1:
            raise ValueError("stems are distinct channel counts in rising order")
        if self.dimension == 2 and (self.modalities or self.tasks):
            raise ValueError("the 2D counterpart is a plain backbone: modalities = tasks = 0")
        return self

    @property
    def total_stride(self) -> Stride:
        """Down-sampling from image to bottleneck along (D, H, W)."""
        d = h = w = 1
        for sd, sh, sw in self.strides:
            d, h, w = d * sd, h * sh, w * sw
        return d, h, w


# The architectures whose parameter counts docs/spec.md section 2 fixes to the digit.
ARCHITECTURES: dict[str, ModelConfig] = {
    "backbone-3d": ModelConfig(stems=(3,), classes=2, modalities=0, tasks=0),
    "backbone-2d": ModelConfig(stems=(3,), classes=2, modalities=0, tasks=0, dimension=2),
    "downstream-siim": ModelConfig(stems=(3,), classes=2, modalities=1, tasks=0),
    "meduniseg": ModelConfig(),
    "uniseg": ModelConfig(stems=(1, 2, 4), modalities=0, tasks=11, task_prompt_channels=11),
}
