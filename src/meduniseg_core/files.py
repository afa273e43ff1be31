"""File handling: opens ordinary files only, writes each file completely or not at all, computes hashes."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from meduniseg_core.errors import BadInputError, UnwritableError

if sys.platform != "win32":
    import fcntl

_REFUSALS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO})
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EXDEV})
_ROOM = 1 << 20  # bytes; with less left a disk counts as full
_SUFFIX = 20  # characters of a suffix that a temporary name keeps

MAX_SMALL_BYTES = 64 << 20
_TEMPORARY = ".tmp-"  # how the names of half-written files begin
_ORPHANED = 86400.0  # seconds after which a half-written file is nobody's, where locks do not tell


def open_regular(path: Path) -> io.BufferedReader:
    """Open an ordinary file for reading; links are followed.

    Args:
        path: the file.

    Returns:
        A binary stream.

    Raises:
        BadInputError: the file cannot be read, or is a named pipe, a socket or a device, which could block for ever or
            never end.
    """
    path = Path(path)
    check_regular(path)  # asked before it is opened: opening a device may already do something
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise _unreadable(path, error) from error
    stream = os.fdopen(handle, "rb")
    if not stat.S_ISREG(os.fstat(handle).st_mode):  # exchanged in between
        stream.close()
        raise _not_regular(path)
    return stream


def read_small(path: Path, max_bytes: int = MAX_SMALL_BYTES) -> bytes:
    """Read a whole small file that a person may have written (a configuration, plans).

    Args:
        path: the file.
        max_bytes: refuse a larger file.

    Returns:
        Its content.

    Raises:
        BadInputError: the file cannot be read, or is larger.
    """
    with open_regular(path) as stream:
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise BadInputError(f"{path} is larger than {max_bytes} bytes, more than such files have; check it.")
    return data


def check_regular(path: Path) -> None:
    """Refuse anything but an ordinary file, for libraries that open paths themselves.

    Args:
        path: the file.

    Raises:
        BadInputError: it does not exist, cannot be accessed, or is a folder, a pipe or a device.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(mode):
        raise _not_regular(path)


def _unreadable(path: Path, error: OSError | ValueError) -> BadInputError:
    reason = getattr(error, "strerror", None) or "it cannot be opened"
    return BadInputError(f"{path} cannot be read ({reason}); check the path and its permissions.")


