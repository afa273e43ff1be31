"""Augmentation: nnU-Net's (docs/spec.md section 6), and what makes a network hold on other scanners and cameras.

One sample is read, transformed and changed by one generator; the same generator state gives the same bits.
"""

from meduniseg_core.training.augmentation.config import AugmentationConfig
from meduniseg_core.training.augmentation.patch import sample_maps, sample_patch
from meduniseg_core.training.augmentation.presets import for_task

__all__ = ["AugmentationConfig", "for_task", "sample_maps", "sample_patch"]
