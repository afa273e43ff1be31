"""The journal of a ledger, ``ledger.jsonl`` (`json_lines`): a header, then an entry for each acceptance."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from meduniseg_core.corrections.patient_split import first_on_both_sides
from meduniseg_core.corrections.records import VERSION, LedgerEntry, LedgerHeader
from meduniseg_core.errors import BadInputError
from meduniseg_core.files import write_text
from meduniseg_core.json_lines import append_json_line, damaged_line, parsed_line, read_json_lines


@dataclass(frozen=True)
class Journal:
    """The content of a journal.

    ``whole`` is the number of bytes up to the end of the last whole line, including its line break if it has one.
    """

    header: LedgerHeader
    entries: tuple[LedgerEntry, ...]
    whole: int = field(repr=False)


def journal_path(folder: Path) -> Path:
    """The journal of the ledger in a folder.

    Args:
        folder: the ledger's folder.

    Returns:
        The journal's file.
    """
    return folder / "ledger.jsonl"


def start_journal(path: Path, header: LedgerHeader) -> None:
    """Write a new journal with its header, atomically.

    Args:
        path: the journal's file.
        header: its first line.
    """
    write_text(path, header.model_dump_json() + "\n")


def read_journal(path: Path) -> Journal:
    """Read all whole lines of a journal.

    No lock is needed: half a line at the end is a write in progress or torn by a crash, and is skipped.

    Args:
        path: the journal's file.

    Returns:
        Header and entries.

    Raises:
        BadInputError: the file cannot be read, or is damaged in any other way; the message names file and line.
    """
    read = read_json_lines(path)
    if not read.lines:
        raise BadInputError(f"{path} has no header in line 1; restore the file from a backup.")
    header = parsed_line(LedgerHeader, read.lines[0], path, 1, VERSION)
    numbered = enumerate(read.lines[1:], start=2)
    entries = tuple(parsed_line(LedgerEntry, line, path, number, VERSION) for number, line in numbered)
    for number, entry in enumerate(entries, start=2):
        if entry.sequence != number - 1:
            raise damaged_line(path, number, f"it is acceptance {entry.sequence} and {number - 1} belongs here")
    wrong = first_on_both_sides(entries)
    if wrong is not None:
        raise damaged_line(path, wrong + 2, "its case or its patient stands on the other side of the split above")
    return Journal(header, entries, read.whole)


def append_entry(path: Path, journal: Journal, entry: LedgerEntry) -> None:
    """Append an entry after the whole lines, removing a torn one. It is on disk when the call returns.

    Call it only while holding the ledger's lock.

    Args:
        path: the journal's file.
        journal: its content as it was read.
        entry: the new entry.
    """
    append_json_line(path, journal.whole, entry)
