"""Writes results to disk: files of others are never overwritten, and all files of a result appear together.

A result is a set of files in one folder and a *record*, a JSON that lists them by name and sha256 under "files". Only
files that a record vouches for are replaced. A file that was edited since is kept unless the caller says otherwise, and
the result of something else (of another image, say) is always kept.

All files are first written into a hidden folder beside the targets, under a lock. Then the record is moved into place
and the others after it, so a file is never seen without its record. What a process killed in between leaves behind is
completed or removed by the next one that writes into that folder.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import digest_of, json_text, place, sync_folder, try_read_json, write_text, writing_into

FILES = "files"
"""The record's key for what it vouches for: file name -> sha256."""
EARLIER = "earlier_files"
"""The same for files of earlier runs beside it (another format, say): ours, but not part of this result."""

Content = Mapping[str, Any]
Signature = tuple[int, int, int]  # inode, size, time of the last change in ns
Identity = tuple[int, int]  # device and inode: the file, whatever path leads to it

_STAGING = ".meduniseg-writing-"
_LOCK = ".meduniseg-lock"
_LOCK_SECONDS = 600.0
_NOTE = ".former.json"  # in the staging folder: the record's name, and what its files replace
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_LARGEST = 1 << 24  # bytes of a record
_LONGEST = 255  # bytes of a name, where the system does not say


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

    def vouched(self, record: Path, content: Content) -> dict[str, str]:
        """The files that a record vouches for.

        Args:
            record: the record's file.
            content: its content.

        Returns:
            The sha256 of each file by name.
        """
        if FILES not in content:
            return dict(self.vouched_before(record, content))
        found: dict[str, str] = {}
        for key in (EARLIER, FILES):
            listed = content.get(key)
            if isinstance(listed, Mapping):
                found.update({str(name): str(digest) for name, digest in listed.items()})
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
        return [name for name in there if not _is(self.record.with_name(name), self.vouched.get(name))]

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
) -> Standing:
    """Look at the place where a result is to go.

    Args:
        record: the result's record.
        names: the names of its other files, in the same folder.
        kind: the kind of result.
        inputs: the inputs, which must not be overwritten.
        agreed: names that the user has agreed to see replaced, in a dialog.

    Returns:
        What is there.

    Raises:
        UsageError: a file is there that no record of ours vouches for, or an input.
    """
    folder = record.parent
    paths = [folder / name for name in dict.fromkeys((*names, record.name))]
    found = {path.name: _lstat(path) for path in paths}
    content = read_record(record) if found[record.name] is not None else {}
    vouched = kind.vouched(record, content) if kind.is_ours(content) else {}
    for path in paths:
        status = found[path.name]
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


def write_result(
    record: Path,
    content: Content,
    files: Mapping[str, Callable[[Path], object]],
    kind: ResultKind,
    *,
    inputs: Collection[Identity] = frozenset(),
    before: Standing | None = None,
    replace_edited: bool = False,
    agreed: Collection[str] = (),
) -> dict[str, str]:
    """Write the files of a result and its record, as one step.

    Args:
        record: the record's file; the other files go beside it.
        content: the record's content; the key "files" is added.
        files: by name, a function that writes the file to a path.
        kind: the kind of result.
        inputs: the inputs, which must not be overwritten.
        before: what was there when the work began.
        replace_edited: replace files that were edited since they were written.
        agreed: names that the user has agreed to see replaced, in a dialog.

    Returns:
        The sha256 of each file by name.

    Raises:
        UsageError: a file of others is in the way (see :func:`standing`), or one that was edited.
        BadInputError: the result of something else is there, or another program has written there since ``before``.
        UnwritableError: the folder cannot be written to.
    """
    folder = record.parent
    with _made(folder), writing_into(folder), _locked(folder):
        _recover(folder)
        now = standing(record, files, kind, inputs, agreed=agreed)
        refuse_other(now, content, kind)
        if before is not None and not now.unchanged(before):
            raise BadInputError(written_meanwhile(record))
        edited = [] if replace_edited else [name for name in now.edited() if name not in agreed]
        if edited:
            raise UsageError(f"{folder / edited[0]} was changed by hand and is kept; choose another name or folder.")
        return _write_staged(record, content, files, now)


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


