"""Model files and refinement packs, and the stores that hold them by name."""

from meduniseg_core.weights.active import ActiveModels, InUse
from meduniseg_core.weights.info import ModelInfo
from meduniseg_core.weights.load import DEFAULT_MODEL, find_model, load_model
from meduniseg_core.weights.model_file import Model, StorageType, read_info, read_model, save_model
from meduniseg_core.weights.pack_file import Pack, PackInfo, read_pack, read_pack_info, save_pack
from meduniseg_core.weights.pack_registry import PackRegistry
from meduniseg_core.weights.registry import Registry, StoredAsset, Verification

__all__ = [
    "DEFAULT_MODEL",
    "ActiveModels",
    "InUse",
    "Model",
    "ModelInfo",
    "Pack",
    "PackInfo",
    "PackRegistry",
    "Registry",
    "StorageType",
    "StoredAsset",
    "Verification",
    "find_model",
    "load_model",
    "read_info",
    "read_model",
    "read_pack",
    "read_pack_info",
    "save_model",
    "save_pack",
]
