"""The manifest of a run over many cases, ``RUN.jsonl``: proof of what was done, and where to go on.

A case is done when its line is there. The line is appended after the case's results are whole, so a run that is killed
in between segments that case once more, which gives the same files. One process at a time writes a manifest.
"""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from meduniseg_core.archive.manifest_records import VERSION, CaseLine, InputRecord, ManifestHeader, TaskRecord
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import digest_of, write_text, writing_into
from meduniseg_core.json_lines import append_json_line, damaged_line, parsed_line, read_json_lines
from meduniseg_core.structured_text import json_text

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
COMPARED = {
    "output": "writes into another folder",
    "tasks": "is of other tasks",
    "models": "is of other models",
    "packs": "is of other packs",
    "settings": "was made with other options",
    "shard": "is of another shard",
    "cases": "is of other cases",
}
"""What of the header makes two runs different, and how that is said."""


@dataclass(frozen=True)
class ManifestFile:
    """What a manifest holds. ``whole`` is the number of bytes of its whole lines."""

    path: Path
    header: ManifestHeader
    records: tuple[CaseLine, ...]
    whole: int

    @property
    def output(self) -> Path:
        """The folder of the results."""
        return self.path.parent / self.header.output

    def latest(self) -> dict[str, CaseLine]:
        """The last line of each case.

        Returns:
            The lines by the case's name.
        """
        return {record.case: record for record in self.records}


def read_manifest(path: Path) -> ManifestFile:
    """Read a manifest. No lock is needed: half a line at the end is being written, or torn, and is skipped.

    Args:
        path: the manifest.

    Returns:
        Its content.

    Raises:
        BadInputError: it is not a manifest, cannot be read or is damaged; the message names file and line.
    """
    read = read_json_lines(path)
    if not read.lines:
        raise BadInputError(f"{path} is not the manifest of a run: it is empty; check the path.")
    header = parsed_line(ManifestHeader, read.lines[0], path, 1, VERSION)
    numbered = enumerate(read.lines[1:], start=2)
    records = tuple(parsed_line(CaseLine, line, path, number, VERSION) for number, line in numbered)
    known = set(header.cases)
    for number, record in enumerate(records, start=2):
        if record.sequence != number - 1:
            raise damaged_line(path, number, f"it is line {record.sequence} of the cases and {number - 1} belongs here")
        if record.case not in known:
            raise damaged_line(path, number, f"case {record.case} is none of the run's")
    return ManifestFile(path, header, records, read.whole)


