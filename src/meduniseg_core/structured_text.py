"""JSON and TOML: parsed from untrusted sources, formatted for files; JSON on which nothing depends read and written."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from meduniseg_core.errors import BadInputError, MedUniSegError
from meduniseg_core.files import MAX_SMALL_BYTES, read_small, write_text


def parse_json(text: str | bytes) -> Any:
    """Parse JSON from an untrusted source.

    Args:
        text: the JSON.

    Returns:
        The parsed content.

    Raises:
        ValueError: it is not JSON, or nested too deeply for Python.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def try_read_json(path: Path, max_bytes: int = MAX_SMALL_BYTES) -> Any:
    """Read a small JSON file on which nothing depends: what a program remembered, the state of a run.

    Args:
        path: the file; it need not exist.
        max_bytes: take no larger file.

    Returns:
        The content; None if the file is missing, cannot be read, is larger or is not JSON.
    """
    try:
        return parse_json(read_small(path, max_bytes))
    except (OSError, ValueError, BadInputError):
        return None


def try_write_json(path: Path, content: Any) -> None:
    """Write a JSON file on which nothing depends; where that is not possible, nothing happens.

    Args:
        path: the file; its folder is made.
        content: the content, in JSON's types.
    """
    with suppress(OSError, MedUniSegError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json_text(content))


def json_text(content: Any, indent: int | None = 1) -> str:
    """Format JSON that can be stored as UTF-8: a file name that is not valid text is escaped.

    Args:
        content: the content, in JSON's types.
        indent: spaces per level; None puts everything on one line, without spaces.

    Returns:
        The text, with a final newline.
    """
    separators = (",", ":") if indent is None else None
    text = json.dumps(content, indent=indent, ensure_ascii=False, separators=separators)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # bytes of a name that is not UTF-8 are lone surrogates in Python
        text = json.dumps(content, indent=indent, separators=separators)
    return text + "\n"


def read_toml(path: Path) -> dict[str, Any]:
    """Read a small TOML file that a person has written.

    Args:
        path: the file.

    Returns:
        Its content.

    Raises:
        BadInputError: the file cannot be read, is too large or is not TOML.
    """
    import tomllib  # few commands need it

    try:
        return tomllib.loads(read_small(path).decode("utf-8-sig"))
    except (RecursionError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: is not valid TOML ({error}); correct the file.") from error
