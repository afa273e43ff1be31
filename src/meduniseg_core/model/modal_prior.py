"""MMap, the modal prior (docs/spec.md section 3; paper: "modal map"): tells the network the image's modality."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from meduniseg_core.model.blocks import random_normal

MAP_SIZE_2D = (12, 12)
MAP_SIZE_3D = (4, 6, 6)
PROMPT_NORM = 3.0
MAP_SPREAD = 0.3  # in units of the normalised image's spread


class ModalMap(nn.Module):
    """Learnable prompts of length ``l``, one per modality, turned into a smooth map that is added to the image.

    With ``learned = False`` all prompts are zero, and neither parameters nor stored.
    """

    def __init__(self, modalities: int, prompt_length: int, *, learned: bool = True) -> None:
        super().__init__()
        # A step of the optimizer moves the map by its rate times the prompt's squared length (and the linear's). With
        # entries of spread 1 that is l times too far: the maps grow to many times the image's own contrast. So prompts
        # are short, and the linear makes maps of spread 0.3 of them: seen from the start, without drowning the image.
        spread = PROMPT_NORM / prompt_length**0.5
        self.prompts = nn.Parameter(random_normal(modalities, prompt_length, spread=spread)) if learned else None
        self.linear = nn.Linear(prompt_length, MAP_SIZE_2D[0] * MAP_SIZE_2D[1])
        if not self.linear.weight.is_meta:
            nn.init.normal_(self.linear.weight, std=MAP_SPREAD / PROMPT_NORM)
            nn.init.zeros_(self.linear.bias)

    def forward(self, modality: Tensor, size: tuple[int, ...]) -> Tensor:
        """Compute each sample's map.

        Args:
            modality: (B,) int64, the indices of the prompts.
            size: the image's (H, W) or (D, H, W).

        Returns:
            (B, 1, H, W) or (B, 1, D, H, W), to be added to every channel of the image.
        """
        if self.prompts is None:
            prompts = self.linear.weight.new_zeros((len(modality), self.linear.in_features))
        else:
            prompts = self.prompts[modality]
        values: Tensor = self.linear(prompts)
        if len(size) == 2:
            grid = values.reshape(-1, 1, *MAP_SIZE_2D)
            return F.interpolate(grid, size=size, mode="bilinear", align_corners=False)
        grid = values.reshape(-1, 1, *MAP_SIZE_3D)
        return F.interpolate(grid, size=size, mode="trilinear", align_corners=False)
