"""Image-level classifiers: a head on what a frozen network shows of an image, in a JSON file of its own.

A head belongs to one model (by its sha256) and one of its tasks, whose prompts it uses. Everything is bounded and
finite: a file may come from a stranger.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import write_text
from meduniseg_core.structured_text import json_text
from meduniseg_core.validation import read_as
from meduniseg_core.weights.calibration import Name, Number, Positive

Inputs = Literal["features", "features and logits"]
"""What a head sees: the encoder's features and the task prior, pooled; or also what the logits of each class show."""

_LARGEST = 1 << 24  # bytes


class ClassifierHead(BaseModel):
    """``softmax(bias + weights . (inputs - centre) / scale)`` over ``classes``; the first class's row is 0 of two."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["meduniseg-classifier"] = "meduniseg-classifier"
    format_version: Literal[1] = 1
    model: Name
    model_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    task: Name
    features_version: int = Field(ge=1, description="of the features' meaning (`quality.features.VERSION`)")
    inputs: Inputs
    classes: tuple[Name, ...] = Field(min_length=2, max_length=100)
    centre: tuple[Number, ...] = Field(min_length=1, max_length=1 << 14)
    scale: tuple[Positive, ...]
    weights: tuple[tuple[Number, ...], ...]
    bias: tuple[Number, ...]
    provenance: dict[str, Any] = Field(default_factory=dict, description="data set, images, strength, scores, version")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("a class is named once")
        if len(self.scale) != len(self.centre) or any(len(row) != len(self.centre) for row in self.weights):
            raise ValueError("centre, scale and each row of weights are of one length")
        if not len(self.classes) == len(self.weights) == len(self.bias):
            raise ValueError("each class has a row of weights and a bias")
        return self

    @property
    def sha256(self) -> str:
        """The sha256 of its file as :func:`write_head` writes it: results name the head by it."""
        return hashlib.sha256(_text(self).encode()).hexdigest()


def write_head(head: ClassifierHead, path: Path) -> None:
    """Write a head, replacing an earlier one, but no other file.

    Args:
        head: the head.
        path: the file; its name ends in ``.json``.

    Raises:
        UsageError: the file is there and is no head.
        UnwritableError: it cannot be written.
    """
    check_place_of_head(path)
    write_text(path, _text(head))


def check_place_of_head(path: Path) -> None:
    """Refuse to replace what is no head.

    Args:
        path: where a head is to be written.

    Raises:
        UsageError: something else is there.
    """
    if not os.path.lexists(path):
        return
    try:
        read_head(path)
    except BadInputError:
        raise UsageError(f"{path} exists already and is not a head; choose another name.") from None


def read_head(path: Path) -> ClassifierHead:
    """Read a head.

    Args:
        path: the file.

    Returns:
        The head.

    Raises:
        BadInputError: it is no head, or a damaged one; the file is named.
    """
    return read_as(path, ClassifierHead, "a classifier's head", "give one of 'classify-fit'", _LARGEST)


def _text(head: ClassifierHead) -> str:
    return json_text(head.model_dump(mode="json"))
