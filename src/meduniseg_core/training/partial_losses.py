"""The loss of a part of a batch, such that the parts' gradients add up to the gradient of the whole batch.

A part is a process's share of the samples, or the samples that pass the network together. Dice of pooled samples and
voxel weights couple the samples of a batch: the sums over the whole batch are given, and only this part's contribution
to them has a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from meduniseg_core.training.dice_ce import SMOOTH
from meduniseg_core.training.losses import binary_entropy, downsample_labels


@dataclass(frozen=True)
class WholeBatch:
    """What a part must know about its batch: the number of samples, and the sums of :func:`pooled` over all parts (None
    if neither Dice is pooled nor voxels are weighted)."""

    samples: int
    sums: Tensor | None


def pooled(
    outputs: Sequence[Tensor], labels: Tensor, class_count: int, weights: Tensor | None, *, binary: bool = False
) -> Tensor:
    """Sum over a part's voxels; the sums are to be added up over all parts.

    Args:
        outputs: logits (B, K, d, h, w) of the levels that enter the loss, finest first.
        labels: int64 (B, D, H, W).
        class_count: the number of channels that take part.
        weights: (B, D, H, W), of the voxels; None for 1.
        binary: every class is a question of its own (`binary_dice_ce`).

    Returns:
        float32 (levels, 2 * foreground classes + 1): Dice's overlaps and totals by class, and the sum of the weights.
    """
    rows = []
    for logits in outputs:
        here, seen = _on_level(logits, labels, weights)
        with torch.autocast(device_type=logits.device.type, enabled=False):
            overlap, total = _class_sums(logits[:, :class_count].float(), here, seen, binary)
            count = torch.as_tensor(float(here.numel()), device=overlap.device) if seen is None else seen.sum()
            rows.append(torch.cat((overlap.sum(0), total.sum(0), count[None])))
    return torch.stack(rows).detach()


def partial_loss(
    outputs: Sequence[Tensor],
    labels: Tensor,
    class_count: int,
    whole: WholeBatch,
    *,
    level_weights: Sequence[float],
    batch_dice: bool,
    weights: Tensor | None,
    binary: bool = False,
) -> Tensor:
    """Compute a part's contribution to `deep_supervision_loss` of the whole batch.

    Args:
        outputs: logits (B, K, d, h, w) of the levels that enter the loss, finest first.
        labels: int64 (B, D, H, W).
        class_count: the number of channels that take part.
        whole: the batch that the part belongs to.
        level_weights: one for each level.
        batch_dice: pool all samples of the batch before the fraction is taken.
        weights: (B, D, H, W), of the voxels; None for 1.
        binary: every class is a question of its own (`binary_dice_ce`).

    Returns:
        A scalar in fp32. Over all parts of a batch, its values add up to the loss of the batch and its gradients to
        the gradient of that loss.
    """
    result = torch.zeros((), device=labels.device)
    for level, (logits, level_weight) in enumerate(zip(outputs, level_weights, strict=True)):
        here, seen = _on_level(logits, labels, weights)
        with torch.autocast(device_type=logits.device.type, enabled=False):
            own = logits[:, :class_count].float()
            entropy = binary_entropy(own, here) if binary else functional.cross_entropy(own, here, reduction="none")
            if seen is None:
                entropy = entropy.sum() / (whole.samples * here[0].numel())
            else:
                assert whole.sums is not None
                entropy = (seen * entropy).sum() / whole.sums[level, -1].clamp(min=1)
            overlap, total = _class_sums(own, here, seen, binary)
            if batch_dice:
                assert whole.sums is not None
                classes = class_count - 1
                overlap = _valued(overlap.sum(0), whole.sums[level, :classes])
                total = _valued(total.sum(0), whole.sums[level, classes:-1])
                dice = (1 - (2 * overlap + SMOOTH) / (total + SMOOTH)).mean()
                # the value is divided by samples, the gradient stays as it is
                dice = _valued(dice, dice * (len(labels) / whole.samples))
            else:
                dice = (1 - (2 * overlap + SMOOTH) / (total + SMOOTH)).mean(1).sum() / whole.samples
            result = result + level_weight * (dice + entropy)
    return result


def _on_level(logits: Tensor, labels: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | None]:
    size = logits.shape[2:]
    return downsample_labels(labels, size), None if weights is None else downsample_labels(weights, size)


def _class_sums(logits: Tensor, labels: Tensor, weights: Tensor | None, binary: bool) -> tuple[Tensor, Tensor]:
    """Overlap and total of the Dice of each sample and foreground class, both (B, classes)."""
    found = (logits.sigmoid() if binary else logits.softmax(dim=1))[:, 1:]
    classes = torch.arange(1, logits.shape[1], device=labels.device).view(1, -1, 1, 1, 1)
    truth = (labels.unsqueeze(1) == classes).to(found.dtype)
    if weights is not None:
        found, truth = found * weights.unsqueeze(1), truth * weights.unsqueeze(1)
        inside = (labels.unsqueeze(1) == classes).to(found.dtype)
    else:
        inside = truth
    axes = (2, 3, 4)
    return (found * inside).sum(axes), found.sum(axes) + truth.sum(axes)


def _valued(tensor: Tensor, value: Tensor) -> Tensor:
    """``value``, with the gradient of ``tensor``."""
    return value.detach() + (tensor - tensor.detach())
