"""The models on this machine: those shipped with the program and those in the user's data folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from meduniseg_core.paths import user_folder
from meduniseg_core.weights import store
from meduniseg_core.weights.info import ModelInfo
from meduniseg_core.weights.model_file import Model, StorageType, read_info, read_model, save_model
from meduniseg_core.weights.store import AssetStore, Verification

__all__ = ["SHIPPED", "Registry", "StoredAsset", "Verification"]

SHIPPED = Path(__file__).resolve().parent / "shipped"

StoredAsset = store.StoredAsset[ModelInfo]


class Registry(AssetStore[ModelInfo, Model]):
    """Models by name. ``folder`` defaults to ``models`` in the user's data folder (``MEDUNISEG_HOME`` overrides it)."""

    noun: ClassVar[str] = "model"

    def __init__(self, folder: Path | None = None, shipped: Path = SHIPPED) -> None:
        super().__init__(Path(folder) if folder is not None else user_folder() / "models", shipped)

    def read_info(self, path: Path) -> ModelInfo:
        """The description in a model file's header."""
        return read_info(path)

    def read(self, path: Path) -> Model:
        """A model file."""
        return read_model(path)

    def save(
        self,
        info: ModelInfo,
        state_dict: Mapping[str, Tensor],
        dtype: StorageType = "fp32",
        *,
        replace: bool = False,
    ) -> StoredAsset:
        """Save a new model (trained, fine-tuned or imported from elsewhere) under ``info.name``."""
        with self._incoming() as temporary:
            save_model(temporary, info, state_dict, dtype)
            return self._adopt(temporary, info.name, None, replace)
