"""FUSE, the task prior (docs/spec.md section 4), and its variant SEFU (section 10): the task as a feature map.

FUSE fuses one prompt with the features and then selects the task's channel; SEFU selects a prompt and then fuses.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meduniseg_core.model.blocks import Conv, ConvBlock, random_normal


@dataclass(frozen=True)
class FusionSize:
    """The sizes of FUSE or SEFU: ``features`` of the bottleneck, prompts of ``channels`` (K) on a grid of ``size``, and
    ``blocks``; the middle ones have 1 / ``divisor`` of all input channels. ``learned = False``: prompts stay zero."""

    features: int
    channels: int
    size: tuple[int, int, int]
    blocks: int = 3
    divisor: int = 4
    learned: bool = True


class _Fusion(nn.Module):
    """Prompts, and the blocks that fuse a prompt with features. Zero prompts are neither parameters nor stored."""

    def __init__(self, size: FusionSize, prompts: int, outputs: int) -> None:
        super().__init__()
        self._shape = (prompts, size.channels, *size.size)
        self.prompt = nn.Parameter(random_normal(*self._shape)) if size.learned else None
        channels = size.channels + size.features
        middle = max(1, channels // size.divisor)
        widths = [channels, *[middle] * (size.blocks - 1), outputs]
        self.blocks = nn.Sequential(
            *(ConvBlock(Conv(width, after, (3, 3, 3)), after) for width, after in itertools.pairwise(widths))
        )

    def _fused(self, bottleneck: Tensor, which: Tensor | None) -> Tensor:
        """Fuse each sample's features with its prompt on the prompt's grid; returns (B, outputs, ...) on their own."""
        size, own_size = self._shape[2:], tuple(bottleneck.shape[2:])
        features = bottleneck
        if own_size != size:
            features = F.interpolate(features, size=size, mode="trilinear", align_corners=False)
        if self.prompt is None:
            prompt = features.new_zeros((len(features), *self._shape[1:]))
        elif which is None:
            prompt = self.prompt.to(features.dtype).expand(len(features), *self._shape[1:])
        else:
            prompt = self.prompt[which].to(features.dtype)
        fused: Tensor = self.blocks(torch.cat((prompt, features), dim=1))
        if own_size != size:
            fused = F.interpolate(fused, size=own_size, mode="trilinear", align_corners=False)
        return fused


class Fuse(_Fusion):
    """Universal task prompt (K, d, h, w), fused with the bottleneck features into one prior channel per task."""

    def __init__(self, size: FusionSize, tasks: int) -> None:
        super().__init__(size, prompts=1, outputs=tasks)

    def forward(self, bottleneck: Tensor) -> Tensor:
        """Compute the priors of all tasks.

        Args:
            bottleneck: the encoder's last features, (B, C, D', H', W').

        Returns:
            (B, N, D', H', W'): a channel for each of the N tasks.
        """
        return self._fused(bottleneck, None)


class Sefu(_Fusion):
    """A prompt (K, d, h, w) for each task or modality; the selected one is fused with the bottleneck features."""

    def __init__(self, size: FusionSize, prompts: int) -> None:
        super().__init__(size, prompts, outputs=1)

    def forward(self, bottleneck: Tensor, which: Tensor) -> Tensor:
        """Compute each sample's prior.

        Args:
            bottleneck: the encoder's last features, (B, C, D', H', W').
            which: (B,) int64, the index of each sample's prompt.

        Returns:
            (B, 1, D', H', W').
        """
        return self._fused(bottleneck, which)


def select(priors: Tensor, task: Tensor) -> Tensor:
    """Select each sample's own prior, so that one batch may mix tasks.

    Args:
        priors: (B, N, ...), a channel for each task.
        task: (B,) int64, the sample's task.

    Returns:
        (B, 1, ...): channel ``task[b]`` of sample b.
    """
    samples = torch.arange(priors.shape[0], device=priors.device)
    return priors[samples, task].unsqueeze(1)
