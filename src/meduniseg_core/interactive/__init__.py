"""Teaching by strokes: features of an image, a classifier of its voxels, and what a stroke or a click changes."""

from meduniseg_core.interactive.click import grow_at, remove_at
from meduniseg_core.interactive.quick_task import QuickTask
from meduniseg_core.interactive.taught import FeatureCache, ImageFeatures
from meduniseg_core.interactive.teacher import Stroke, Teacher

__all__ = ["FeatureCache", "ImageFeatures", "QuickTask", "Stroke", "Teacher", "grow_at", "remove_at"]