def _not_regular(path: Path) -> BadInputError:
    if path.is_dir():
        return BadInputError(f"{path} is a folder, and a file is wanted here; give the file.")
    return BadInputError(f"{path} is not an ordinary file (a pipe or a device); pass a file with data.")


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Turn the system's refusal to write (disk full, read-only, no permission) into an UnwritableError.

    Args:
        folder: the folder that the error names.

    Yields:
        Nothing.

    Raises:
        UnwritableError: the system refused.
    """
    try:
        yield
    except UnwritableError as error:  # of a folder in it that its caller does not know
        raise UnwritableError(folder, error.reason) from error
    except OSError as error:
        reason = _refusal(folder, error)
        if reason is None:
            raise
        raise UnwritableError(folder, reason) from error


def _refusal(folder: Path, error: OSError) -> str | None:
    if error.errno in _REFUSALS:
        return (error.strerror or os.strerror(error.errno or 0)).lower()
    if error.errno is None and _is_full(folder):  # libraries that only count the bytes written
        return os.strerror(errno.ENOSPC).lower()
    return None


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _ROOM
    except OSError:
        return False


@contextmanager
def atomic_path(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside a target; on success it is fsynced and renamed to the target.

    The temporary name keeps the target's suffix, because writers of image formats choose the format by it. If the block
    raises, the temporary file is removed and the target stays as it was.

    Args:
        target: the file to write; its folder is created if missing.
        replace: whether an existing file may be replaced.

    Yields:
        The temporary path, of an empty file.

    Raises:
        UnwritableError: the folder cannot be written to.
        FileExistsError: the target exists and may not be replaced.
    """
    target = Path(target)
    with writing_into(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        suffix = "".join(part for part in target.suffixes[-2:] if len(part) <= _SUFFIX)  # a.<200 letters>.png
        handle, temporary = _new_temporary(target.parent, suffix)
        try:
            yield temporary
            _sync(temporary)
            # mkstemp makes files 0600; give them what an ordinary write would have given
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            place(temporary, target, replace=replace)
            sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
            if handle is not None:
                os.close(handle)


def place(source: Path, target: Path, *, replace: bool) -> None:
    """Rename a file, or a folder, into place.

    Args:
        source: the file or folder. A folder that it replaces is moved beside it first, as ``NAME.former``.
        target: its new name, on the same disk.
        replace: whether an existing file may be replaced.

    Raises:
        FileExistsError: the target exists and may not be replaced, even if it appeared only a moment ago.
    """
    if source.is_dir():
        _place_folder(source, target, replace=replace)
        return
    if replace:
        source.replace(target)
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        source.replace(target)
        return
    source.unlink()


def _place_folder(source: Path, target: Path, *, replace: bool) -> None:
    """A folder that holds something can be neither linked nor renamed over."""
    if not os.path.lexists(target):
        source.rename(target)
        return
    if not replace:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    former = source.with_name(f"{source.name}.former")
    target.rename(former)
    try:
        source.rename(target)
    except OSError:
        former.rename(target)
        raise


def write_bytes(target: Path, data: bytes, *, replace: bool = True) -> None:
    """Write a file atomically; see :func:`atomic_path`.

    Args:
        target: the file.
        data: its content.
        replace: whether an existing file may be replaced.
    """
    with atomic_path(target, replace=replace) as temporary:
        temporary.write_bytes(data)


def write_text(target: Path, text: str, *, replace: bool = True) -> None:
    """Write a UTF-8 text file atomically; see :func:`atomic_path`.

    Args:
        target: the file.
        text: its content.
        replace: whether an existing file may be replaced.
    """
    write_bytes(target, text.encode("utf-8"), replace=replace)


def write_if_changed(target: Path, text: str) -> None:
    """Write a text, atomically, unless the file holds it already.

    Args:
        target: the file.
        text: its content.
    """
    try:
        if target.read_bytes() == text.encode("utf-8"):
            return
    except OSError:
        pass  # not there, or not readable: writing says why
    write_text(target, text)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of :func:`atomic_path` that a killed process left behind.

    Call it only while holding the folder's lock, so that nobody else is writing there.

    Args:
        folder: the folder.
    """
    for leftover in folder.glob(f"{_TEMPORARY}*"):
        leftover.unlink(missing_ok=True)


def remove_orphans(folder: Path) -> None:
    """Remove temporary files of :func:`atomic_path` whose process was killed.

    For folders that several programs write into without a lock. A file being written is locked by its process, whatever
    its age. Where the disk or the system has no such locks, a file counts as orphaned after a day.

    Args:
        folder: the folder.
    """
    for path in folder.glob(f"{_TEMPORARY}*"):
        with suppress(OSError), _opened(path) as handle:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                continue
            held = _lock(handle)
            if held or (held is None and os.fstat(handle).st_mtime < time.time() - _ORPHANED):
                path.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
    try:
        yield handle
    finally:
        os.close(handle)


def _new_temporary(folder: Path, suffix: str) -> tuple[int | None, Path]:
    """Create an empty file, locked until its handle is closed (the handle is None where a file being written must not
    be open)."""
    while True:
        handle, name = tempfile.mkstemp(prefix=_TEMPORARY, suffix=suffix, dir=folder)
        if sys.platform == "win32":
            os.close(handle)
            return None, Path(name)
        if _lock(handle) is not False and os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # somebody took it for an orphan just now


def _lock(handle: int) -> bool | None:
    """Try to lock a file for this process; returns whether it worked, or None where there are no locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file.

    Args:
        path: the file.

    Returns:
        64 lower-case hexadecimal digits.

    Raises:
        BadInputError: it is not an ordinary file, or cannot be read.
    """
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def digest_of(path: Path) -> str:
    """Compute the SHA-256 of a result: of a file, or of the names and contents of a folder's files (OME-Zarr).

    Args:
        path: the file or folder.

    Returns:
        64 lower-case hexadecimal digits.

    Raises:
        BadInputError: it is neither, or cannot be read.
    """
    if path.is_symlink() or not path.is_dir():
        return sha256_of(path)
    files = {one.relative_to(path).as_posix(): one for one in path.rglob("*") if one.is_symlink() or not one.is_dir()}
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{sha256_of(files[name])}  {name}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Make new names in a folder survive a power cut.

    Args:
        folder: the folder.
    """
    if os.name == "nt":  # a folder cannot be opened for fsync there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
