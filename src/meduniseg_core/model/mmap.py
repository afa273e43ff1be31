"""MMap, the modal prior (SPEC section 3; paper: "modal map"): which kind of scanner the image comes from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAP_SIZE_2D = (12, 12)
MAP_SIZE_3D = (4, 6, 6)


class ModalMap(nn.Module):
    """Learnable prompts of length ``l``, one per modality, drawn as a smooth map that is added to the image."""

    def __init__(self, modalities: int, prompt_length: int) -> None:
        super().__init__()
        self.prompts = nn.Parameter(torch.randn(modalities, prompt_length))
        self.linear = nn.Linear(prompt_length, MAP_SIZE_2D[0] * MAP_SIZE_2D[1])

    def forward(self, modality: Tensor, size: tuple[int, ...]) -> Tensor:
        """Maps for ``modality`` (B,): (B, 1, H, W) for a 2D ``size`` (H, W), (B, 1, D, H, W) for (D, H, W)."""
        values = self.linear(self.prompts[modality])
        if len(size) == 2:
            grid = values.reshape(-1, 1, *MAP_SIZE_2D)
            return F.interpolate(grid, size=size, mode="bilinear", align_corners=False)
        grid = values.reshape(-1, 1, *MAP_SIZE_3D)
        return F.interpolate(grid, size=size, mode="trilinear", align_corners=False)
