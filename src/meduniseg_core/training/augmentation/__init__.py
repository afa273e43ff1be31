"""Augmentation: nnU-Net's (docs/spec.md section 6), and changes that make a network robust to other devices.

One generator decides everything about a sample; the same generator state gives the same bits.
"""

from meduniseg_core.training.augmentation.config import AugmentationConfig
from meduniseg_core.training.augmentation.on_device import DrawnSample, draw_sample
from meduniseg_core.training.augmentation.patch import sample_maps, sample_patch
from meduniseg_core.training.augmentation.presets import for_task

__all__ = ["AugmentationConfig", "DrawnSample", "draw_sample", "for_task", "sample_maps", "sample_patch"]
