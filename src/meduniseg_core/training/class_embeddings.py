"""Embeddings of classes that the user gives to a Universal Model (docs/spec.md section 13); fixed, as in its paper."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import read_small
from meduniseg_core.model import UniversalNetwork
from meduniseg_core.model.baselines import UniversalModel
from meduniseg_core.model.baselines.universal_model import EMBEDDING
from meduniseg_core.structured_text import parse_json
from meduniseg_core.training.start import Start
from meduniseg_core.weights import ModelInfo

_MAX_BYTES = 256 << 20
_LARGEST = torch.finfo(torch.float32).max


class ClassEmbeddings(Start):
    """Starts a training with fixed embeddings of the classes: what a text encoder made of sentences about them.

    Args:
        path: a JSON file: an object with 512 numbers for every class, named TASK/CLASS.

    Raises:
        BadInputError: it is not such a file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        data = read_small(path, _MAX_BYTES)
        self._sha256 = hashlib.sha256(data).hexdigest()
        try:
            content = parse_json(data.decode("utf-8-sig"))
        except ValueError as error:
            raise BadInputError(
                f"{path}: is not JSON ({error}); write an object with numbers for TASK/CLASS."
            ) from error
        if not isinstance(content, dict) or not all(_is_embedding(value) for value in content.values()):
            raise BadInputError(
                f"{path}: is not an object with {EMBEDDING} finite numbers for every TASK/CLASS; write it so."
            )
        self._vectors: dict[str, list[float]] = content

    @property
    def identity(self) -> str:
        """The hash of the file's content."""
        return f"class embeddings {self._sha256}"

    def describe(self, info: ModelInfo) -> ModelInfo:
        """Describe the run's model; its provenance names the embeddings.

        Args:
            info: the model as the data sets require it.

        Returns:
            A changed copy.

        Raises:
            BadInputError: a class of a task has no embedding.
        """
        for plan in info.tasks:
            for name in plan.classes:
                if f"{plan.task}/{name}" not in self._vectors:
                    raise BadInputError(
                        f"{self._path}: has no embedding for {plan.task}/{name}; add {EMBEDDING} numbers for it."
                    )
        return info.model_copy(update={"provenance": {**info.provenance, "class_embeddings_sha256": self._sha256}})

    def load(self, network: UniversalNetwork, info: ModelInfo) -> None:
        """Put the embeddings into a fresh network and freeze them.

        Args:
            network: a `UniversalModel`; changed in place.
            info: its description.
        """
        assert isinstance(network, UniversalModel)  # TrainingConfig sees to it
        classes = network.config.classes - 1
        with torch.no_grad():
            for task, plan in enumerate(info.tasks):
                for number, name in enumerate(plan.classes):
                    row = network.embeddings[task * classes + number]
                    row.copy_(torch.tensor(self._vectors[f"{plan.task}/{name}"]))
        network.embeddings.requires_grad_(False)


def _is_embedding(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == EMBEDDING
        and all(type(one) in (int, float) and abs(one) <= _LARGEST for one in value)  # NaN is not
    )
