"""A store's folder, in which any number of processes add and remove files, and any of them may be killed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import remove_leftovers
from meduniseg_core.weights.container import SUFFIX
from meduniseg_core.weights.digests import ENDING

_INCOMING = ".incoming-"
_ALIVE = "alive.lock"  # held in an incoming folder as long as its process lives
_LOCK_SECONDS = 120.0


class StoreFolder:
    """Whose turn it is to change a folder, and what killed processes left in it.

    Args:
        path: the folder; it is made when something is written.
        noun: what is kept there, for messages.
    """

    def __init__(self, path: Path, noun: str) -> None:
        self.path = path
        self._noun = noun

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process at a time changes the folder.

        Yields:
            Nothing.

        Raises:
            BadInputError: another process has been changing it for too long.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / ".lock", timeout=_LOCK_SECONDS):
                yield
        except Timeout as error:
            raise BadInputError(
                f"{self.path}: another process has been changing the {self._noun}s; try again."
            ) from error

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """Give a path for a new file, in a temporary subfolder. A lock in it marks the subfolder of a living process.

        Yields:
            The path; what is still there at the end is removed.

        Raises:
            BadInputError: the folder cannot be written to.
        """
        try:
            with self.locked():
                self._sweep()
                subfolder = Path(tempfile.mkdtemp(prefix=_INCOMING, dir=self.path))
                alive = FileLock(subfolder / _ALIVE)
                alive.acquire()
            try:
                yield subfolder / f"new{SUFFIX}"
            finally:
                alive.release()
                shutil.rmtree(subfolder, ignore_errors=True)
        except OSError as error:
            raise BadInputError(
                f"{self.path}: {self._noun}s cannot be kept there ({error.strerror}); make room or set MEDUNISEG_HOME."
            ) from error

    def tidy(self) -> None:
        """Remove what killed processes left behind, unless another process is at work."""
        if not any(self.path.glob(f"{_INCOMING}*")) and not any(self.path.glob(".tmp-*")) and not self._orphans():
            return
        try:
            with FileLock(self.path / ".lock", timeout=0):
                self._sweep()
        except (Timeout, OSError):
            return  # it stays for the next time

    def _sweep(self) -> None:
        """Remove what killed processes left behind. Call it only under the lock that also guards new incoming
        folders."""
        remove_leftovers(self.path)
        for subfolder in self.path.glob(f"{_INCOMING}*"):
            try:
                with FileLock(subfolder / _ALIVE, timeout=0):
                    pass
            except Timeout:
                continue  # its process lives
            shutil.rmtree(subfolder, ignore_errors=True)
        for orphan in self._orphans():
            orphan.unlink(missing_ok=True)

    def _orphans(self) -> Sequence[Path]:
        """Records whose file is missing."""
        records = self.path.glob(f"*{SUFFIX}{ENDING}")
        return [record for record in records if not record.with_name(record.name.removesuffix(ENDING)).exists()]
