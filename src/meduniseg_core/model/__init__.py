"""The network: architecture as data, blocks, priors, assembly; and where and how precisely it runs."""

from meduniseg_core.model.compute import autocast, optimised_for, resolve_device, resolve_precision
from meduniseg_core.model.config import ARCHITECTURES, ModelConfig
from meduniseg_core.model.features import Features
from meduniseg_core.model.meduniseg import MedUniSeg
from meduniseg_core.model.networks import Network, NetworkConfig, build_model, count_parameters
from meduniseg_core.model.plain_unet import UNet, UNetEnsemble
from meduniseg_core.model.unet_config import UNetConfig
from meduniseg_core.model.universal import UniversalNetwork

__all__ = [
    "ARCHITECTURES",
    "Features",
    "MedUniSeg",
    "ModelConfig",
    "Network",
    "NetworkConfig",
    "UNet",
    "UNetConfig",
    "UNetEnsemble",
    "UniversalNetwork",
    "autocast",
    "build_model",
    "count_parameters",
    "optimised_for",
    "resolve_device",
    "resolve_precision",
]
