"""Tables that people made: separators, blanks, capitals, true line numbers, and what is no table."""

from __future__ import annotations

from pathlib import Path

import pytest

from meduniseg_core.errors import BadInputError
from meduniseg_core.user_tables import read_rows


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_blanks_and_capitals_do_not_matter(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(separator.join(["\ufeffOther", " Case ", "CLASS\r\n"]).encode() + b"\r\n")
    with path.open("a", encoding="utf-8") as stream:
        stream.write(separator.join(["x", "a ", " bad \r\n"]) + separator * 2 + "\r\n" + separator.join(["y", "b\r\n"]))
    assert read_rows(path, ("case", "class")) == [
        (3, {"case": "a", "class": "bad"}),
        (5, {"case": "b", "class": ""}),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"case,kind\na,b\n", "no column class in its first line"),
        (b"", "no column case"),
        (b"case,class\n\xff\xfe\n", "not text in UTF-8"),
        (b"case,class\na," + b"x" * 200_000 + b"\n", "line 2: it is no CSV"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=reason) as refused:
        read_rows(path, ("case", "class"))
    assert str(path) in str(refused.value)
