"""Plain data comes out of a pickle; anything that could run does not get to."""

from __future__ import annotations

import collections
import os
import pathlib
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meduniseg_core.errors import BadInputError
from meduniseg_core.importers.restricted_pickle import read_plain_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def write(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_containers_scalars_and_arrays_come_back(tmp_path: Path, protocol: int) -> None:
    content = {
        "c": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "big endian": np.array([1, 2], ">i4"),
        "text": np.array(["ab", "c"]),
        "empty": np.zeros((0, 3)),
        "scalar": np.float32(3.5),
        "ordered": collections.OrderedDict([(0, "CT"), (1, "PET")]),
        "default": collections.defaultdict(list, {1: [2]}),
        "nested": (np.ones(3), [1, 2.5, None, True, 1j], {"k": {1, 2}}, frozenset({3})),
        "bytes": b"abc\xff",
    }
    read = read_plain_pickle(write(tmp_path / "p.pkl", content, protocol))
    assert read.keys() == content.keys()
    for key in ("c", "fortran", "big endian", "text", "empty"):
        np.testing.assert_array_equal(read[key], content[key])
        assert read[key].dtype.kind == content[key].dtype.kind  # type: ignore[attr-defined]
    assert read["scalar"] == 3.5
    assert type(read["scalar"]) is float
    assert read["ordered"] == content["ordered"]
    assert type(read["ordered"]) is collections.OrderedDict
    assert (read["default"], read["bytes"]) == (content["default"], content["bytes"])
    np.testing.assert_array_equal(read["nested"][0], np.ones(3))
    assert read["nested"][1:] == content["nested"][1:]  # type: ignore[index]


def test_names_of_numpy_1_and_2_are_both_known(tmp_path: Path) -> None:
    data = pickle.dumps({"a": np.arange(3.0), "s": np.float64(2)}, 2)
    assert (b"numpy._core" in data) != (b"numpy.core" in data)
    for module in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        path = tmp_path / "p.pkl"
        path.write_bytes(
            data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray").replace(b"numpy.core.multiarray", module)
        )
        read = read_plain_pickle(path)
        np.testing.assert_array_equal(read["a"], [0, 1, 2])
        assert read["s"] == 2


def test_shared_and_cyclic_containers_are_walked_once(tmp_path: Path) -> None:
    level: list[Any] = [np.ones(1)]
    for _ in range(60):  # 2 ** 60 paths
        level = [level, level]
    level.append(level)
    read = read_plain_pickle(write(tmp_path / "p.pkl", level))
    assert read[2] is read


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {marker}",), "system"),
        (subprocess.Popen, (["touch", "{marker}"],), "Popen"),
        (eval, ("open('{marker}', 'w')",), "eval"),
        (getattr, ("", "join"), "getattr"),
        (np.load, ("{marker}",), "load"),
        (np.frombuffer, (b"12345678",), "frombuffer"),
        (pathlib.PurePosixPath, ("a",), "PurePosixPath"),
        (bytearray, (10,), "bytearray"),
        (pickle.loads, (b"",), "loads"),
    ],
)
def test_everything_else_is_refused_by_name_and_never_called(
    tmp_path: Path, function: Callable[..., Any], arguments: tuple[Any, ...], name: str, protocol: int
) -> None:
    marker = tmp_path / "was_called"

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            return value.format(marker=marker)
        return [filled(item) for item in value] if isinstance(value, list) else value

    content = {"plans": [1, Calls(function, *map(filled, arguments))]}
    path = write(tmp_path / "evil.pkl", content, protocol)
    with pytest.raises(BadInputError) as caught:
        read_plain_pickle(path)
    text = str(caught.value)
    assert str(path) in text
    assert name in text
    assert text.endswith(".") and "\n" not in text
    assert not marker.exists()


def test_objects_of_own_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="asks for"):
        read_plain_pickle(write(tmp_path / "p.pkl", collections.Counter("abc")))
    with pytest.raises(BadInputError, match="asks for"):
        read_plain_pickle(write(tmp_path / "p.pkl", {"path": Path("a")}))


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="not plain data"):
        read_plain_pickle(write(tmp_path / "p.pkl", np.array([{}, []], dtype=object)))


def test_an_array_that_claims_more_than_its_bytes_is_refused(tmp_path: Path) -> None:
    data = pickle.dumps(np.zeros(7, np.uint8), 2)
    assert data.count(b"K\x07\x85") == 1  # the shape, (7,)
    (tmp_path / "p.pkl").write_bytes(data.replace(b"K\x07\x85", b"J\xff\xff\xff\x7f\x85"))
    with pytest.raises(BadInputError, match="do not fill its shape"):
        read_plain_pickle(tmp_path / "p.pkl")


def test_a_memo_index_beyond_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.pkl").write_bytes(b"\x80\x02]r\xff\xff\xff\xff.")
    with pytest.raises(BadInputError, match="memo"):
        read_plain_pickle(tmp_path / "p.pkl")


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x80\x04.", b"(((((", b"\x80\x04\x8d" + b"\xff" * 8 + b"abc", b"P1\n."]
)
def test_what_is_no_pickle_is_bad_input(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "p.pkl").write_bytes(data)
    with pytest.raises(BadInputError):
        read_plain_pickle(tmp_path / "p.pkl")


def test_a_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read"):
        read_plain_pickle(tmp_path / "absent.pkl")


def test_a_hostile_file_leaves_nothing_for_the_next(tmp_path: Path) -> None:
    """BUILD on an admitted name would set attributes of what stands for it, if that outlived the file."""
    evil = b"\x80\x02cnumpy\ndtype\nN}X\x0c\x00\x00\x00__defaults__K\x01\x85s\x86b."
    (tmp_path / "evil.pkl").write_bytes(evil)
    with pytest.raises(BadInputError, match="something other than data"):
        read_plain_pickle(tmp_path / "evil.pkl")
    read = read_plain_pickle(write(tmp_path / "good.pkl", np.arange(3.0)))
    np.testing.assert_array_equal(read, [0, 1, 2])


@given(st.binary(max_size=200), st.integers(0, 150))
def test_damaged_pickles_are_bad_input_or_data_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, start: int
) -> None:
    path = tmp_path_factory.mktemp("noise") / "p.pkl"
    good = pickle.dumps({"a": np.arange(3.0), "b": [1, (2, "x")], "o": collections.OrderedDict(x=1)}, 2)
    path.write_bytes(good[:start] + noise + good[start + len(noise) :])
    try:
        read_plain_pickle(path)
    except BadInputError as error:
        assert str(path) in str(error)
