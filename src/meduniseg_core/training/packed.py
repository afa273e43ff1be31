"""Packs a prepared run into one file, small enough to be trained on another machine without its data sets.

Intensities are quantised (one byte per voxel, between the channel's minimum and maximum) and compressed as JPEG,
volumes as slices below each other. Everything else is exact, including the hash of the run, so a checkpoint of one
machine can be resumed on the other.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import atomic_path, write_text
from meduniseg_core.preprocessing import CachedCase, TaskPlan
from meduniseg_core.preprocessing.cache import foreground_voxels, labelled_voxels
from meduniseg_core.preprocessing.cached_cases import CaseRecord
from meduniseg_core.training.prepare import Prepared, PreparedTask
from meduniseg_core.weights import ModelInfo

_CONTENT = "prepared.json"
_QUALITY = 80  # of the JPEGs: pack, code and a checkpoint fit 64 MiB
_LARGEST = 1 << 31  # voxels of one case; a packed case has no more
_JPEG_SIDE = 65_000  # the most rows or columns that a JPEG takes


class _Case(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: str
    case: str
    patient: str
    shape: tuple[int, int, int]
    counts: dict[int, int]
    low: list[float]
    high: list[float]
    jpeg: bool
    sparse: bool = False  # parts are labelled "ignore"


class _Task(BaseModel):
    model_config = ConfigDict(extra="forbid")

    plan: TaskPlan
    train: list[_Case]
    validation: list[_Case]


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid")

    info: ModelInfo
    config_hash: str = Field(validation_alias=AliasChoices("config_hash", "fingerprint"))
    seed: int
    tasks: list[_Task]


def pack(prepared: Prepared, path: Path, *, seed: int = 0) -> None:
    """Write a prepared run into one file. Corrections (where an annotator changed a prediction) are not packed.

    Args:
        prepared: the run.
        path: the file.
        seed: the seed that its cases were preprocessed with.

    Raises:
        UnwritableError: the folder cannot be written to.
    """
    tasks = []
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for task in prepared.tasks:
            sides = [[_put(archive, task.plan, case) for case in side] for side in (task.train, task.validation)]
            tasks.append(_Task(plan=task.plan, train=sides[0], validation=sides[1]))
        content = _Content(info=prepared.info, config_hash=prepared.config_hash, seed=seed, tasks=tasks)
        archive.writestr(_CONTENT, zlib.compress(content.model_dump_json().encode("utf-8")))


def unpack(path: Path, folder: Path) -> Prepared:
    """Unpack a run so that it can be trained.

    Args:
        path: the packed file.
        folder: where to write its cases.

    Returns:
        The run.

    Raises:
        BadInputError: it is not a packed run, or it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = _Content.model_validate_json(zlib.decompress(archive.read(_CONTENT)))
            tasks = tuple(
                PreparedTask(
                    task.plan,
                    tuple(_laid(archive, task.plan, case, folder, content.seed) for case in task.train),
                    tuple(_laid(archive, task.plan, case, folder, content.seed) for case in task.validation),
                )
                for task in content.tasks
            )
    except (OSError, ValueError, KeyError, ValidationError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInputError(
            f"{path}: is not a packed run, or it is damaged ({type(error).__name__}); pack it again."
        ) from error
    return Prepared(info=content.info, tasks=tasks, config_hash=content.config_hash)


def _put(archive: zipfile.ZipFile, plan: TaskPlan, case: CachedCase) -> _Case:
    data = np.asarray(case.data, dtype=np.float32)
    low, high = data.min(axis=(1, 2, 3)), data.max(axis=(1, 2, 3))
    scale = np.maximum(high - low, 1e-6)
    levels = np.rint((data - low[:, None, None, None]) / scale[:, None, None, None] * 255).astype(np.uint8)
    jpeg = max(levels.shape[0] * levels.shape[1] * levels.shape[2], levels.shape[3]) <= _JPEG_SIDE
    name = f"{plan.task}/{case.case}"
    archive.writestr(f"{name}.image", _jpeg(levels) if jpeg else zlib.compress(levels.tobytes(), 9))
    archive.writestr(f"{name}.labels", zlib.compress(np.ascontiguousarray(case.seg).tobytes(), 9))
    return _Case(
        key=case.record.key,
        case=case.case,
        patient=case.patient,
        shape=case.shape,
        counts=case.counts,
        low=low.tolist(),
        high=high.tolist(),
        jpeg=jpeg,
        sparse=case.record.looked_at is not None,
    )


def _laid(archive: zipfile.ZipFile, plan: TaskPlan, case: _Case, folder: Path, seed: int) -> CachedCase:
    name, shape, channels = f"{plan.task}/{case.case}", case.shape, len(case.low)
    if Path(case.case).name != case.case or int(np.prod(shape)) * channels > _LARGEST:
        raise ValueError("a case's name or size")
    raw = archive.read(f"{name}.image")
    levels = _pixels(raw) if case.jpeg else np.frombuffer(zlib.decompress(raw), dtype=np.uint8)
    levels = levels.reshape(channels, *shape)
    low, high = (np.array(side, dtype=np.float32)[:, None, None, None] for side in (case.low, case.high))
    data = (levels * ((high - low) / 255) + low).astype(np.float16)
    seg = np.frombuffer(zlib.decompress(archive.read(f"{name}.labels")), dtype=np.uint8).reshape(shape)
    target = folder / plan.task
    for path, array in ((target / f"{case.case}.npy", data), (target / f"{case.case}_seg.npy", seg)):
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, array, allow_pickle=False)
    record = CaseRecord(
        key=case.key,
        case=case.case,
        patient=case.patient,
        shape=shape,
        counts=case.counts,
        foreground=foreground_voxels(seg, range(1, plan.class_count), case.case, seed),
        looked_at=labelled_voxels(seg, case.case, seed) if case.sparse else None,
    )
    write_text(target / f"{case.case}.json", record.model_dump_json())
    return CachedCase(target, record)


def _jpeg(levels: npt.NDArray[np.uint8]) -> bytes:
    """JPEG of (C, D, H, W): a colour image as such, everything else as grey slices below each other."""
    colour = len(levels) == 3 and levels.shape[1] == 1
    pixels = np.moveaxis(levels[:, 0], 0, -1) if colour else levels.reshape(-1, levels.shape[3])
    stream = io.BytesIO()
    Picture.fromarray(np.ascontiguousarray(pixels)).save(stream, "JPEG", quality=_QUALITY, subsampling=0)
    return stream.getvalue()


def _pixels(raw: bytes) -> npt.NDArray[np.uint8]:
    """The values of :func:`_jpeg` in its order; the caller reshapes them."""
    with Picture.open(io.BytesIO(raw), formats=("JPEG",)) as picture:
        pixels = np.asarray(picture)
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0)) if pixels.ndim == 3 else pixels


def sizes(path: Path) -> Iterator[tuple[str, int]]:
    """The compressed size of every task in a packed run.

    Args:
        path: the packed file.

    Yields:
        Task and bytes, sorted by task.
    """
    totals: dict[str, int] = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            task = entry.filename.partition("/")[0]
            totals[task] = totals.get(task, 0) + entry.compress_size
    yield from sorted(totals.items())