class Manifest:
    """A manifest that this process writes; see :meth:`opened`."""

    def __init__(self, content: ManifestFile) -> None:
        self._path = content.path
        self._whole = content.whole
        self._count = len(content.records)
        self.header = content.header
        self.output = content.output
        self.latest = content.latest()
        """The last line of each case."""

    @classmethod
    @contextmanager
    def opened(cls, path: Path, header: ManifestHeader) -> Iterator[Manifest]:
        """Begin a manifest, or go on with one, for as long as the block runs.

        Args:
            path: the manifest.
            header: what the run is.

        Yields:
            The manifest.

        Raises:
            UsageError: it is of another run.
            BadInputError: it is damaged, or another process writes it.
            UnwritableError: it cannot be written.
        """
        with writing_into(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _only_writer(path):
                if path.exists():
                    content = read_manifest(path)
                    _check_same_run(content, header)
                else:
                    write_text(path, json_text(header.model_dump(mode="json"), indent=None), replace=False)
                    content = read_manifest(path)
                yield cls(content)

    def append(
        self,
        case: str,
        status: str,
        *,
        source: InputRecord | None = None,
        tasks: Sequence[TaskRecord] = (),
        error: str | None = None,
        exit_code: int = 0,
        host: str = "",
    ) -> CaseLine:
        """Append the line of a case. It is on disk when the call returns.

        Args:
            case: the case's name.
            status: done, failed or lost.
            source: what it was read from.
            tasks: the result of each task.
            error: why it failed.
            exit_code: of that error.
            host: the machine that did it; empty for this one.

        Returns:
            The line.

        Raises:
            UnwritableError: the disk is full.
        """
        fields: dict[str, Any] = {
            "sequence": self._count + 1,
            "case": case,
            "status": status,
            "input": source,
            "tasks": tuple(tasks),
            "error": error,
            "exit_code": exit_code,
            "host": host or platform.node(),
            "when": datetime.now(UTC),
        }
        record = CaseLine(**fields)
        with writing_into(self._path.parent):
            self._whole = append_json_line(self._path, self._whole, record)
        self._count += 1
        self.latest[case] = record
        return record

    def standing(
        self, case: str, files: Sequence[Path], *, redo_edited: bool = False
    ) -> Literal["done", "lost", "open"]:
        """What is left to do for a case.

        Args:
            case: its name.
            files: what it is read from.
            redo_edited: also count a result as lost that is not as it was written; reads all of them.

        Returns:
            "done"; "lost" where a file of its result is missing, or its image was replaced since; "open" where it was
            never done, or failed.
        """
        record = self.latest.get(case)
        if record is None or record.status != "done":
            return "open"
        now, then = input_record(files), record.input
        if then is None or (then.bytes, then.modified_ns) != (now.bytes, now.modified_ns):
            return "lost"
        for task in record.tasks:
            for name, digest in task.files.items():
                path = self.output / name
                if not path.exists() or (redo_edited and digest_of(path) != digest):
                    return "lost"
        return "done"


def input_record(files: Sequence[Path], sha256: str | None = None) -> InputRecord:
    """Describe what a case is read from.

    Args:
        files: its files or folders.
        sha256: the image's hash, where it was read.

    Returns:
        Names, size and the time of the newest change.
    """
    size, newest = 0, 0
    for path in files:
        for status in _statuses(path):
            size += status.st_size
            newest = max(newest, status.st_mtime_ns)
    return InputRecord(files=tuple(str(path) for path in files), sha256=sha256, bytes=size, modified_ns=newest)


def relative_output(output: Path, manifest: Path) -> str:
    """Name the folder of the results in a header.

    Args:
        output: the folder.
        manifest: the manifest's file.

    Returns:
        The path relative to the manifest's folder, with slashes; absolute where they share no root.
    """
    try:
        return Path(os.path.relpath(output.resolve(), manifest.parent.resolve())).as_posix()
    except ValueError:  # Windows: on different drives
        return output.resolve().as_posix()


def _statuses(path: Path) -> Iterator[os.stat_result]:
    """Those of a file, or of all files in a folder and below it."""
    try:
        if not path.is_dir():
            yield path.stat()
            return
        for folder, _, names in os.walk(path):
            for name in names:
                yield (Path(folder) / name).stat()
    except OSError:  # gone, or not ours to see: reading it says so
        return


def _check_same_run(content: ManifestFile, header: ManifestHeader) -> None:
    for name, what in COMPARED.items():
        there, now = getattr(content.header, name), getattr(header, name)
        if name == "output":
            there, now = ((content.path.parent / folder).resolve() for folder in (there, now))
        if there == now:
            continue
        detail = _difference(there, now)
        raise UsageError(f"{content.path} {what} than this run ({detail}); choose another manifest.")


def _difference(there: Any, now: Any) -> str:
    if isinstance(there, dict):
        name = next(key for key in sorted({*there, *now}) if there.get(key) != now.get(key))
        return f"{name} was {there.get(name)} and is {now.get(name)}"
    if isinstance(there, tuple) and all(isinstance(entry, str) for entry in (*there, *now)):
        gone, new = sorted(set(there) - set(now)), sorted(set(now) - set(there))
        said = [
            f"{len(names)} {word}: {', '.join(names[:3])}" for names, word in ((gone, "gone"), (new, "new")) if names
        ]
        return "; ".join(said) or "in another order"
    if isinstance(there, tuple) and there and isinstance(there[0], int):
        return f"it is {there[0]}/{there[1]} and this is {now[0]}/{now[1]}"
    if isinstance(there, tuple):
        return f"{_models(there)} then, {_models(now)} now"
    return f"{there} then, {now} now"


def _models(used: Sequence[Any]) -> str:
    return ", ".join(f"{model.name} {model.sha256[:12]}" for model in used) or "none"


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BadInputError(
            f"{path} is being written by another run; wait for it to end, or choose another manifest."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        yield  # a disk without locks
        return
    try:
        yield
    finally:
        if os.name != "nt":  # there an open file cannot be removed, and the lock does it by itself
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
