"""A safetensors file with a JSON description: the file format shared by models and packs.

Nothing in the file is trusted before it is checked: lengths against the file's size, the description against its
schema. The caller compares the tensors' names and shapes before memory is allocated for them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, Literal, NoReturn, TypeVar

import safetensors.torch
import torch
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from torch import Tensor

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import atomic_path, open_regular
from meduniseg_core.validation import place_and_fault
from meduniseg_core.weights.header import read_safetensors_header

StorageType = Literal["fp32", "fp16"]
Description = TypeVar("Description", bound=BaseModel)
Shapes = Mapping[str, tuple[int, ...]]

SUFFIX = ".safetensors"
METADATA_KEY = "meduniseg"
MAX_INFO_CHARACTERS = 4 << 20
MAX_FILE_BYTES = 8 << 30

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
_REMEDY = "use a file saved by this program"


_NOUNS = {"meduniseg-model": "model", "meduniseg-pack": "pack"}  # what files of this program are, by their format


@dataclass(frozen=True)
class Kind(Generic[Description]):
    """A kind of file: its ``noun`` in messages, its format and version, and the schema of its description."""

    noun: str
    format: str
    version: int
    schema: type[Description]

    def refuse(self, path: Path, reason: str, remedy: str = _REMEDY) -> NoReturn:
        """Reject a file.

        Args:
            path: the file.
            reason: what is wrong, to follow "because".
            remedy: what the user should do.

        Raises:
            BadInputError: always.
        """
        raise BadInputError(f"{path}: not a usable {self.noun} file, because {reason}; {remedy}.")


def write_container(
    path: Path, kind: Kind[Description], description: Description, tensors: Mapping[str, Tensor], dtype: StorageType
) -> str:
    """Write a file atomically. Identical input gives an identical file.

    Args:
        path: the file; its name ends in ``.safetensors``.
        kind: the kind of file.
        description: the description for its header.
        tensors: the tensors by name.
        dtype: the type they are stored in.

    Returns:
        The file's sha256.

    Raises:
        BadInputError: the name has another suffix, a tensor is not finite in ``dtype``, the description is too long, or
            the place cannot be written to.
    """
    if path.suffix != SUFFIX:
        raise BadInputError(f"{path}: a {kind.noun} file's name ends in {SUFFIX}; choose such a name.")
    stored = {}
    for name in sorted(tensors):
        stored[name] = tensors[name].detach().to("cpu", _DTYPES[dtype], copy=True).contiguous()
        _check_finite(path, kind, name, stored[name])
    text = description.model_dump_json()
    if len(text) > MAX_INFO_CHARACTERS:
        raise BadInputError(f"{path}: the {kind.noun}'s metadata take {len(text)} characters; shorten its provenance.")
    # one key only: safetensors writes several in random order, and equal models should be equal files
    data = safetensors.torch.save(stored, {METADATA_KEY: text})
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise BadInputError(f"{path}: cannot be written ({error.strerror}); choose another folder.") from error
    return hashlib.sha256(data).hexdigest()


def read_description(path: Path, kind: Kind[Description], check: Callable[[Description, Shapes], None]) -> Description:
    """Read the description from a file's header; no tensor is read.

    Args:
        path: the file.
        kind: the kind of file it must be.
        check: called with the description and the tensors' shapes; raises if they do not fit.

    Returns:
        The description.

    Raises:
        BadInputError: the file is missing, damaged or of another kind.
    """
    with _open(path, kind) as stream:
        return _described(stream, path, kind, check)


def read_container(
    path: Path, kind: Kind[Description], check: Callable[[Description, Shapes], None]
) -> tuple[Description, dict[str, Tensor], str]:
    """Read a whole file.

    Args:
        path: the file.
        kind: the kind of file it must be.
        check: called with the description and the tensors' shapes; raises if they do not fit.

    Returns:
        The description, the tensors (float32, finite, in memory of their own) and the file's sha256.

    Raises:
        BadInputError: the file is missing, damaged or of another kind.
    """
    with _open(path, kind) as stream:
        description = _described(stream, path, kind, check)
        stream.seek(0)
        data = stream.read()
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError) as error:
        kind.refuse(path, f"its tensors cannot be read ({error})", "get the file again from where it came")
    # the header was checked on the same open file; only a file changed in between could differ now
    check(description, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    for name in list(tensors):
        # a copy: the loaded tensors are views of the file's bytes
        tensors[name] = tensors[name].to(torch.float32, copy=True)
        _check_finite(path, kind, name, tensors[name])
    return description, tensors, hashlib.sha256(data).hexdigest()


def check_shapes(path: Path, kind: Kind[Description], expected: Shapes, found: Shapes, remedy: str) -> None:
    """Refuse a file whose tensors are not exactly the expected ones.

    Args:
        path: the file.
        kind: the kind of file.
        expected: the expected shapes by tensor name.
        found: the shapes in the file.
        remedy: what the user should do.

    Raises:
        BadInputError: a tensor is missing, unexpected or of another shape.
    """
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing:
        kind.refuse(path, f"{len(missing)} tensors are missing, the first is {missing[0]}", remedy)
    if unexpected:
        kind.refuse(path, f"{len(unexpected)} tensors are unexpected, the first is {unexpected[0]!r:.80}", remedy)
    for name, shape in expected.items():
        if found[name] != shape:
            kind.refuse(path, f"tensor {name} has shape {found[name]} and should have {shape}", remedy)


def _open(path: Path, kind: Kind[Description]) -> BinaryIO:
    try:
        return open_regular(path)
    except BadInputError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise BadInputError(f"{path}: there is no such {kind.noun} file; check the path.") from error
        raise


def _described(
    stream: BinaryIO, path: Path, kind: Kind[Description], check: Callable[[Description, Shapes], None]
) -> Description:
    size = os.fstat(stream.fileno()).st_size
    if size > MAX_FILE_BYTES:
        kind.refuse(path, f"it has {size} bytes, more than any {kind.noun}", "check that this is the right file")
    header = read_safetensors_header(stream, path)
    description = _parsed(path, kind, header.metadata.get(METADATA_KEY))
    check(description, header.shapes)
    return description


def _parsed(path: Path, kind: Kind[Description], text: str | None) -> Description:
    if text is None:
        kind.refuse(path, f"it holds tensors without a description of the {kind.noun}")
    if len(text) > MAX_INFO_CHARACTERS:
        kind.refuse(path, f"its description is longer than any {kind.noun}'s")
    try:
        content = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        kind.refuse(path, f"its description is not valid JSON ({error})")
    if not isinstance(content, dict) or content.get("format") != kind.format:
        other = _NOUNS.get(str(content.get("format"))) if isinstance(content, dict) else None
        if other is not None:
            kind.refuse(path, f"it is a {other}", f"give it where a {other} is asked for")
        kind.refuse(path, "its description is of another format")
    version = content.get("format_version")
    if type(version) is not int or not 1 <= version <= kind.version:
        reason = f"its format version is {version!r:.20} and this program knows {kind.version}"
        kind.refuse(path, reason, "update this program")
    try:
        return kind.schema.model_validate(content)
    except ValidationError as error:
        place, fault = place_and_fault(error)
        kind.refuse(path, f"its description is wrong at '{place or 'whole':.80}' ({fault:.200})")


def _check_finite(path: Path, kind: Kind[Description], name: str, tensor: Tensor) -> None:
    if not bool(torch.isfinite(tensor).all()):
        kind.refuse(path, f"tensor {name} holds NaN or infinite values", f"train or fetch the {kind.noun} again")
