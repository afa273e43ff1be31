"""Inference: a predictor session, the sliding window, fallbacks where memory is short, and one call for all."""

from meduniseg_core.images.boxes import Box
from meduniseg_core.inference.memory import Estimate
from meduniseg_core.inference.predictor import Predictor
from meduniseg_core.inference.segmentation import ClassRow, Segmentation
from meduniseg_core.inference.shortcut import segment

__all__ = ["Box", "ClassRow", "Estimate", "Predictor", "Segmentation", "segment"]
