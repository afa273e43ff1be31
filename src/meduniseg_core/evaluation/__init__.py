"""How good a segmentation is: metrics with a stated policy for empty masks, and reports."""

from meduniseg_core.evaluation.metrics import (
    EMPTY_MASK_POLICY,
    SurfaceDistances,
    dice,
    hausdorff95,
    surface_dice,
    surface_distances,
    weighted_dice,
)

__all__ = [
    "EMPTY_MASK_POLICY",
    "SurfaceDistances",
    "dice",
    "hausdorff95",
    "surface_dice",
    "surface_distances",
    "weighted_dice",
]
