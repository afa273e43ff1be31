"""Reads plain data (containers, numbers, text, NumPy arrays) from a pickle without running anything in it.

A pickle can name any function of any installed package and have it called. Here only the names on a short list are
admitted. Those of NumPy are replaced by functions of our own that build an array from its bytes and do nothing else.
Only the importers use this module; this program writes no pickles.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import open_regular

MAX_BYTES = 256 << 20
_REMEDY = "get the file from a source you trust, or import without it"
_BUILTINS = {kind.__name__: kind for kind in (bool, int, float, complex, str, list, tuple, dict, set, frozenset)}
_SCALARS = (bool, int, float, complex, str, bytes, bytearray, np.ndarray, type(None))
_ARRAY_MODULES = {"numpy.core.multiarray", "numpy._core.multiarray"}
_NUMERIC_MODULES = {"numpy.core.numeric", "numpy._core.numeric"}
_MEMO_WRITES = {"PUT", "BINPUT", "LONG_BINPUT"}
# What CPython's unpickler may raise on a damaged pickle.
BROKEN_PICKLE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class ForbiddenGlobalError(pickle.UnpicklingError):
    """The pickle asks for a name that is not on the list; ``str`` is the dotted name."""


def read_plain_pickle(path: Path) -> Any:
    """Read the data in a pickle: builtin containers and scalars, OrderedDict, defaultdict, NumPy arrays.

    NumPy scalars become Python scalars.

    Args:
        path: the pickle.

    Returns:
        The data.

    Raises:
        BadInputError: the file is damaged or too large, or asks for anything else, which is then not run.
    """
    with open_regular(path) as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise BadInputError(f"{path}: larger than {MAX_BYTES} bytes, no plans file is; check that it is the right one.")
    try:
        check_memo(data)
        return _resolve(_PlainUnpickler(io.BytesIO(data)).load(), {})
    except ForbiddenGlobalError as error:
        raise BadInputError(f"{path}: asks for '{error}', which is not plain data; {_REMEDY}.") from error
    except BROKEN_PICKLE as error:
        raise BadInputError(f"{path}: is not a sound pickle of plain data ({error!s:.100}); {_REMEDY}.") from error


def check_memo(data: bytes) -> None:
    """Refuse a pickle whose memo indices exceed its length: the unpickler would reserve memory for all of them.

    Args:
        data: the pickle.

    Raises:
        ValueError: an index is out of bounds.
    """
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in _MEMO_WRITES and (not isinstance(argument, int) or argument > len(data)):
            raise ValueError("its memo is out of bounds")


class _Dtype:
    """Stands in for a NumPy dtype while the pickle is read: a simple type's code and its byte order."""

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or len(code) > 16:
            raise ValueError("a dtype is not a simple one")
        self.type = np.dtype(code)
        if self.type.kind not in "biufcSU":
            raise ValueError(f"arrays of type '{code}' are not plain data")

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order in ("<", ">"):
            self.type = self.type.newbyteorder(order)


class _Array:
    """Stands in for a NumPy array while the pickle is read; its bytes must fill its shape exactly."""

    value: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _from_bytes(data, dtype, shape, "F" if fortran else "C")


class _PlainUnpickler(pickle.Unpickler):
    """Admits only the names on the list. The stand-ins are created for every file, so none can alter them for the
    next."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)

        class Dtype(_Dtype):
            pass

        class Array(_Array):
            pass

        def dtype(code: Any, *_flags: Any) -> _Dtype:
            return Dtype(code)

        def array(*_arguments: Any) -> _Array:
            return Array()

        def scalar(kind: Any, data: Any) -> Any:
            return _from_bytes(data, kind, (1,), "C")[0].item()

        def from_buffer(data: Any, kind: Any, shape: Any, order: Any, *_: Any) -> np.ndarray:
            return _from_bytes(data, kind, shape, order)

        def encode(text: Any, encoding: Any) -> bytes:
            if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
                raise ValueError("only latin1 bytes are plain data")
            return text.encode("latin1")

        def no_bytes() -> bytes:
            return b""  # bytes(n) would reserve any amount

        # array is named as the class whose instances are reconstructed, and never called as such
        self._admitted: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("collections", "defaultdict"): defaultdict,
            ("_codecs", "encode"): encode,  # how older protocols write bytes
            ("numpy", "dtype"): dtype,
            ("numpy", "ndarray"): array,
            ("builtins", "bytes"): no_bytes,
            ("__builtin__", "bytes"): no_bytes,
            **{(module, "_reconstruct"): array for module in _ARRAY_MODULES},
            **{(module, "scalar"): scalar for module in _ARRAY_MODULES},
            **{(module, "_frombuffer"): from_buffer for module in _NUMERIC_MODULES},
            **{(module, name): kind for module in ("builtins", "__builtin__") for name, kind in _BUILTINS.items()},
        }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        admitted = self._admitted.get((module_name, global_name))
        if admitted is None:
            raise ForbiddenGlobalError(f"{module_name}.{global_name}"[:200])
        return admitted


def _from_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray) or order not in ("C", "F"):
        raise ValueError("an array is malformed")
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("an array's shape is malformed")
    if dtype.type.itemsize == 0 or math.prod(shape) * dtype.type.itemsize != len(data):
        raise ValueError("an array's bytes do not fill its shape")
    return np.frombuffer(data, dtype.type).reshape(shape, order=order).copy()


def _resolve(value: Any, done: dict[int, Any]) -> Any:
    """Replace the stand-ins in nested containers; ``done`` keeps shared and cyclic containers from being visited
    twice."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, _Dtype):
        return value.type
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, dict):
        done[id(value)] = value
        for key in value:
            _resolve(key, done)
            value[key] = _resolve(value[key], done)
    elif isinstance(value, list):
        done[id(value)] = value
        for index, item in enumerate(value):
            value[index] = _resolve(item, done)
    elif isinstance(value, tuple):
        done[id(value)] = resolved = tuple(_resolve(item, done) for item in value)
        return resolved
    elif isinstance(value, set | frozenset):
        for item in value:
            _resolve(item, done)
    elif not isinstance(value, _SCALARS):
        raise ValueError("it holds something other than data")
    return value
