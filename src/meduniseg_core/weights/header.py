"""Reads and checks the header of a safetensors file before anything in it is trusted.

safetensors itself compares every length with the file's real size, so a file that claims more than it holds is refused
without allocating memory. This module adds bounds of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from safetensors import SafetensorError, safe_open

from meduniseg_core.errors import BadInputError, message_of

MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 100_000
MAX_DIMENSIONS = 8
DTYPES = ("F32", "F16", "BF16")
_LENGTH_BYTES = 8
_REMEDY = "get the file again from where it came"

# safetensors' words and ours; what is not in this table is passed on
_REASONS = {
    "header too small": "it is too short",
    "header too large": "its header is longer than the file or than any model's header",
    "invalid header length": "its header is longer than the file or than any model's header",
    "not fully covered": "its tensors should take more or fewer bytes than they take (a broken download?)",
    "invalid offset": "its tensors overlap or leave gaps",
    "invalid shape": "a tensor does not have the size its shape says",
    "overflow": "a tensor does not have the size its shape says",
}


@dataclass(frozen=True)
class SafetensorsHeader:
    """The tensors' shapes by name, and the free-text metadata."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


def read_safetensors_header(stream: BinaryIO, path: Path) -> SafetensorsHeader:
    """Read the header of a safetensors file; no tensor is read.

    Args:
        stream: the open file. Its bytes from the ninth on are not read here.
        path: where it was opened.

    Returns:
        Names and shapes of the tensors, and the metadata.

    Raises:
        BadInputError: the header is damaged, contradicts the file, or belongs to neither a model nor a pack.
    """
    stream.seek(0)
    if int.from_bytes(stream.read(_LENGTH_BYTES), "little") > MAX_HEADER_BYTES:
        _refuse(path, _REASONS["header too large"])
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            if len(names) > MAX_TENSORS:
                _refuse(path, f"it claims {len(names)} tensors")
            slices = {name: file.get_slice(name) for name in names}
            dtypes = {name: str(one.get_dtype()) for name, one in slices.items()}
            shapes = {name: tuple(one.get_shape()) for name, one in slices.items()}
            metadata = file.metadata() or {}
        same = os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except (SafetensorError, OSError) as error:
        text = message_of(error)
        reason = next((ours for theirs, ours in _REASONS.items() if theirs in text.lower()), None)
        _refuse(path, reason or f"its header is not readable ({text})")
    for name, dtype in dtypes.items():
        if dtype not in DTYPES:
            _refuse(path, f"tensor {name!r:.80} has the type {dtype!r:.20}, and models hold F32, F16 or BF16")
        if len(shapes[name]) > MAX_DIMENSIONS:
            _refuse(path, f"tensor {name!r:.80} has {len(shapes[name])} dimensions")
    if not same:
        _refuse(path, "it was replaced while it was read")
    return SafetensorsHeader(shapes=shapes, metadata=metadata)


def _refuse(path: Path, reason: str) -> NoReturn:
    raise BadInputError(f"{path}: not a usable safetensors file, because {reason}; {_REMEDY}.")
