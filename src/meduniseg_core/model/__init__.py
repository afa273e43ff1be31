"""The network: architecture as data, blocks, priors, assembly; and where and how precisely it runs."""

from meduniseg_core.model.compute import autocast, optimised_for, resolve_device, resolve_precision
from meduniseg_core.model.config import ARCHITECTURES, ModelConfig
from meduniseg_core.model.meduniseg import Features, MedUniSeg, build_model, count_parameters

__all__ = [
    "ARCHITECTURES",
    "Features",
    "MedUniSeg",
    "ModelConfig",
    "autocast",
    "build_model",
    "count_parameters",
    "optimised_for",
    "resolve_device",
    "resolve_precision",
]
