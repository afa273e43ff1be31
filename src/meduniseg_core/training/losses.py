"""Dice plus cross-entropy at every decoder level (docs/spec.md section 6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from meduniseg_core.training.dice_ce import SMOOTH, DiceCE


def deep_supervision_weights(levels: int) -> tuple[float, ...]:
    """Weights of the decoder levels: 1, 1/2, 1/4, ..., 0 for the coarsest, summing to 1 (docs/spec.md section 6).

    Args:
        levels: how many; a single one has weight 1.

    Returns:
        The weights, finest level first.

    Raises:
        ValueError: less than one level.
    """
    if levels < 1:
        raise ValueError(f"deep supervision needs at least one level, not {levels}")
    raw = [0.5**level for level in range(levels)]
    if levels > 1:
        raw[-1] = 0.0
    total = sum(raw)
    return tuple(weight / total for weight in raw)


def dice_ce(
    logits: Tensor, labels: Tensor, class_count: int, weights: Tensor | None = None, *, batch_dice: bool = False
) -> Tensor:
    """Soft Dice loss (mean over foreground classes and samples) plus mean cross-entropy (docs/spec.md section 6).

    Args:
        logits: (B, K, D, H, W), any floating dtype.
        labels: int64 (B, D, H, W), values below ``class_count``.
        class_count: only so many channels take part in the softmax; the others get no gradient.
        weights: (B, D, H, W): a voxel of weight 2 counts twice in the sums of the Dice fraction and in the mean of the
            cross-entropy, one of weight 0 not at all; None for 1 everywhere.
        batch_dice: pools a batch's samples before the fraction is taken (nnU-Net: for 2D and for small patches).

    Returns:
        A scalar in fp32; 0 if all weights are 0.

    Raises:
        ValueError: the shapes do not fit, or ``class_count`` is not in 2..K.
    """
    _check(logits, labels, class_count, weights)
    # bf16 sums over 10^5 voxels are off by percents: leave autocast for the loss
    with torch.autocast(device_type=logits.device.type, enabled=False):
        loss: Tensor = DiceCE.apply(logits[:, :class_count], labels, weights, batch_dice)  # type: ignore[no-untyped-call]
    return loss


def binary_dice_ce(
    logits: Tensor, labels: Tensor, class_count: int, weights: Tensor | None = None, *, batch_dice: bool = False
) -> Tensor:
    """Soft Dice loss plus binary cross-entropy, each class against everything else (docs/spec.md section 13).

    Args:
        logits: (B, K, D, H, W): log-odds of the classes from channel 1 on; channel 0 takes no part.
        labels: int64 (B, D, H, W).
        class_count: only the classes below it take part: the others get no gradient ("masked back-propagation").
        weights: (B, D, H, W), as in :func:`dice_ce`.
        batch_dice: pool a batch's samples before the fraction is taken.

    Returns:
        A scalar in fp32.

    Raises:
        ValueError: ``class_count`` is not in 2..K, or the shapes do not fit.
    """
    _check(logits, labels, class_count, weights)
    with torch.autocast(device_type=logits.device.type, enabled=False):
        own = logits[:, :class_count].float()
        truth = functional.one_hot(labels, class_count).movedim(-1, 1)[:, 1:].to(own.dtype)
        counts = (torch.ones_like(labels, dtype=own.dtype) if weights is None else weights).unsqueeze(1)
        entropy = binary_entropy(own, labels).unsqueeze(1)
        found, axes = own[:, 1:].sigmoid(), (0, 2, 3, 4) if batch_dice else (2, 3, 4)
        overlap, total = (counts * found * truth).sum(axes), (counts * (found + truth)).sum(axes)
        dice = (2 * overlap + SMOOTH) / (total + SMOOTH)
        return (1 - dice).mean() + (counts * entropy).sum() / counts.sum().clamp(min=1)


def _check(logits: Tensor, labels: Tensor, class_count: int, weights: Tensor | None) -> None:
    if not 2 <= class_count <= logits.shape[1]:
        raise ValueError(f"class_count {class_count} does not lie between 2 and the {logits.shape[1]} output channels")
    if logits.shape[:1] + logits.shape[2:] != labels.shape:
        raise ValueError(f"logits of shape {tuple(logits.shape)} do not fit labels of shape {tuple(labels.shape)}")
    if weights is not None and weights.shape != labels.shape:
        raise ValueError(f"weights of shape {tuple(weights.shape)} do not fit labels of shape {tuple(labels.shape)}")


def binary_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of each voxel, the mean over foreground classes.

    Args:
        logits: (B, classes, D, H, W): log-odds from channel 1 on; channel 0 takes no part.
        labels: int64 (B, D, H, W).

    Returns:
        (B, D, H, W).
    """
    odds = logits[:, 1:]
    truth = functional.one_hot(labels, logits.shape[1]).movedim(-1, 1)[:, 1:].to(odds.dtype)
    return functional.binary_cross_entropy_with_logits(odds, truth, reduction="none").mean(dim=1)


def downsample_labels(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Labels, or voxel weights, on the grid of a coarser decoder level.

    Nearest neighbour at the lower corner: an encoder stage's strided convolution is centred on every second voxel,
    starting with the first.

    Args:
        labels: (B, D, H, W).
        size: the level's grid (d, h, w).

    Returns:
        (B, d, h, w): every ``D / d``-th voxel.
    """
    for axis, target in enumerate(size, start=1):
        source = labels.shape[axis]
        if target == source:
            continue
        if source % target == 0:
            step = source // target
            picked: list[slice] = [slice(None)] * labels.ndim
            picked[axis] = slice(None, None, step)
            labels = labels[tuple(picked)]
        else:
            index = (torch.arange(target, device=labels.device) * source) // target
            labels = labels.index_select(axis, index)
    return labels


def deep_supervision_loss(
    outputs: Sequence[Tensor],
    labels: Tensor,
    class_count: int,
    *,
    weights: Sequence[float] | None = None,
    batch_dice: bool = False,
    voxel_weights: Tensor | None = None,
    binary: bool = False,
) -> Tensor:
    """Weighted sum of :func:`dice_ce` over decoder levels.

    Args:
        outputs: logits (B, K, d, h, w) of every level, finest first.
        labels: int64 (B, D, H, W) on the finest grid; for coarser levels see :func:`downsample_labels`.
        class_count: the number of channels that take part.
        weights: one per level, by default :func:`deep_supervision_weights`; levels of weight 0 are not computed.
        batch_dice: see :func:`dice_ce`.
        voxel_weights: (B, D, H, W), see :func:`dice_ce`.
        binary: every class is a question of its own: :func:`binary_dice_ce`.

    Returns:
        A scalar in fp32.

    Raises:
        ValueError: there are not as many weights as outputs, or all of them are 0.
    """
    if weights is None:
        weights = deep_supervision_weights(len(outputs))
    total: Tensor | None = None
    for logits, weight in zip(outputs, weights, strict=True):
        if weight == 0:
            continue
        size = logits.shape[2:]
        here = downsample_labels(labels, size)
        seen = None if voxel_weights is None else downsample_labels(voxel_weights, size)
        kernel = binary_dice_ce if binary else dice_ce
        loss = kernel(logits, here, class_count, seen, batch_dice=batch_dice)
        total = weight * loss if total is None else total + weight * loss
    if total is None:
        raise ValueError("deep supervision needs at least one level of non-zero weight")
    return total
