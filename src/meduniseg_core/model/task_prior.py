"""FUSE, the task prior (docs/spec.md section 4): tells the network what to segment."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meduniseg_core.model.blocks import Conv, ConvBlock, random_normal


class Fuse(nn.Module):
    """Universal task prompt (K, d, h, w), fused with the bottleneck features into one prior channel per task."""

    def __init__(self, features: int, prompt_channels: int, prompt_size: tuple[int, int, int], tasks: int) -> None:
        super().__init__()
        self.prompt = nn.Parameter(random_normal(1, prompt_channels, *prompt_size))
        channels = prompt_channels + features
        middle = max(1, channels // 4)
        kernel = (3, 3, 3)
        self.blocks = nn.Sequential(
            ConvBlock(Conv(channels, middle, kernel), middle),
            ConvBlock(Conv(middle, middle, kernel), middle),
            ConvBlock(Conv(middle, tasks, kernel), tasks),
        )

    def forward(self, bottleneck: Tensor) -> Tensor:
        """The priors of all tasks.

        Args:
            bottleneck: the encoder's last features, (B, C, D', H', W').

        Returns:
            (B, N, D', H', W'): a channel for each of the N tasks.
        """
        size = tuple(self.prompt.shape[2:])
        own_size = tuple(bottleneck.shape[2:])
        features = bottleneck
        if own_size != size:
            features = F.interpolate(features, size=size, mode="trilinear", align_corners=False)
        prompt = self.prompt.to(features.dtype).expand(features.shape[0], *self.prompt.shape[1:])
        priors: Tensor = self.blocks(torch.cat((prompt, features), dim=1))
        if own_size != size:
            priors = F.interpolate(priors, size=own_size, mode="trilinear", align_corners=False)
        return priors


def select(priors: Tensor, task: Tensor) -> Tensor:
    """Each sample's own prior, so that one batch may mix tasks.

    Args:
        priors: (B, N, ...), a channel for each task.
        task: (B,) int64, the sample's task.

    Returns:
        (B, 1, ...): channel ``task[b]`` of sample b.
    """
    samples = torch.arange(priors.shape[0], device=priors.device)
    return priors[samples, task].unsqueeze(1)
