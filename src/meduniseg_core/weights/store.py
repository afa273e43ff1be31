"""A folder of files known by name: models or packs.

At installation a file's sha256 is recorded beside it, so :meth:`AssetStore.verify` and every load by name notice a file
that was altered since. The record is written first, and while a file is being replaced it holds both digests: whenever
the process is killed, every file has its record. The next process that looks at the store removes what a killed one
left behind.
"""

from __future__ import annotations

import difflib
import errno
import os
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import CancelToken, EventSink, ignore
from meduniseg_core.files import atomic_path, sha256_of
from meduniseg_core.weights.container import SUFFIX
from meduniseg_core.weights.digests import checked_sha256, digest_file, record_digests, recorded_digests
from meduniseg_core.weights.download import download, is_url
from meduniseg_core.weights.store_folder import StoreFolder

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})  # where is copied to, not the file


class Named(Protocol):
    """A description that names its file."""

    @property
    def name(self) -> str:
        """The name under which the file is installed."""


Info = TypeVar("Info", bound=Named)


class Hashed(Protocol):
    """The content of a file, with the file's sha256."""

    @property
    def sha256(self) -> str:
        """64 hexadecimal digits."""


Content = TypeVar("Content", bound=Hashed)


@dataclass(frozen=True)
class StoredAsset(Generic[Info]):
    """A file of a store. If it cannot be used, ``info`` is None and ``problem`` says why."""

    name: str
    path: Path
    shipped: bool
    size_bytes: int
    info: Info | None
    problem: str | None = None


@dataclass(frozen=True)
class Verification:
    """The result of checking a whole file. ``recorded`` is False if there was no recorded sha256 to compare with."""

    name: str
    sha256: str
    recorded: bool


