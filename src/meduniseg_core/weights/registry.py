"""The installed models: those shipped with the program and those in the user's data folder."""

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
    """Models by name.

    Args:
        folder: by default ``models`` in the user's data folder (``MEDUNISEG_HOME`` overrides it).
        shipped: the folder of the models shipped with the program.
    """

    noun: ClassVar[str] = "model"

    def __init__(self, folder: Path | None = None, shipped: Path = SHIPPED) -> None:
        super().__init__(Path(folder) if folder is not None else user_folder() / "models", shipped)

    def read_info(self, path: Path) -> ModelInfo:
        """Read a model's description from its file's header.

        Args:
            path: the model file.

        Returns:
            The description.

        Raises:
            BadInputError: it is not a usable model file.
        """
        return read_info(path)

    def read(self, path: Path) -> Model:
        """Load a model from a file.

        Args:
            path: the model file.

        Returns:
            The model.

        Raises:
            BadInputError: it is not a usable model file.
        """
        return read_model(path)

    def save(
        self,
        info: ModelInfo,
        state_dict: Mapping[str, Tensor],
        dtype: StorageType = "fp32",
        *,
        replace: bool = False,
    ) -> StoredAsset:
        """Save a new model (trained, fine-tuned or imported) under ``info.name``.

        Args:
            info: the model's description.
            state_dict: weights that fit ``info.config`` exactly.
            dtype: the type they are stored in.
            replace: replace another model of this name.

        Returns:
            The installed model.

        Raises:
            UsageError: another model has this name already (unless ``replace``), or a shipped one has it.
            BadInputError: the weights do not fit or are not finite, or the folder cannot be written to.
        """
        with self._own.incoming() as temporary:
            save_model(temporary, info, state_dict, dtype)
            return self._adopt(temporary, info.name, None, replace)
