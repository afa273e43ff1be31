"""The worklist's own file, ``worklist.json`` beside the results: what neither the results nor the ledger hold.

It is replaced as a whole (`files.write_text`) under a lock, so a killed process leaves the old or the new file, and
several processes (the window, the command that predicts the next case) may write it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import write_text, writing_into
from meduniseg_core.validation import read_as

VERSION = 1
NAME = "worklist.json"
_LOCK_SECONDS = 60.0

Signature = tuple[int, int]
"""A file's size in bytes and the time of its last change in ns."""

_Single = Annotated[float, Field(ge=-3.5e38, le=3.5e38, allow_inf_nan=False)]  # so that squares stay finite
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Seen(_Part):
    """An image that was read: its hash (as a ledger computes it), valid while its files have these signatures."""

    image_sha256: _Sha256
    files: tuple[Signature, ...]


class Predicted(_Part):
    """Figures of a prediction.

    ``voxels``: how many it labels. ``features``: the encoder's means (`inference.quality.evidence`), comparable only
    with those of the same model.
    """

    image_sha256: _Sha256
    model_sha256: str
    uncertainty: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    voxels: int = Field(ge=0)
    features: tuple[_Single, ...] = ()


class WorklistFile(_Part):
    """The content of the file: the task, the skipped cases, and by case name the images read and the predictions."""

    kind: Literal["worklist"] = "worklist"
    version: int = Field(default=VERSION, ge=1, le=VERSION)
    task: str
    skipped: tuple[str, ...] = ()
    seen: dict[str, Seen] = Field(default_factory=dict)
    predicted: dict[str, Predicted] = Field(default_factory=dict)


def read_state(folder: Path, task: str) -> WorklistFile:
    """Read the file.

    Args:
        folder: the folder of the results.
        task: the worklist's task.

    Returns:
        Its content; an empty one if there is no file.

    Raises:
        BadInputError: it is damaged, of a newer version or of another task.
    """
    path = folder / NAME
    if not path.exists():
        return WorklistFile(task=task)
    found = read_as(path, WorklistFile, "a worklist of this version", _REMEDY)
    if found.task != task:
        raise BadInputError(f"{path} is the worklist of task {found.task}; choose another folder for {task}.")
    return found


_REMEDY = "move it away: only the skipped cases and the order by worth are lost"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time change the file; read it again within the block.

    Args:
        folder: the folder of the results, created if missing.

    Yields:
        Nothing.

    Raises:
        BadInputError: another process holds it for a minute.
        UnwritableError: the folder cannot be written to.
    """
    with writing_into(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f".{NAME}.lock", timeout=_LOCK_SECONDS)
        try:
            lock.acquire()
        except Timeout:
            raise BadInputError(f"{folder / NAME} is being written by another program; try again.") from None
        try:
            yield
        finally:
            lock.release()


def write_state(folder: Path, content: WorklistFile) -> None:
    """Replace the file; it is on disk when the call returns. Only within :func:`locked`.

    Args:
        folder: the folder of the results.
        content: the new content.

    Raises:
        UnwritableError: the folder cannot be written to.
    """
    write_text(folder / NAME, content.model_dump_json())


def signature_of(path: Path) -> Signature:
    """Compute a signature that changes when a file does.

    Args:
        path: a file, or a folder of DICOM.

    Returns:
        Size and time; for a folder the total size of its files and the latest time.
    """
    status = path.stat()
    if not path.is_dir():
        return status.st_size, status.st_mtime_ns
    inside = [entry.stat() for entry in path.iterdir() if entry.is_file()]
    return sum(one.st_size for one in inside), max([status.st_mtime_ns, *(one.st_mtime_ns for one in inside)])