def _write_staged(
    record: Path, content: Content, files: Mapping[str, Callable[[Path], object]], now: Standing
) -> dict[str, str]:
    folder = record.parent
    staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
    staging.chmod(0o755)
    moving = False
    try:
        for name, write in files.items():
            write(staging / name)
        digests = {name: digest_of(staging / name) for name in files}
        full = {**content, FILES: digests}
        earlier = {
            name: digest for name, digest in now.vouched.items() if name not in files and _is(folder / name, digest)
        }
        if earlier:
            full[EARLIER] = earlier
        former = {name: digest_of(folder / name) for name in files if now.signatures[name] is not None}
        write_text(staging / _NOTE, json_text({"record": record.name, "former": former}))
        write_text(staging / record.name, json_text(full))
        moving = True
        made: list[Path] = []
        for name in (record.name, *files):
            try:
                place(staging / name, folder / name, replace=now.signatures[name] is not None)
            except FileExistsError:  # of a program that knows no lock
                for path in made:
                    path.unlink(missing_ok=True)
                raise BadInputError(
                    f"{folder / name} was written by another program just now; choose another folder."
                ) from None
            if now.signatures[name] is None:
                made.append(folder / name)
        sync_folder(folder)
        moving = False
        return digests
    finally:
        if not moving:  # else: what is left is finished by whoever comes next
            shutil.rmtree(staging, ignore_errors=True)


def clear_leftovers(folder: Path) -> None:
    """Complete or remove what a killed process left behind. Does nothing if the folder cannot be written to.

    Args:
        folder: a folder of results.
    """
    if folder.is_dir() and any(folder.glob(f"{_STAGING}*")):
        with suppress(OSError), _locked(folder):
            _recover(folder)


def read_record(path: Path) -> dict[str, Any]:
    """Read a record.

    Args:
        path: a JSON file.

    Returns:
        Its content; empty if it cannot be read or is not an object.
    """
    content = try_read_json(path, _LARGEST)
    return content if isinstance(content, dict) else {}


def check_name(path: Path) -> None:
    """Refuse a file name that is too long for the disk.

    Args:
        path: a file to be written.

    Raises:
        BadInputError: the name is too long.
    """
    there = next((folder for folder in path.parents if folder.is_dir()), Path())
    try:
        longest = os.pathconf(there, "PC_NAME_MAX")
    except (OSError, ValueError, AttributeError):  # Windows has no pathconf
        longest = _LONGEST
    length = len(os.fsencode(path.name))
    if length > longest:
        raise BadInputError(
            f"The result's name would be {length} bytes long and the disk takes {longest}: {path.name[:40]}...; "
            "give the image a shorter name."
        )


def _recover(folder: Path) -> None:
    """Complete or remove the staging folders of killed processes. Only under the lock, so none belongs to a living
    one."""
    for staging in folder.glob(f"{_STAGING}*"):
        note = read_record(staging / _NOTE)
        name, former = note.get("record"), note.get("former")
        if isinstance(name, str) and isinstance(former, dict):
            _finish(staging, folder / Path(name).name, former)
        shutil.rmtree(staging, ignore_errors=True)


def _finish(staging: Path, record: Path, former: Mapping[str, Any]) -> None:
    """If the record was in place already when the process died, move the files that it vouches for into place."""
    listed = read_record(record).get(FILES)
    for name, digest in listed.items() if isinstance(listed, dict) else ():
        staged, target = staging / Path(name).name, record.with_name(Path(name).name)
        if not _is(staged, digest):
            continue
        if _lstat(target) is None or _is(target, former.get(name)):
            place(staged, target, replace=True)


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Create the folder; if the block raises and the folder is new and empty, it is removed again."""
    new = not folder.exists()
    try:
        with writing_into(folder):
            folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        if new:
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one process at a time writes results into ``folder``; the lock's file is removed afterwards."""
    path = folder / _LOCK
    lock = FileLock(path, timeout=_LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise BadInputError(f"{folder} is being written to by another program; wait for it to end.") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        yield  # a disk without locks: files that are new are still made exclusively
        return
    try:
        yield
    finally:
        if os.name != "nt":  # there an open file cannot be removed, and the lock does it by itself
            path.unlink(missing_ok=True)
        lock.release()


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


def _is(path: Path, digest: object) -> bool:
    """Whether the file (or folder) there has this sha256."""
    try:
        return digest_of(path) == digest
    except BadInputError:
        return False
