"""What is at the place where a result will go, and what of it may be replaced.

A result is a set of files in one folder and a *record*, a JSON that lists them by name and sha256 under "files". Only
files that a record of this program vouches for are replaced, never an input. A file that was edited since is kept
unless the caller says otherwise, and the result of something else (of another image, say) is always kept.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import digest_of
from meduniseg_core.structured_text import try_read_json

FILES = "files"
"""The record's key for what it vouches for: file name -> sha256."""
EARLIER = "earlier_files"
"""The same for files that were saved earlier beside it (in another format, say): ours, but not part of this result.
They stand here with the hash they were written with, so that an edited one is known for ours; where edited files were
to be replaced (``replace_edited``), with the hash they had then."""

Content = Mapping[str, Any]
Signature = tuple[int, int, int]  # inode, size, time of the last change in ns
Identity = tuple[int, int]  # device and inode: the file, whatever path leads to it

_LARGEST = 1 << 24  # bytes of a record


@dataclass(frozen=True)
class ResultKind:
    """A kind of result.

    ``is_ours`` recognises its records. ``vouched_before`` says what a record written before the key "files" existed
    vouches for. ``keeps_from`` returns why a result must not replace another one, as the rest of a sentence that begins
    with the record, or None if it may.
    """

    is_ours: Callable[[Content], bool]
    vouched_before: Callable[[Path, Content], Mapping[str, str]] = lambda _record, _content: {}
    keeps_from: Callable[[Content, Content], str | None] = lambda _there, _new: None

    def vouched(self, record: Path, content: Content, *, earlier: bool = True) -> dict[str, str]:
        """The files that a record vouches for.

        Args:
            record: the record's file.
            content: its content.
            earlier: with those of earlier runs, which are not part of the result.

        Returns:
            The sha256 of each file by name.
        """
        if FILES not in content:
            return dict(self.vouched_before(record, content))
        found: dict[str, str] = {}
        for key in (EARLIER, FILES) if earlier else (FILES,):
            listed = content.get(key)
            if isinstance(listed, Mapping):
                found.update({str(name): str(digest) for name, digest in listed.items() if _is_plain(str(name))})
        return found


@dataclass(frozen=True)
class Standing:
    """What is at the place where a result will go: a signature of each file (None if there is none), and the record."""

    record: Path
    signatures: Mapping[str, Signature | None]
    content: Content
    vouched: Mapping[str, str]

    def edited(self) -> list[str]:
        """Find files that were edited since they were written; reads them.

        Returns:
            Their names.
        """
        there = [name for name, found in self.signatures.items() if found is not None and name != self.record.name]
        if self.content.get("edited") is True:
            return there
        return [name for name in there if not has_digest(self.record.with_name(name), self.vouched.get(name))]

    def unchanged(self, other: Standing) -> bool:
        """Whether the files are the same as at another time.

        Args:
            other: the state at that time.

        Returns:
            True if all files known to both are the same.
        """
        return all(
            self.signatures[name] == other.signatures[name] for name in self.signatures.keys() & other.signatures
        )


def identities(paths: Iterable[Path]) -> frozenset[Identity]:
    """Identify files whatever path leads to them.

    Args:
        paths: paths; those that do not exist are left out.

    Returns:
        The files' identities.
    """
    return frozenset(identity for path in paths if (identity := _identity(path)) is not None)


def refuse_input(path: Path, inputs: Collection[Identity]) -> None:
    """Refuse to overwrite an input.

    Args:
        path: where something is to be written.
        inputs: the inputs, see :func:`identities`.

    Raises:
        UsageError: ``path`` is one of the inputs.
    """
    status = _lstat(path)
    if status is not None and ((status.st_dev, status.st_ino) in inputs or _identity(path) in inputs):
        raise UsageError(f"{path} is an input and would be overwritten; choose another folder for the results.")


def standing(
    record: Path,
    names: Iterable[str],
    kind: ResultKind,
    inputs: Collection[Identity] = frozenset(),
    *,
    agreed: Collection[str] = (),
    former: bool = False,
) -> Standing:
    """Look at the place where a result is to go.

    Args:
        record: the result's record.
        names: the names of its other files, in the same folder.
        kind: the kind of result.
        inputs: the inputs, which must not be overwritten.
        agreed: names that the user has agreed to see replaced, in a dialog.
        former: also look at every other file that the record there vouches for: in another format, say.

    Returns:
        What is there.

    Raises:
        UsageError: a file is there that no record of ours vouches for, or an input.
    """
    folder = record.parent
    found = {name: _lstat(folder / name) for name in dict.fromkeys((*names, record.name))}
    content = read_record(record) if found[record.name] is not None else {}
    vouched = kind.vouched(record, content) if kind.is_ours(content) else {}
    if former:
        found |= {name: _lstat(folder / name) for name in vouched if name not in found}
    for name, status in found.items():
        path = folder / name
        if status is None:
            continue
        refuse_input(path, inputs)
        if path.name in agreed and not stat.S_ISDIR(status.st_mode):
            continue
        known = kind.is_ours(content) if path == record else path.name in vouched
        whole_folder = stat.S_ISDIR(status.st_mode) and path.suffix == ".zarr"  # the one result that is no file
        if not known or not (whole_folder or stat.S_ISREG(status.st_mode)):
            raise UsageError(f"{path} exists already and is not a result of this program; choose another folder.")
    signatures = {
        name: None if status is None else (status.st_ino, status.st_size, status.st_mtime_ns)
        for name, status in found.items()
    }
    return Standing(record, signatures, content, vouched)


def refuse_other(there: Standing, content: Content, kind: ResultKind) -> None:
    """Refuse to replace the result of something else.

    Args:
        there: what is there.
        content: the content of the new record.
        kind: the kind of result.

    Raises:
        BadInputError: the result that is there must be kept.
    """
    reason = kind.keeps_from(there.content, content) if kind.is_ours(there.content) else None
    if reason is not None:
        raise BadInputError(f"{there.record} {reason}")


def written_meanwhile(record: Path) -> str:
    """The error message if two programs were about to write the same result.

    Args:
        record: the result's record.

    Returns:
        A sentence.
    """
    return f"{record} was written by another program since this run began and is kept; run this again to replace it."


def read_record(path: Path) -> dict[str, Any]:
    """Read a record.

    Args:
        path: a JSON file.

    Returns:
        Its content; empty if it cannot be read or is not an object.
    """
    content = try_read_json(path, _LARGEST)
    return content if isinstance(content, dict) else {}


def has_digest(path: Path, digest: object) -> bool:
    """Whether a file (or folder) is there and has this sha256.

    Args:
        path: the file or folder.
        digest: the sha256.

    Returns:
        True if it has.
    """
    try:
        return digest_of(path) == digest
    except BadInputError:
        return False


def _is_plain(name: str) -> bool:
    """Whether a name that a record lists is one of a file beside it, and leads nowhere else."""
    return Path(name).name == name and name not in ("", "..")


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _identity(path: Path) -> Identity | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
