"""Teaching by strokes: features of an image, a classifier of its voxels, and what a stroke or a click changes."""

from meduniseg_core.interactive.click import grow_at, lasso_mask, remove_at
from meduniseg_core.interactive.network_choice import NetworkChoice, choose_network
from meduniseg_core.interactive.quick_task import QuickTask
from meduniseg_core.interactive.strokes import Stroke, strokes_in
from meduniseg_core.interactive.taught import FeatureCache, ImageFeatures
from meduniseg_core.interactive.teacher import Teacher

__all__ = [
    "FeatureCache",
    "ImageFeatures",
    "NetworkChoice",
    "QuickTask",
    "Stroke",
    "Teacher",
    "choose_network",
    "grow_at",
    "lasso_mask",
    "remove_at",
    "strokes_in",
]
