"""The sha256 of a data set's files, remembered with their size and times, so that what did not change is not read."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from meduniseg_core.files import sha256_of, write_if_changed
from meduniseg_core.preprocessing.dataset import RawCase
from meduniseg_core.structured_text import try_read_json

_YOUNG = 2.0  # seconds: a file may be written twice within one tick of the disk's clock
_LARGEST = 256 << 20  # bytes of the record; 100,000 files take 20 million

_Signature = tuple[int, int, int]  # size, time of change of the content and of the entry (ns)


class _Known(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: int = 1
    files: dict[str, tuple[int, int, int, str]] = {}


class SourceFiles:
    """Hashes files, each once; with ``trust_times`` not those whose size and times are as recorded.

    Args:
        record: where hashes are remembered; None for this object's life alone.
        root: the data set's folder; files in it are known by their names below it.
        trust_times: whether the record may be believed. Without it every file is read.
    """

    def __init__(self, record: Path | None, root: Path, *, trust_times: bool = False) -> None:
        self._record, self._root = record, root
        self._before: dict[str, tuple[int, int, int, str]] = {}
        content = None if record is None else try_read_json(record, _LARGEST)
        try:
            known = _Known.model_validate(content).files if content is not None else {}
        except ValidationError:
            known = {}  # damaged, or of another version: everything is read
        self._before = known
        self._trusted = dict(known) if trust_times else {}
        self._found: dict[str, tuple[int, int, int, str]] = {}

    def sha256(self, path: Path) -> str:
        """Hash a file, or remember its hash.

        Args:
            path: the file.

        Returns:
            Its sha256 in hexadecimal digits.

        Raises:
            OSError: it cannot be read.
        """
        name, signature = self._name(path), _signature(path)
        for known in (self._found.get(name), self._trusted.get(name)):
            if known is not None and known[:3] == signature:
                self._found[name] = known
                return known[3]
        digest = sha256_of(path)
        if _signature(path) == signature and time.time() - signature[1] / 1e9 > _YOUNG:
            self._found[name] = (*signature, digest)
        return digest

    def read_ahead(self, cases: list[RawCase], threads: int) -> None:
        """Hash the files of cases in several threads.

        Args:
            cases: the cases.
            threads: how many.
        """
        files = [path for case in cases for path in (*case.images, *((case.label,) if case.label else ()))]
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(self._try, files):
                pass

    def save(self) -> None:
        """Write the record; files that were not asked for stay in it."""
        if self._record is not None and self._found.items() - self._before.items():
            self._record.parent.mkdir(parents=True, exist_ok=True)
            files = dict(sorted({**self._before, **self._found}.items()))
            write_if_changed(self._record, _Known(files=files).model_dump_json())

    def _try(self, path: Path) -> None:
        try:
            self.sha256(path)
        except OSError:
            return  # whoever needs the file will say what is wrong with it

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._root)) if path.is_relative_to(self._root) else str(path)


def _signature(path: Path) -> _Signature:
    state = path.stat()
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns
