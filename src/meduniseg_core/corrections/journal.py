"""The journal of a ledger, ``ledger.jsonl``: JSON lines that are only ever appended.

A last line without a line break may be half a line torn by a crash, or a whole one whose line break an editor removed.
Half a line is never valid JSON, so the two can be told apart.
"""

from __future__ import annotations

import codecs
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from meduniseg_core.corrections.patient_split import first_on_both_sides
from meduniseg_core.corrections.records import VERSION, LedgerEntry, LedgerHeader
from meduniseg_core.errors import BadInputError
from meduniseg_core.files import parse_json, write_text
from meduniseg_core.validation import first_fault


@dataclass(frozen=True)
class Journal:
    """The content of a journal.

    ``whole`` is the number of bytes up to the end of the last whole line, including its line break if it has one.
    """

    header: LedgerHeader
    entries: tuple[LedgerEntry, ...]
    whole: int = field(repr=False)


_LineT = TypeVar("_LineT", LedgerHeader, LedgerEntry)


class _Version(BaseModel):
    version: int


def start_journal(path: Path, header: LedgerHeader) -> None:
    """Write a new journal with its header, atomically.

    Args:
        path: the journal's file.
        header: its first line.
    """
    write_text(path, header.model_dump_json() + "\n")


def read_journal(path: Path) -> Journal:
    """Read all whole lines of a journal.

    No lock is needed: half a line at the end is a write in progress or torn by a crash. It was never acknowledged, so
    it is skipped, as are empty lines at the end.

    Args:
        path: the journal's file.

    Returns:
        Header and entries.

    Raises:
        BadInputError: the file cannot be read, or is damaged in any other way; the message names file and line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    lines, whole = _whole_lines(content)
    if not lines:
        raise BadInputError(f"{path} has no header in line 1; restore the file from a backup.")
    header = _parsed(LedgerHeader, lines[0].removeprefix(codecs.BOM_UTF8), path, 1)  # Windows' editors write one
    entries = tuple(_parsed(LedgerEntry, line, path, number) for number, line in enumerate(lines[1:], start=2))
    for number, entry in enumerate(entries, start=2):
        if entry.sequence != number - 1:
            raise _damaged(path, number, f"it is acceptance {entry.sequence} and {number - 1} belongs here")
    wrong = first_on_both_sides(entries)
    if wrong is not None:
        raise _damaged(path, wrong + 2, "its case or its patient stands on the other side of the split above")
    return Journal(header, entries, whole)


def append_entry(path: Path, journal: Journal, entry: LedgerEntry) -> None:
    """Append an entry after the whole lines, removing a torn one. It is on disk when the call returns.

    Call it only while holding the ledger's lock.

    Args:
        path: the journal's file.
        journal: its content as it was read.
        entry: the new entry.
    """
    line = entry.model_dump_json().encode("utf-8") + b"\n"
    with path.open("r+b") as stream:
        stream.truncate(journal.whole)
        stream.seek(journal.whole - 1)
        stream.write(line if stream.read(1) == b"\n" else b"\n" + line)
        stream.flush()
        os.fsync(stream.fileno())


def _whole_lines(content: bytes) -> tuple[list[bytes], int]:
    """The whole lines, and the number of bytes they occupy."""
    end = content.rfind(b"\n") + 1
    if _is_json(content[end:]):
        end = len(content)
    whole = len(content[:end].rstrip())
    lines = content[:whole].split(b"\n") if whole else []
    return lines, whole + content[whole:end].startswith(b"\n")


def _is_json(text: bytes) -> bool:
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


def _parsed(kind: type[_LineT], line: bytes, path: Path, number: int) -> _LineT:
    try:
        version = _Version.model_validate_json(line).version
        if version > VERSION:
            raise BadInputError(f"{path}, line {number}: is of a newer version ({version}); update this program.")
        return kind.model_validate_json(line)
    except ValidationError as error:
        raise _damaged(path, number, first_fault(error)) from error


def _damaged(path: Path, number: int, reason: str) -> BadInputError:
    return BadInputError(f"{path}, line {number}: is damaged ({reason}); restore the file from a backup.")
