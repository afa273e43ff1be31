"""Writes results to disk: all files of a result appear together, and what may not be replaced (`former_results`) stays.

All files are first written into a hidden folder beside the targets, under a lock. Then the record is moved into place
and the others after it, so a file is never seen without its record. What a process killed in between leaves behind is
completed or removed by the next one that writes into that folder.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import digest_of, place, sync_folder, write_text, writing_into
from meduniseg_core.former_results import (
    EARLIER,
    FILES,
    Content,
    Identity,
    ResultKind,
    Standing,
    has_digest,
    read_record,
    refuse_other,
    standing,
    written_meanwhile,
)
from meduniseg_core.structured_text import json_text

_STAGING = ".meduniseg-writing-"
_LOCK = ".meduniseg-lock"
_LOCK_SECONDS = 600.0
_NOTE = ".former.json"  # in the staging folder: the record's name, and what its files replace
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_LONGEST = 255  # bytes of a name, where the system does not say


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
        now = standing(record, files, kind, inputs, agreed=agreed, former=before is not None)
        refuse_other(now, content, kind)
        if before is not None and not now.unchanged(before):
            raise BadInputError(written_meanwhile(record))
        edited = [] if replace_edited else [name for name in now.edited() if name not in agreed]
        if edited:
            raise UsageError(f"{folder / edited[0]} was changed by hand and is kept; choose another name or folder.")
        overruled = now.vouched if replace_edited and before is not None else ()
        return _write_staged(record, content, files, now, overruled)


def _write_staged(
    record: Path,
    content: Content,
    files: Mapping[str, Callable[[Path], object]],
    now: Standing,
    overruled: Collection[str],
) -> dict[str, str]:
    """``overruled``: files of earlier runs that stand as they are from now on, edited or not."""
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
            name: digest_of(folder / name) if name in overruled else digest
            for name, digest in now.vouched.items()
            if name not in files and os.path.lexists(folder / name)
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
        if not has_digest(staged, digest):
            continue
        if not os.path.lexists(target) or has_digest(target, former.get(name)):
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
