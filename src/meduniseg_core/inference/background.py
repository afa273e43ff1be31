"""Which windows hold no body: air is most of a CT, and nothing is segmented there."""

from __future__ import annotations

import torch
from torch import Tensor

from meduniseg_core.preprocessing.plan import TaskPlan

AIR_HU = -950.0
"""Below this a CT voxel is air, not lung (parenchyma is denser, down to severe emphysema)."""

_TOLERANCE = 1e-3  # in standard deviations: what resampling may add to a constant


class BackgroundDetector:
    """Tells windows that hold only background of a normalised image (C, D, H, W).

    Background is: of a CT channel, what lies at the lower clipping value or below -950 HU; of a skull-stripped one, the
    0 outside the mask; of any other, exactly the image's smallest value, the constant in which files hide what was not
    imaged. In a ``stack`` of slices that were normalised one by one every slice has its own smallest value.
    A noisy background is not skipped: too much is computed rather than anything missed.
    """

    def __init__(self, data: Tensor, plan: TaskPlan, stack: bool = False) -> None:
        self._masked = [kind == "zscore_nonzero" for kind in plan.normalisation]
        ceilings = []
        for channel, kind, figures in zip(data, plan.normalisation, plan.figures, strict=True):
            if kind == "ct" and figures is not None:
                floor = (max(figures.percentile_00_5, AIR_HU) - figures.mean) / figures.std
                ceilings.append(torch.full((1,), floor))
            else:
                ceilings.append(channel.amin(dim=(1, 2)) if stack else channel.amin().reshape(1))
        self._ceilings = ceilings

    def __call__(self, image: Tensor, where: tuple[slice, ...]) -> bool:
        """Whether ``image[:, *where]`` is background in every channel."""
        for channel, masked, ceiling in zip(image, self._masked, self._ceilings, strict=True):
            content = channel[where]
            if masked:
                if content.count_nonzero():
                    return False
                continue
            limit = ceiling[where[0]] if ceiling.numel() > 1 else ceiling
            if bool((content.amax(dim=(1, 2)) > limit + _TOLERANCE).any()):
                return False
        return True
