"""What networks share that begin with a stride and have a head at each size of their decoder."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from meduniseg_core.model.features import Features
from meduniseg_core.model.universal import UniversalNetwork, with_depth


class StridedHeads(UniversalNetwork):
    """A network whose finest features are smaller than the image: its first head's logits are enlarged.

    ``heads`` are the one for the image's size and those of the decoder's levels, the finest first.
    """

    heads: nn.ModuleList

    @override
    def decode(self, features: Features, task: Tensor | None = None, levels: int = 1) -> list[Tensor]:
        logits: list[Tensor] = []
        for level, x in self._decoded(features):
            if level + 1 < levels:
                logits.insert(0, with_depth(self.heads[level + 1](x)))
            if level == 0:
                logits.insert(0, with_depth(self._enlarged(self.heads[0](x))))
        return logits

    @override
    def decode_features(self, features: Features, task: Tensor | None = None) -> Tensor:
        *_, (_, x) = self._decoded(features)
        return with_depth(self._enlarged(x))

    def _decoded(self, features: Features) -> Iterator[tuple[int, Tensor]]:
        """The decoder's levels by position, the finest last."""
        raise NotImplementedError

    def _enlarged(self, x: Tensor) -> Tensor:
        """To the image's size."""
        steps = self.config.strides[0][-(x.dim() - 2) :]
        return F.interpolate(x, scale_factor=steps, mode="bilinear" if x.dim() == 4 else "trilinear")
