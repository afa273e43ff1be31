"""The model file: one ``.safetensors`` file that holds the weights and, in its header, all that is needed to use them.

Nothing in the file is trusted before it is checked: lengths against the file's size, the metadata against their
schema, the architecture against sane bounds, and every tensor's name and shape against the architecture, all before
memory is allocated for the network.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, Literal, NoReturn

import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import atomic_path
from meduniseg_core.model.config import ModelConfig
from meduniseg_core.model.meduniseg import MedUniSeg, build_model
from meduniseg_core.weights.header import Header, parse_json, read_header
from meduniseg_core.weights.info import FORMAT, FORMAT_VERSION, ModelInfo

StorageType = Literal["fp32", "fp16"]

SUFFIX = ".safetensors"
METADATA_KEY = "meduniseg"
MAX_INFO_CHARACTERS = 4 << 20
MAX_FILE_BYTES = 8 << 30

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
# Above any network one would train, far below what would hurt before the tensors' shapes are compared.
_MAX_STAGES, _MAX_STEMS, _MAX_STRIDE, _MAX_WIDTH, _MAX_PROMPT_SIDE = 12, 32, 8, 1 << 14, 256
_MAX_PATCH_VOXELS, _MAX_SIDE = 1 << 28, 1 << 14


@dataclass(frozen=True)
class Model:
    """A network ready to use (on the CPU, float32, evaluation mode) and what its file says.

    ``sha256`` is the file's; ``path`` is None for a model that was never a file.
    """

    info: ModelInfo
    network: MedUniSeg
    sha256: str
    path: Path | None = None


def save_model(path: Path, info: ModelInfo, state_dict: Mapping[str, Tensor], dtype: StorageType = "fp32") -> str:
    """Write a model file atomically and return its sha256.

    ``state_dict`` must fit ``info.config`` exactly and be finite (also in fp16, if that is asked for); BadInputError
    otherwise. Identical input gives an identical file.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise BadInputError(f"{path}: a model file's name ends in {SUFFIX}; choose such a name.")
    _check_bounds(path, info)
    _check_shapes(path, info.config, {name: tuple(tensor.shape) for name, tensor in state_dict.items()})
    tensors = {}
    for name in sorted(state_dict):
        tensors[name] = state_dict[name].detach().to("cpu", _DTYPES[dtype], copy=True).contiguous()
        _check_finite(path, name, tensors[name])
    text = info.model_dump_json()
    if len(text) > MAX_INFO_CHARACTERS:
        raise BadInputError(f"{path}: the model's metadata take {len(text)} characters; shorten its provenance.")
    # one key only: safetensors writes several in random order, and equal models should be equal files
    data = safetensors.torch.save(tensors, {METADATA_KEY: text})
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise BadInputError(f"{path}: cannot be written ({error.strerror}); choose another folder.") from error
    return hashlib.sha256(data).hexdigest()


def read_info(path: Path) -> ModelInfo:
    """What the model file says about itself, from its header alone; BadInputError if it is no usable model file."""
    path = Path(path)
    with _open(path) as stream:
        return _read_checked(stream, path)[0]


