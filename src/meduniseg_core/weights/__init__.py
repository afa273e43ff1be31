"""The model file, the registry of models and the importer of UniSeg's published checkpoint."""

from meduniseg_core.weights.info import ModelInfo
from meduniseg_core.weights.load import DEFAULT_MODEL, load_model
from meduniseg_core.weights.model_file import Model, StorageType, read_info, read_model, save_model
from meduniseg_core.weights.registry import Entry, Registry, Verification
from meduniseg_core.weights.uniseg import PLANNER_SPACINGS, Imported, UniSegOptions, UniSegTask, import_uniseg

__all__ = [
    "DEFAULT_MODEL",
    "PLANNER_SPACINGS",
    "Entry",
    "Imported",
    "Model",
    "ModelInfo",
    "Registry",
    "StorageType",
    "UniSegOptions",
    "UniSegTask",
    "Verification",
    "import_uniseg",
    "load_model",
    "read_info",
    "read_model",
    "save_model",
]
