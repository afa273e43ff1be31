"""What an encoder hands to a decoder."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Features:
    """What the encoder knows of a batch; any number of tasks can be decoded from it.

    ``stages``: the stages' features, finest first, (B, C, D, H, W), or (B, C, H, W) for images of depth 1.
    ``priors``: the task priors (B, N, ...) on the bottleneck's grid; None in networks without task priors.
    """

    stages: tuple[Tensor, ...]
    priors: Tensor | None
