"""The model file, the registry of models and the importer of UniSeg's published checkpoint."""

from meduniseg_core.weights.info import ModelInfo
from meduniseg_core.weights.load import DEFAULT_MODEL, load_model
from meduniseg_core.weights.model_file import Model, StorageType, read_info, read_model, save_model
from meduniseg_core.weights.registry import Entry, Registry, Verification

__all__ = [
    "DEFAULT_MODEL",
    "Entry",
    "Model",
    "ModelInfo",
    "Registry",
    "StorageType",
    "Verification",
    "load_model",
    "read_info",
    "read_model",
    "save_model",
]
