"""Which images the networks take that halve them without cropping."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from meduniseg_core.model.config import ModelConfig


def whole(images: Tensor | Sequence[Tensor], config: ModelConfig) -> Tensor:
    """Check that the network's strides divide the images.

    Args:
        images: (B, C, D, H, W), or a list of (C, D, H, W).
        config: the architecture.

    Returns:
        (B, C, D, H, W).

    Raises:
        ValueError: they do not, or it is a network for 2D images and they are volumes.
    """
    volume = images if isinstance(images, Tensor) else torch.stack(list(images))
    sides, flat = tuple(volume.shape[2:]), config.dimension == 2
    depth, height, width = config.total_stride
    steps = (1 if flat else depth, height, width)
    if any(side % step for side, step in zip(sides, steps, strict=True)) or (flat and sides[0] > 1):
        takes = "images of depth 1" if flat else "volumes"
        raise ValueError(f"{config.method} takes {takes} whose sides are multiples of {steps}, not {sides}")
    return volume
