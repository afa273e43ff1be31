"""Soft Dice plus cross-entropy with a gradient of its own (docs/spec.md section 6).

Written as a sum of library functions, the loss keeps five arrays of the logits' size until its gradient is known; at
full resolution and with many classes they decide the peak of a training step. Both terms need only the probabilities:
one array is kept, and the gradient is a second one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SMOOTH = 1e-5
"""Added above and below Dice's fraction (nnU-Net's)."""


class DiceCE(torch.autograd.Function):
    """One less Dice's mean over foreground classes (and samples), plus the mean cross-entropy, in fp32.

    With ``p`` the probabilities, ``l`` a voxel's label, ``w`` its weight, and for each class ``I = sum of w p where
    l is the class`` and ``T = sum of w p + sum of w where l is the class``: Dice is ``(2 I + s) / (T + s)``.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, weights: Tensor | None, batch_dice: bool) -> Tensor:
        """Compute the loss.

        Args:
            ctx: keeps what the gradient needs.
            logits: (B, K, ...), any floating dtype.
            labels: int64 (B, ...).
            weights: (B, ...); None: all 1.
            batch_dice: pool the samples of the batch before the fraction is taken.

        Returns:
            A scalar in fp32.
        """
        log = logits.flatten(2).log_softmax(1, dtype=torch.float32)
        index = labels.flatten(1)[:, None]
        seen = None if weights is None else weights.flatten(1).float()
        entropy = -log.gather(1, index)[:, 0]
        if seen is None:
            count = torch.tensor(float(entropy.numel()), device=log.device)
            cross = entropy.mean()
        else:
            count = seen.sum().clamp(min=1)
            cross = (seen * entropy).sum() / count
        found = log.exp_()
        overlap, total = _sums(found, index[:, 0], seen)
        if batch_dice:
            overlap, total = overlap.sum(0, keepdim=True), total.sum(0, keepdim=True)
        dice = (2 * overlap + SMOOTH) / (total + SMOOTH)
        share = 1 / dice[:, 1:].numel()
        # of the loss by a probability: `of_total` everywhere, less `of_overlap` in the class's own voxels
        of_overlap = 2 * share / (total + SMOOTH)
        of_total = share * dice / (total + SMOOTH)
        of_overlap[:, 0] = of_total[:, 0] = 0
        ctx.save_for_backward(found, index, seen, of_overlap, of_total, count)
        ctx.given = logits.shape, logits.dtype
        return 1 - dice[:, 1:].mean() + cross

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        """Compute the gradient.

        Args:
            ctx: what was kept.
            upstream: of the loss, a scalar.

        Returns:
            The gradient of the logits, in their dtype, and None for what has none.
        """
        found, index, seen, of_overlap, of_total, count = ctx.saved_tensors
        shape, dtype = ctx.given
        batch = len(found)
        of_total, of_overlap = of_total.expand(batch, -1), of_overlap.expand(batch, -1)
        own = of_overlap.gather(1, index[:, 0]) * found.gather(1, index)[:, 0]
        # softmax: p (g - sum of g p); cross-entropy: p - 1 at the label
        with torch.autocast(device_type=found.device.type, enabled=False):
            mean = torch.bmm(of_total[:, None], found)[:, 0] - own
        gradient = (of_total[:, :, None] + (1 / count - mean)[:, None]).mul_(found)
        gradient.scatter_(1, index, gradient.gather(1, index) - (own + 1 / count)[:, None])
        if seen is not None:
            gradient *= seen[:, None]
        return (gradient.mul_(upstream)).view(shape).to(dtype), None, None, None


def _sums(found: Tensor, labels: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
    """Dice's overlaps and totals (B, K) of probabilities (B, K, V), labels (B, V) and weights (B, V)."""
    hits = found.gather(1, labels[:, None])[:, 0]
    overlap, size = [], []
    for label in range(found.shape[1]):  # one array of a channel's size at a time, and sums that round little
        here = labels == label
        overlap.append((torch.where(here, hits, 0) if seen is None else torch.where(here, hits * seen, 0)).sum(1))
        size.append(here.sum(1).float() if seen is None else torch.where(here, seen, 0).sum(1))
    expected = found.sum(2) if seen is None else torch.bmm(found, seen[:, :, None])[:, :, 0]
    return torch.stack(overlap, 1), expected + torch.stack(size, 1)
