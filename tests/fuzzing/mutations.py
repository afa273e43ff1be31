"""Changes to files that keep most of them whole: bytes, and the values of text headers and of JSON."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from hypothesis import strategies as st

ABSURD = (
    *("", "0", "-1", "1", "255", "65536", "9" * 25, "1e999", "-1e999", "1e308", "1e39", "1e-320", "nan", "0.5"),
    *("null", "true", '""', '"x"', "[]", "{}", "[0]", '{"a": 1}', '"\\u0000"', '"\\ud800"', '"' + "9" * 5000 + '"'),
    *("[" * 3000, "none", "(1,0,0)", "LOCAL", "../x", "1 1 1 1 1 1 1 1", "raw", "gzip"),
)
"""What stands for a value: absurd as a number, of another type, or at home in another field."""

_VALUE = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null')

Edit = tuple[str, float, bytes]

VALUES = st.sampled_from(ABSURD).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.integers().map(
    lambda number: str(number).encode()
)
EDITS: st.SearchStrategy[list[Edit]] = st.lists(
    st.tuples(st.just("value"), st.floats(0, 1), VALUES)
    | st.tuples(
        st.sampled_from(("write", "insert", "remove", "cut")), st.floats(0, 1), st.binary(min_size=1, max_size=8)
    ),
    min_size=1,
    max_size=5,
)


def changed(content: bytes, edits: list[Edit], reach: int) -> bytes:
    """``content`` after the edits; all but cuts lie within its first ``reach`` bytes, where headers are."""
    for kind, place, data in edits:
        at = int(place * min(reach, len(content)))
        if kind == "value":
            found = list(_VALUE.finditer(content, 0, reach))
            if found:
                match = found[min(int(place * len(found)), len(found) - 1)]
                content = content[: match.start()] + data + content[match.end() :]
        elif kind == "write":
            content = content[:at] + data + content[at + len(data) :]
        elif kind == "insert":
            content = content[:at] + data + content[at:]
        elif kind == "remove":
            content = content[:at] + content[at + len(data) :]
        else:
            content = content[: int(place * len(content))]
    return content


def in_header(content: bytes, edits: list[Edit]) -> bytes:
    """A safetensors file with its JSON header edited, its length told truly, and the text within the text reachable."""
    length = struct.unpack("<Q", content[:8])[0]
    header = content[8 : 8 + length]
    plain = header.replace(b'\\"', b"\x01")  # the description is JSON inside a JSON string: its values count, too
    edited = changed(plain, edits, len(plain)).replace(b"\x01", b'\\"')
    return struct.pack("<Q", len(edited)) + edited + content[8 + length :]


Mutate = Callable[[bytes, list[Edit]], bytes]
