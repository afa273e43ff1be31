"""Prints everything: JSON for programs, tables for people, one sentence for an error."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from meduniseg_core.events import error_record

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 240
"""Columns of a table on a pipe: wide, so that no cell is cut off or wrapped."""

# what could begin a line of its own, move the cursor or turn the order of letters: names of files may hold it
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def tolerate_streams() -> None:
    """Let stdout and stderr escape what their encoding lacks: names of files are bytes, a console has a code page.

    Where one is closed, nothing takes its place: a result must not be opened as file 1, into which libraries print.
    """
    for name in ("stdin", "stdout", "stderr"):  # in the order of their numbers, which are the lowest that are free
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the process ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def printable(text: str) -> str:
    """``text`` on one line, with control characters as Python writes them (``\\n``)."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def console(stream: TextIO) -> Console:
    """A rich console on stdout or stderr, as wide as the terminal."""
    from rich.console import Console

    return Console(file=stream, width=None if stream.isatty() else PIPE_WIDTH, highlight=False)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = (), title: str = ""
) -> Table:
    """A table with these columns, those named in ``right`` aligned to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    built = Table(box=box.SIMPLE_HEAD, show_edge=False, title=title or None, title_justify="left", pad_edge=False)
    for column in columns:
        built.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        built.add_row(*(Text(printable(str(cell))) for cell in row))
    return built


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = (), title: str = ""
) -> None:
    """The table on stdout."""
    console(sys.stdout).print(table(columns, rows, right=right, title=title))


def print_json(payload: Mapping[str, Any], stream: TextIO | None = None) -> None:
    """One JSON object; numbers that JSON has no word for become null."""
    stream = stream or sys.stdout
    print(_json(payload, stream, indent=2), file=stream)


def print_answer(as_json: bool, payload: Mapping[str, Any], sentence: str) -> None:
    """A command's short answer: the payload for programs, the sentence for people."""
    if as_json:
        print_json(payload)
    else:
        print(printable(sentence))


def print_json_line(payload: Mapping[str, Any]) -> None:
    """One event on stderr, whole and at once, so that a reading program never waits."""
    print(_json(payload, sys.stderr), file=sys.stderr, flush=True)


def print_error(sentence: str, code: int, *, as_json: bool = False, more: Mapping[str, Any] | None = None) -> None:
    """One sentence on one line of stderr; an event of its own (with ``more``) where events are asked for as JSON."""
    if as_json:
        print_json_line({**error_record(sentence, code), **(more or {})})
    else:
        print(f"meduniseg: {printable(sentence)}", file=sys.stderr, flush=True)


def _json(payload: Mapping[str, Any], stream: TextIO, indent: int | None = None) -> str:
    """JSON as the stream can take it: escaped to ASCII where its encoding lacks a character, or is not UTF-8."""
    content = jsonable(payload)
    text = json.dumps(content, ensure_ascii=False, indent=indent, allow_nan=False)
    try:
        text.encode("utf-8")
        if (stream.encoding or "utf-8").lower().replace("-", "").replace("_", "") == "utf8":
            return text
    except UnicodeEncodeError:  # a name that is not UTF-8
        pass
    return json.dumps(content, indent=indent, allow_nan=False)


def is_installed(package: str) -> bool:
    """Whether a package can be imported, found without importing it; an empty folder of that name is not one."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def jsonable(value: Any) -> Any:
    """``value`` in JSON's types."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | int | bool) or value is None:
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence | set | frozenset):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):  # a number or an array of numpy or torch
        return jsonable(value.tolist())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
