"""What networks without deep supervision share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from meduniseg_core.model.features import Features
from meduniseg_core.model.universal import UniversalNetwork, with_depth


class OneHead(UniversalNetwork):
    """A network whose only head sees the decoder's last features."""

    head: nn.Conv2d | nn.Conv3d

    @property
    def levels(self) -> int:
        """Number of heads: one."""
        return 1

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the convolutions' weights, which their input must have."""
        return self.head.weight.dtype

    @override
    def decode(self, features: Features, task: Tensor | None = None, levels: int = 1) -> list[Tensor]:
        return [with_depth(self.head(self._finest(features)))]

    @override
    def decode_features(self, features: Features, task: Tensor | None = None) -> Tensor:
        return with_depth(self._finest(features))

    def _finest(self, features: Features) -> Tensor:
        """What the head is applied to."""
        return self.decoder.finest(features.stages[-1], features.stages[:-1])
