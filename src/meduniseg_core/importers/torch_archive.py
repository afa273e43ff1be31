"""Reads tensors from a foreign PyTorch checkpoint: it is inspected first, then loaded with ``weights_only=True``.

``weights_only`` keeps a checkpoint from running code. The inspection covers what that leaves open: storages that claim
more bytes than their record holds, compressed records that expand without limit, and damaged bytes (PyTorch does not
compare the records' checksums). It also avoids PyTorch's error message, which advises loading the file less safely.
"""

from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.serialization import safe_globals

from meduniseg_core.errors import BadInputError, is_out_of_memory, message_of
from meduniseg_core.files import open_regular
from meduniseg_core.importers.restricted_pickle import BROKEN_PICKLE, ForbiddenGlobalError, check_memo

MAX_BYTES = 8 << 30
MAX_PICKLE_BYTES = 64 << 20
_MAX_RECORDS = 100_000
_REMEDY = "get the checkpoint from a source you trust"
_ITEM_BYTES = {"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1}
_ITEM_BYTES |= {"Byte": 1, "Bool": 1}
_ADMITTED = {
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("builtins", "set"),
    ("__builtin__", "set"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch", "Size"),
    ("torch", "device"),  # where nnU-Net trained
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),  # losses in the training curve
    ("numpy._core.multiarray", "scalar"),
    *(("torch", f"{kind}Storage") for kind in _ITEM_BYTES),
}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read the dictionary in a PyTorch checkpoint (zip format, PyTorch 1.6 and newer).

    Args:
        path: the checkpoint.

    Returns:
        Its content, with tensors on the CPU.

    Raises:
        BadInputError: the file is damaged, or holds anything but tensors and plain data. Nothing in it is run.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > MAX_BYTES:
            raise BadInputError(f"{path}: has {size} bytes, more than any checkpoint; check that it is the right file.")
        try:
            with zipfile.ZipFile(stream) as archive:
                _inspect(archive, size)
        except ForbiddenGlobalError as error:
            raise BadInputError(f"{path}: asks for '{error}', which no checkpoint needs; {_REMEDY}.") from error
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise BadInputError(
                f"{path}: is not a checkpoint in the format of PyTorch 1.6 and newer; "
                "check the download, or save it again with a newer PyTorch."
            ) from error
        except OSError as error:
            raise BadInputError(f"{path}: cannot be read ({error.strerror or error}); check the path.") from error
        except (*BROKEN_PICKLE, zlib.error, RuntimeError) as error:
            reason = message_of(error, 150) or type(error).__name__
            raise BadInputError(f"{path}: is not a sound checkpoint ({reason}); {_REMEDY}.") from error
        stream.seek(0)
        content = _loaded(path, stream)
    if not isinstance(content, dict):
        raise BadInputError(
            f"{path}: holds no dictionary, so it is not an nnU-Net checkpoint; check that it is the right file."
        )
    return content


def _loaded(path: Path, stream: BinaryIO) -> Any:
    """Load an inspected file. PyTorch's own errors and warnings are hidden: they advise loading it less safely."""
    try:
        with safe_globals(_numpy_scalars()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(stream, map_location="cpu", weights_only=True)
    except (*BROKEN_PICKLE, RuntimeError, OSError) as error:
        if is_out_of_memory(error):
            raise
        raise BadInputError(f"{path}: is not a sound checkpoint (its tensors cannot be read); {_REMEDY}.") from error


def state_dict_of(path: Path, content: dict[str, Any], key: str = "state_dict") -> dict[str, Tensor]:
    """The weights in a checkpoint, without the name prefixes of data-parallel training and of compilation.

    Args:
        path: the checkpoint's file.
        content: its content.
        key: the entry that holds the weights.

    Returns:
        float32 tensors by name.

    Raises:
        BadInputError: the entry is missing, or does not hold float tensors of a plausible size.
    """
    state = content.get(key)
    if state is None and "network_weights" in content:
        raise BadInputError(
            f"{path}: is a checkpoint of nnU-Net v2; import the model folder that it lies in "
            "('meduniseg models import nnunet FOLDER --name NAME')."
        )
    if not isinstance(state, dict) or not state:
        raise BadInputError(
            f"{path}: holds no '{key}', so it is not an nnU-Net checkpoint; check that it is the right file."
        )
    limit = path.stat().st_size
    result = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise BadInputError(f"{path}: entry {name!r:.80} of its {key} is not a float tensor; {_REMEDY}.")
        if tensor.numel() * tensor.element_size() > limit:  # strides of 0 make any size out of a few bytes
            raise BadInputError(f"{path}: tensor {name!r:.80} claims to be larger than the file; {_REMEDY}.")
        result[name.removeprefix("module.").removeprefix("_orig_mod.")] = tensor.detach().to(torch.float32).contiguous()
    return result


class _Inert:
    """Stands in for every global of the pickle while it is inspected: accepts anything and does nothing."""

    def __init__(self, *_: Any) -> None:
        self.items: list[Any] = []

    def __setstate__(self, _: Any) -> None: ...

    def __setitem__(self, _key: Any, _value: Any) -> None: ...

    def append(self, _: Any) -> None:
        """As a list's."""

    def extend(self, _: Any) -> None:
        """As a list's."""


class _Inspector(pickle.Unpickler):
    """Reads a checkpoint's pickle without importing anything; checks names and the sizes of storages."""

    def __init__(self, data: bytes, record_bytes: dict[str, int]) -> None:
        super().__init__(io.BytesIO(data))
        self._record_bytes = record_bytes

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in _ADMITTED:
            raise ForbiddenGlobalError(f"{module_name}.{global_name}"[:200])
        return type(global_name, (_Inert,), {})

    def persistent_load(self, pid: Any) -> Any:
        kind, storage, key, _, count = pid
        name = getattr(storage, "__name__", "").removesuffix("Storage")
        if kind != "storage" or name not in _ITEM_BYTES or type(count) is not int:
            raise ValueError("a storage is malformed")
        if self._record_bytes.get(str(key)) != count * _ITEM_BYTES[name]:
            raise ValueError("a storage does not have the size it claims")
        return _Inert()


def _inspect(archive: zipfile.ZipFile, size: int) -> None:
    entries = archive.infolist()
    if len(entries) > _MAX_RECORDS or sum(entry.file_size for entry in entries) > size:
        raise ValueError("its records claim more than the file holds")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("its records are compressed, which PyTorch's are not")
    if len({entry.filename for entry in entries}) != len(entries):
        raise ValueError("a record occurs twice")
    _check_sums(archive)
    pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
        raise ValueError("it has no single, sane description of its tensors")
    root = pickles[0].filename.removesuffix("data.pkl") + "data/"
    sizes = {e.filename.removeprefix(root): e.file_size for e in entries if e.filename.startswith(root)}
    data = archive.read(pickles[0])
    check_memo(data)
    _Inspector(data, sizes).load()


def _check_sums(archive: zipfile.ZipFile) -> None:
    """Read every record, which compares it with its CRC-32; a ValueError names the first damaged one."""
    for entry in archive.infolist():
        try:
            with archive.open(entry) as record:
                while record.read(1 << 20):
                    pass
        except (zipfile.BadZipFile, EOFError) as error:
            raise ValueError(f"its record {entry.filename!r:.60} is damaged") from error


def _numpy_scalars() -> list[Any]:
    """What loading nnU-Net's training curve (a list of NumPy floats) needs, under the names of NumPy 1 and 2."""
    scalar = np.float64(0).__reduce__()[0]
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(code)) for code in ("f8", "f4", "f2", "i8", "i4", "b1")),
    ]
