"""The header of a safetensors file, read and checked before anything in it is trusted.

Layout: eight bytes with the header's length (little endian), that many bytes of JSON, then the tensors' bytes. Every
length is compared with the file's real size, so a file that claims more than it holds is refused without allocating.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from meduniseg_core.errors import BadInputError

MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 100_000
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_LENGTH_BYTES = 8
_REMEDY = "get the file again from where it came"


@dataclass(frozen=True)
class Header:
    """``shapes`` and ``dtypes`` (safetensors names) by tensor name, and the free-text ``metadata``."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    metadata: Mapping[str, str]


def read_header(stream: BinaryIO, path: Path, size: int) -> Header:
    """Header of the safetensors file ``path`` of ``size`` bytes, opened as ``stream``; BadInputError if it lies."""
    stream.seek(0)
    prefix = stream.read(_LENGTH_BYTES)
    if len(prefix) < _LENGTH_BYTES:
        _refuse(path, "it is too short")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER_BYTES or length > size - _LENGTH_BYTES:
        _refuse(path, "its header is longer than the file or than any model's header")
    text = stream.read(length)
    try:
        content = parse_json(text)
    except ValueError:
        _refuse(path, "its header is not readable")
    if not isinstance(content, dict):
        _refuse(path, "its header is not readable")
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse(path, "its header's metadata are not text")
    if len(content) > MAX_TENSORS:
        _refuse(path, f"it claims {len(content)} tensors")
    shapes, dtypes, spans = {}, {}, []
    for name, entry in content.items():
        shape, dtype, begin, end = _tensor_entry(path, name, entry)
        shapes[name], dtypes[name] = shape, dtype
        spans.append((begin, end))
    data_bytes = size - _LENGTH_BYTES - length
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            _refuse(path, "its tensors overlap or leave gaps")
        position = end
    if position != data_bytes:
        _refuse(path, f"its tensors should take {position} bytes and take {data_bytes} (a broken download?)")
    return Header(shapes=shapes, dtypes=dtypes, metadata=metadata)


def parse_json(text: bytes | str) -> Any:
    """JSON without duplicate keys, NaN, infinities or runaway nesting; ValueError otherwise."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _tensor_entry(path: Path, name: str, entry: Any) -> tuple[tuple[int, ...], str, int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _refuse(path, f"its entry for tensor {name!r:.80} is malformed")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        _refuse(path, f"tensor {name!r:.80} has the type {dtype!r:.20}, and models hold F32, F16 or BF16")
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
        _refuse(path, f"its entry for tensor {name!r:.80} is malformed")
    if offsets[1] - offsets[0] != math.prod(shape) * ITEM_BYTES[dtype]:
        _refuse(path, f"tensor {name!r:.80} does not have the size its shape says")
    return tuple(shape), dtype, offsets[0], offsets[1]


def _counts(value: Any) -> bool:
    """Whether ``value`` is a short list of non-negative integers (bool is not one)."""
    return isinstance(value, list) and len(value) <= 8 and all(type(item) is int and item >= 0 for item in value)


def _refuse(path: Path, reason: str) -> NoReturn:
    raise BadInputError(f"{path}: not a usable safetensors file, because {reason}; {_REMEDY}.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value
