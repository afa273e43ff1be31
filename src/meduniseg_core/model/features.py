"""The features that an encoder passes to a decoder."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Features:
    """The encoder's output for a batch; any number of tasks can be decoded from it.

    ``stages`` are the features of the stages, finest first, (B, C, D, H, W), or (B, C, H, W) for images of depth 1.
    ``priors`` are the task priors (B, N, ...) on the bottleneck's grid; None in networks without such priors.
    ``context`` is what else a network's decoder needs: a modal prior on the bottleneck's grid, class queries.
    """

    stages: tuple[Tensor, ...]
    priors: Tensor | None
    context: Tensor | None = None
