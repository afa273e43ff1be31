"""Files of JSON lines that are only ever appended: the journal of a ledger, the manifest of a run over many cases.

A last line without a line break may be half a line torn by a crash, or a whole one whose line break an editor removed.
Half a line is never valid JSON, so the two can be told apart. Half a line was never acknowledged, so it is skipped.
"""

from __future__ import annotations

import codecs
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from meduniseg_core.errors import BadInputError
from meduniseg_core.structured_text import json_text, parse_json
from meduniseg_core.validation import first_fault

_RecordT = TypeVar("_RecordT", bound=BaseModel)


@dataclass(frozen=True)
class JsonLines:
    """The whole lines of a file, without their line breaks and without empty lines at the end.

    ``whole`` is the number of bytes up to the end of the last whole line, including its line break if it has one.
    """

    lines: tuple[bytes, ...]
    whole: int = field(repr=False)


class _Version(BaseModel):
    version: int


def read_json_lines(path: Path) -> JsonLines:
    """Read all whole lines. No lock is needed.

    Args:
        path: the file.

    Returns:
        Its lines; the first without the byte order mark that Windows' editors write.

    Raises:
        BadInputError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except IsADirectoryError as error:
        raise BadInputError(f"{path} is a folder; give a file in it.") from error
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    end = content.rfind(b"\n") + 1
    if _is_json(content[end:]):
        end = len(content)
    whole = len(content[:end].rstrip())
    lines = content[:whole].split(b"\n") if whole else []
    if lines:
        lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
    return JsonLines(tuple(lines), whole + content[whole:end].startswith(b"\n"))


def append_json_line(path: Path, whole: int, record: BaseModel) -> int:
    """Append a record after the whole lines, removing a torn one. It is on disk when the call returns.

    Call it only while holding a lock that all writers of the file take.

    Args:
        path: the file; it has a line already.
        whole: how many bytes its whole lines take, see :class:`JsonLines`.
        record: the new line.

    Returns:
        How many bytes the whole lines take now.
    """
    line = json_text(record.model_dump(mode="json"), indent=None).encode("utf-8")
    with path.open("r+b") as stream:
        stream.truncate(whole)
        stream.seek(whole - 1)
        text = line if stream.read(1) == b"\n" else b"\n" + line
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    return whole + len(text)


def parsed_line(kind: type[_RecordT], line: bytes, path: Path, number: int, newest: int) -> _RecordT:
    """Check a line against its type.

    Args:
        kind: the type of the record, which has a ``version``.
        line: the line.
        path: the file, for messages.
        number: the line's number, from 1.
        newest: the newest version that is understood.

    Returns:
        The record.

    Raises:
        BadInputError: the line is damaged, or of a newer version; the message names file and line.
    """
    try:
        content = parse_json(line)  # not pydantic's own parser, which knows no names of files that are not UTF-8
        version = _Version.model_validate(content).version
        if version > newest:
            raise BadInputError(f"{path}, line {number}: is of a newer version ({version}); update this program.")
        return kind.model_validate(content)
    except ValidationError as error:
        raise damaged_line(path, number, first_fault(error)) from error
    except ValueError as error:
        raise damaged_line(path, number, "it is not JSON") from error


def damaged_line(path: Path, number: int, reason: str) -> BadInputError:
    """The error for a line that says something impossible.

    Args:
        path: the file.
        number: the line's number, from 1.
        reason: what is wrong with it.

    Returns:
        The error, to be raised.
    """
    return BadInputError(f"{path}, line {number}: is damaged ({reason}); restore the file from a backup.")


def _is_json(text: bytes) -> bool:
    try:
        parse_json(text)
    except ValueError:
        return False
    return True