class AssetStore(ABC, Generic[Info, Content]):
    """The files in ``folder`` by name, and those in ``shipped``, which can be neither replaced nor removed.

    Any number of processes may use one folder.

    Args:
        folder: the user's files.
        shipped: the files that are part of the program; None for none.
    """

    noun: ClassVar[str]

    def __init__(self, folder: Path, shipped: Path | None = None) -> None:
        self.folder = folder
        self._own = StoreFolder(folder, self.noun)
        self.shipped = shipped

    @abstractmethod
    def read_info(self, path: Path) -> Info:
        """Read the description in a file's header.

        Args:
            path: the file.

        Returns:
            The description.

        Raises:
            BadInputError: the file cannot be used.
        """

    @abstractmethod
    def read(self, path: Path) -> Content:
        """Read a whole file.

        Args:
            path: the file.

        Returns:
            Its content.

        Raises:
            BadInputError: the file cannot be used.
        """

    def list(self) -> tuple[StoredAsset[Info], ...]:
        """List all files. A damaged one is listed with its problem.

        Returns:
            The files by name, shipped ones first.
        """
        self._own.tidy()
        paths = self._paths()
        return tuple(self._entry(name, path) for name, path in paths.items() if path.is_file())

    def names(self) -> tuple[str, ...]:
        """List the names without reading the files, so damaged ones are included.

        Returns:
            The names, those of shipped files first.
        """
        return tuple(self._paths())

    def find(self, name: str) -> StoredAsset[Info]:
        """Find a file by name; its header is read.

        Args:
            name: the name.

        Returns:
            The file, even if it is damaged.

        Raises:
            UsageError: there is no such file; the message suggests the nearest name.
        """
        return self._entry(name, self._path_of(name))

    def _path_of(self, name: str) -> Path:
        paths = self._paths()
        if name not in paths:
            close = difflib.get_close_matches(name, paths, n=1, cutoff=0.5)
            hint = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(paths) or 'none'}."
            raise UsageError(f"There is no {self.noun} '{name}'; {hint}")
        return paths[name]

    def info(self, name: str) -> Info:
        """Read the description of a file.

        Args:
            name: the file's name.

        Returns:
            The description.

        Raises:
            UsageError: there is no such file.
            BadInputError: it cannot be used.
        """
        entry = self.find(name)
        return entry.info if entry.info is not None else self.read_info(entry.path)

    def load(self, name: str) -> Content:
        """Load a file by name.

        Args:
            name: the file's name.

        Returns:
            Its content.

        Raises:
            UsageError: there is no such file.
            BadInputError: it is damaged, or was altered since its installation.
        """
        return self._load_recorded(self.find(name))[0]

    def recorded(self, name: str) -> str | None:
        """The sha256 recorded at a file's installation. The file itself is normally not read.

        Args:
            name: the file's name.

        Returns:
            The digest; None if none was recorded.

        Raises:
            UsageError: there is no such file.
            BadInputError: the record is damaged.
        """
        path = self._path_of(name)
        records = recorded_digests(path)
        return sha256_of(path) if len(records) > 1 else next(iter(records), None)

    def verify(self, name: str) -> Verification:
        """Read a whole file and compare it with the sha256 recorded at its installation.

        Args:
            name: the file's name.

        Returns:
            Its sha256, and whether there was a record to compare with.

        Raises:
            UsageError: there is no such file.
            BadInputError: it is damaged, or was altered since its installation.
        """
        content, recorded = self._load_recorded(self.find(name))
        return Verification(name=name, sha256=content.sha256, recorded=recorded)

    def import_file(self, path: Path, *, sha256: str | None = None, replace: bool = False) -> StoredAsset[Info]:
        """Check a whole file and copy it into the store under the name in its header.

        A file that is installed already is left alone.

        Args:
            path: the file.
            sha256: its expected digest; None accepts any.
            replace: replace another file of the same name.

        Returns:
            The installed file.

        Raises:
            UsageError: another file has this name already (unless ``replace``), or a shipped one has it.
            BadInputError: the file cannot be used or has another sha256, or the store cannot be written to.
        """
        path = Path(path)
        self.read_info(path)  # cheap; refuses what is of another kind before anything is copied
        with self._own.incoming() as temporary:
            try:
                shutil.copyfile(path, temporary)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    raise  # said of the folder
                raise BadInputError(f"{path}: cannot be copied ({error.strerror}); check file and disk.") from error
            return self._adopt(temporary, str(path), checked_sha256(sha256), replace)

    def install(
        self,
        source: str | Path,
        sha256: str | None = None,
        *,
        replace: bool = False,
        events: EventSink = ignore,
        cancel: CancelToken | None = None,
    ) -> StoredAsset[Info]:
        """Install a file from a path or an https address.

        Args:
            source: the path or address.
            sha256: the expected digest; required for an address.
            replace: replace another file of the same name.
            events: receives the progress of a download.
            cancel: stops a download.

        Returns:
            The installed file.

        Raises:
            UsageError: an address without ``sha256`` or other than https, or the name is taken (see
                :meth:`import_file`).
            BadInputError: the file cannot be fetched or used, or the store cannot be written to.
            CancelledError: ``cancel`` was set.
        """
        if not is_url(str(source)):
            return self.import_file(Path(source), sha256=sha256, replace=replace)
        wanted = checked_sha256(sha256)
        if wanted is None:
            raise UsageError(f"Installing from {source} needs the file's sha256; give it with --sha256.")
        with self._own.incoming() as temporary:
            download(str(source), temporary, wanted, events=events, cancel=cancel)
            return self._adopt(temporary, str(source), wanted, replace)

    def export(self, name: str, target: Path, *, replace: bool = False) -> Path:
        """Copy a file out of the store.

        Args:
            name: the file's name.
            target: the new file, or a folder for a file of the same name.
            replace: replace an existing file.

        Returns:
            The path of the copy.

        Raises:
            UsageError: there is no such file, ``target`` exists, or its name has another suffix.
            BadInputError: the file is damaged or was altered, or the copy cannot be written.
        """
        entry = self.find(name)
        content, _ = self._load_recorded(entry)
        target = Path(target)
        if target.is_dir():
            target = target / f"{name}{SUFFIX}"
        if target.suffix != SUFFIX:
            raise UsageError(f"{target}: a {self.noun} file's name ends in {SUFFIX}; choose such a name or a folder.")
        if os.path.lexists(target) and not replace:
            raise UsageError(f"{target} exists already; choose another name or remove it first.")
        try:
            with atomic_path(target, replace=replace) as temporary:
                shutil.copyfile(entry.path, temporary)
                if sha256_of(temporary) != content.sha256:
                    raise BadInputError(f"{entry.path}: the file changed while it was copied; export it again.")
        except FileExistsError:
            raise UsageError(f"{target} was written by another program just now; choose another name.") from None
        except OSError as error:
            raise BadInputError(f"{target}: cannot be written ({error.strerror}); choose another folder.") from error
        return target

    def remove(self, name: str) -> None:
        """Delete a file.

        Args:
            name: the file's name.

        Raises:
            UsageError: there is no such file, or it is shipped with the program.
        """
        with self._own.locked():
            entry = self.find(name)
            if entry.shipped:
                raise UsageError(f"{self.noun.capitalize()} '{name}' is part of the program and cannot be removed.")
            entry.path.unlink(missing_ok=True)
            digest_file(entry.path).unlink(missing_ok=True)

    # -- inside -------------------------------------------------------------------------------------------------

    def _paths(self) -> dict[str, Path]:
        """The file of each name; a shipped file hides a user's file of the same name."""
        shipped = {path.stem: path for path in sorted(self.shipped.glob(f"*{SUFFIX}"))} if self.shipped else {}
        own = {path.stem: path for path in sorted(self.folder.glob(f"*{SUFFIX}")) if not path.name.startswith(".")}
        return {**shipped, **{name: path for name, path in own.items() if name not in shipped}}

    def _entry(self, name: str, path: Path) -> StoredAsset[Info]:
        info, problem = None, None
        try:
            info = self.read_info(path)
        except BadInputError as error:
            problem = str(error)
        size = path.stat().st_size if path.is_file() else 0
        return StoredAsset(name, path, path.parent == self.shipped, size, info, problem)

    def _load_recorded(self, entry: StoredAsset[Info]) -> tuple[Content, bool]:
        """Load a file and compare it with its record, which is read before and after because the file may be replaced
        meanwhile."""
        before = recorded_digests(entry.path)
        content = self.read(entry.path)
        after = recorded_digests(entry.path)
        if before and after and content.sha256 not in {*before, *after}:
            raise BadInputError(
                f"{entry.path}: the file was altered since it was installed (sha256 {content.sha256} instead of "
                f"{' or '.join(after)}); install it again."
            )
        return content, content.sha256 in {*before, *after}

    def _adopt(self, temporary: Path, source: str, sha256: str | None, replace: bool) -> StoredAsset[Info]:
        """Check all of a temporary file and move it into place under its own name."""
        try:
            content = self.read(temporary)
            name = self.read_info(temporary).name
        except BadInputError as error:
            raise BadInputError(str(error).replace(str(temporary), source)) from error
        if sha256 is not None and content.sha256 != sha256:
            raise BadInputError(
                f"{source}: its sha256 is {content.sha256} and should be {sha256}; it is broken or another file."
            )
        target = self.folder / f"{name}{SUFFIX}"
        with self._own.locked():
            if self.shipped is not None and (self.shipped / target.name).exists():
                raise UsageError(
                    f"'{name}' is the name of a {self.noun} that is part of the program; give yours another."
                )
            former = sha256_of(target) if target.exists() else content.sha256
            if former != content.sha256 and not replace:
                raise UsageError(
                    f"There is another {self.noun} '{name}' already; remove it first, or ask to replace it."
                )
            record_digests(target, former, content.sha256)
            _place(temporary, target)
            record_digests(target, content.sha256)
            return self._entry(name, target)


def _place(temporary: Path, target: Path) -> None:
    """fsync and rename."""
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.replace(target)
