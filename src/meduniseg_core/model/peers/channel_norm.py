"""LayerNorm over the channels of features."""

from __future__ import annotations

from torch import Tensor, nn

from meduniseg_core.model.baselines.attention import attended_features, tokens_of


class ChannelNorm(nn.LayerNorm):
    """Normalises every voxel over its channels, in single precision at least."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            x: (B, width, ...).

        Returns:
            An array of the same shape and dtype.
        """
        return attended_features(super().forward(tokens_of(x)), x)
