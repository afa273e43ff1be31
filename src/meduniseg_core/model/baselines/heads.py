"""Heads whose weights are computed for each sample; the baselines have them in place of fixed heads."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

WIDTH = 8
"""Channels of the features that dynamic heads take, and of their hidden layers (DoDNet's, and Universal Model's)."""


def head_sizes(outputs: int) -> tuple[int, ...]:
    """List the widths of a dynamic head of three 1x1x1 convolutions.

    Args:
        outputs: channels of the last layer.

    Returns:
        Inputs of the first layer, then the outputs of each.
    """
    return WIDTH, WIDTH, WIDTH, outputs


def parameters_of(sizes: Sequence[int]) -> int:
    """Count the parameters of a dynamic head.

    Args:
        sizes: its widths, as from :func:`head_sizes`.

    Returns:
        Weights and biases of all layers.
    """
    return sum(after * (before + 1) for before, after in itertools.pairwise(sizes))


def dynamic_head(x: Tensor, parameters: Tensor, sizes: Sequence[int]) -> Tensor:
    """Apply 1x1x1 convolutions, with ReLUs between them, whose weights belong to the sample (and the class).

    Args:
        x: (B, channels, ...) features.
        parameters: (B, heads, n), with n from :func:`parameters_of`.
        sizes: the head's widths.

    Returns:
        (B, heads * outputs, ...).
    """
    found = x.flatten(2).unsqueeze(1)  # (B, 1, channels, voxels)
    parameters = parameters.to(x.dtype)
    first = 0
    for layer, (before, after) in enumerate(itertools.pairwise(sizes)):
        if layer:
            found = F.relu(found)
        last = first + before * after
        weight = parameters[..., first:last].reshape(*parameters.shape[:-1], after, before)
        bias = parameters[..., last : last + after].unsqueeze(-1)
        found = weight @ found + bias
        first = last + after
    return found.flatten(1, 2).reshape(len(x), -1, *x.shape[2:])


def class_masks(x: Tensor, kernels: Tensor) -> Tensor:
    """Compute the similarity of every voxel to every class: a 1x1x1 convolution whose kernels belong to the sample.

    Args:
        x: (B, channels, ...) features.
        kernels: (B, classes, channels).

    Returns:
        (B, classes, ...).
    """
    found = kernels.to(x.dtype) @ x.flatten(2)
    return found.reshape(len(x), -1, *x.shape[2:])


def with_background(classes: Tensor) -> Tensor:
    """Turn log-odds of foreground classes into logits: the background's is 0.

    With one class, the softmax of both is the class's sigmoid. With several, the most likely class wins where its
    log-odds are above 0, and the background elsewhere.

    Args:
        classes: (B, classes, ...) log-odds.

    Returns:
        (B, 1 + classes, ...) logits.
    """
    return torch.cat((torch.zeros_like(classes[:, :1]), classes), dim=1)


def pooled_features(x: Tensor) -> Tensor:
    """Average features over all voxels (global average pooling).

    Args:
        x: (B, C, ...).

    Returns:
        (B, C) in at least single precision, even if the convolutions' weights are in half precision.
    """
    whole = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    return whole.flatten(2).mean(2)


def head_classes(task: Tensor, classes: int) -> Tensor:
    """Number a task's foreground classes among those of all tasks.

    Args:
        task: (B,) int64.
        classes: foreground classes of the largest task.

    Returns:
        (B, classes) int64: task * classes + 0, 1, ...
    """
    return task[:, None] * classes + torch.arange(classes, device=task.device)
