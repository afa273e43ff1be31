"""Encoders that papers published after pre-training (the paper's Table 4), and what the backbone can take of them.

``published_encoders.toml`` lists them: architecture, source, licence, and how their files are read. Names that are
not known for certain are not guessed: the table says so, and the file is refused.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from meduniseg_core.importers.places import HEAD, Place, Placer, PlacerOf, stem_for

_GENESIS_STAGES = {"64": 0, "128": 1, "256": 2, "512": 3}


class PublishedEncoder(BaseModel):
    """One published encoder.

    ``layout`` is the reader's name for its weights where they are ``read``; ``note`` says what of them finds a place,
    or why nothing does. ``licence`` is the source's own statement, "not stated" where none was found.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    architecture: str
    source: str
    licence: str
    reading: Literal["read", "other architecture", "names unknown"]
    layout: str = ""
    note: str


@cache
def published_encoders() -> tuple[PublishedEncoder, ...]:
    """The table.

    Returns:
        One entry for each encoder, in the order of the paper's Table 4.
    """
    text = files("meduniseg_core.importers").joinpath("published_encoders.toml").read_text("utf-8")
    return tuple(PublishedEncoder.model_validate(entry) for entry in tomllib.loads(text)["encoder"])


def models_genesis(_tensors: Mapping[str, Tensor], levels: int) -> Placer:
    """Models Genesis and PCRLv2: a stage's two convolutions stand before the pooling and double the channels at the
    second one, so that this is the first of the backbone's next stage; their decoder's finest level is its second.

    Args:
        levels: of the backbone's decoder.

    Returns:
        Where each tensor goes.
    """

    def place(name: str, tensor: Tensor) -> Place:
        if name.startswith(("out_tr.", "sigmoid.")):
            return HEAD
        if match := re.fullmatch(r"down_tr(64|128|256|512)\.ops\.([01])\.conv1\.weight", name):
            stage = _GENESIS_STAGES[match[1]]
            if match[2] == "1":
                return f"encoder.stages.{stage + 1}.0.conv.weight"
            return f"encoder.stages.{stage}.1.conv.weight" if stage else stem_for(tensor)
        if match := re.fullmatch(r"up_tr(64|128|256)\.ops\.1\.conv1\.weight", name):
            return _level(levels, 1 + _GENESIS_STAGES[match[1]], 1)
        return None

    return place


def gvsl(_tensors: Mapping[str, Tensor], levels: int) -> Placer:
    """GVSL: a plain U-Net of the backbone's widths down to its fourth stage; features are enlarged by interpolation, so
    that no transposed convolution has a counterpart.

    Args:
        levels: of the backbone's decoder.

    Returns:
        Where each tensor goes.
    """

    def place(name: str, tensor: Tensor) -> Place:
        name = name.removeprefix("unet.")
        if match := re.fullmatch(r"inc\.double_conv\.([03])\.weight", name):
            return stem_for(tensor) if match[1] == "0" else "encoder.stages.0.0.conv.weight"
        if match := re.fullmatch(r"down([1-4])\.maxpool_conv\.1\.double_conv\.([03])\.weight", name):
            return f"encoder.stages.{match[1]}.{int(match[2]) // 3}.conv.weight"
        if match := re.fullmatch(r"up([1-4])\.conv\.double_conv\.([03])\.weight", name):
            return _level(levels, 4 - int(match[1]), int(match[2]) // 3)
        return None

    return place


def _level(levels: int, stage: int, block: int) -> Place:
    """A block of the decoder level at an encoder stage's resolution."""
    return f"decoder.levels.{levels - 1 - stage}.blocks.{block}.conv.weight" if stage < levels else None


LAYOUTS: tuple[tuple[str, str, PlacerOf], ...] = (
    ("Models Genesis", r"down_tr64\.ops\.", models_genesis),
    ("GVSL", r"(?:unet\.)?inc\.double_conv\.", gvsl),
)
"""A network's name, names that only it has, and how its weights find their places."""