def read_model(path: Path) -> Model:
    """Load a model file; BadInputError in one sentence for anything that is not right about it."""
    path = Path(path)
    with _open(path) as stream:
        info, _ = _read_checked(stream, path)
        stream.seek(0)
        data = stream.read()
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError) as error:
        _refuse(path, f"its tensors cannot be read ({error})", "get the file again from where it came")
    # the header was checked on the same open file; only a file changed in between could differ now
    _check_shapes(path, info.config, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    state = {}
    for name in list(tensors):
        # a copy: the loaded tensors are views of the file's bytes
        state[name] = tensors.pop(name).to(torch.float32, copy=True)
        _check_finite(path, name, state[name])
    with torch.device("meta"):  # skips the initialisation that the weights would overwrite
        network = build_model(info.config)
    network.load_state_dict(state, assign=True)
    return Model(info=info, network=network.eval(), sha256=hashlib.sha256(data).hexdigest(), path=path)


@cache
def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of an architecture, without allocating them. Not to be changed: it is cached."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in build_model(config).state_dict().items()}


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise BadInputError(f"{path}: there is no such model file; check the path.") from error
    except OSError as error:
        raise BadInputError(f"{path}: cannot be opened ({error.strerror}); give the path of a model file.") from error


def _read_checked(stream: BinaryIO, path: Path) -> tuple[ModelInfo, Header]:
    size = os.fstat(stream.fileno()).st_size
    if size > MAX_FILE_BYTES:
        _refuse(path, f"it has {size} bytes, more than any model", "check that this is the right file")
    header = read_header(stream, path, size)
    info = _parse_info(path, header)
    _check_bounds(path, info)
    _check_shapes(path, info.config, header.shapes)
    return info, header


def _parse_info(path: Path, header: Header) -> ModelInfo:
    text = header.metadata.get(METADATA_KEY)
    if text is None:
        _refuse(path, "it holds tensors without a description of the model", "use a file saved by this program")
    if len(text) > MAX_INFO_CHARACTERS:
        _refuse(path, "its description is longer than any model's", "use a file saved by this program")
    try:
        content = parse_json(text)
    except ValueError as error:
        _refuse(path, f"its description is not valid JSON ({error})", "use a file saved by this program")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        _refuse(path, "its description is of another format", "use a file saved by this program")
    version = content.get("format_version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        _refuse(
            path,
            f"its format version is {version!r:.20} and this program knows {FORMAT_VERSION}",
            "update this program",
        )
    try:
        return ModelInfo.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "whole"
        message = first["msg"].removeprefix("Value error, ")
        _refuse(path, f"its description is wrong at '{place:.80}' ({message:.200})", "use a file saved by this program")


def _check_bounds(path: Path, info: ModelInfo) -> None:
    """Refuse an architecture or a plan that only a broken or hostile file would claim."""
    config = info.config
    widths = (*config.features, *config.stems, config.classes, config.modal_prompt_length, config.task_prompt_channels)
    counts = (config.modalities, config.tasks)
    strides = tuple(step for stride in config.strides for step in stride)
    sane = (
        2 <= len(config.features) <= _MAX_STAGES
        and len(config.stems) <= _MAX_STEMS
        and all(1 <= value <= _MAX_WIDTH for value in widths)
        and all(0 <= value <= _MAX_WIDTH for value in counts)
        and all(1 <= value <= _MAX_STRIDE for value in strides)
        and all(1 <= value <= _MAX_PROMPT_SIDE for value in config.task_prompt_size)
    )
    if not sane:
        _refuse(path, "its architecture has impossible sizes", "use a file saved by this program")
    for plan in info.tasks:
        depth, height, width = plan.patch
        too_big = max(plan.patch) > _MAX_SIDE or depth * height * width > _MAX_PATCH_VOXELS
        if min(plan.patch) < 1 or too_big or (plan.long_side or 0) > _MAX_SIDE:
            _refuse(path, f"task {plan.task} has an impossible patch or size", "use a file saved by this program")


def _check_shapes(path: Path, config: ModelConfig, found: Mapping[str, tuple[int, ...]]) -> None:
    expected = expected_shapes(config)
    remedy = "the file does not belong to the architecture it names"
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing:
        _refuse(path, f"{len(missing)} tensors are missing, the first is {missing[0]}", remedy)
    if unexpected:
        _refuse(path, f"{len(unexpected)} tensors are unexpected, the first is {unexpected[0]!r:.80}", remedy)
    for name, shape in expected.items():
        if found[name] != shape:
            _refuse(path, f"tensor {name} has shape {found[name]} and should have {shape}", remedy)


def _check_finite(path: Path, name: str, tensor: Tensor) -> None:
    if not bool(torch.isfinite(tensor).all()):
        _refuse(path, f"tensor {name} holds NaN or infinite values", "train or fetch the model again")


def _refuse(path: Path, reason: str, remedy: str) -> NoReturn:
    raise BadInputError(f"{path}: not a usable model file, because {reason}; {remedy}.")
