"""Properties of a data set: sizes, spacings, foreground intensities, classes that occur (nnU-Net's fingerprint)."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from meduniseg_core.errors import BadInputError
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.files import atomic_path
from meduniseg_core.images import canonical_orientation, place_labels, read_image, read_labels
from meduniseg_core.images.boxes import box_shape, whole_box
from meduniseg_core.images.geometry import Shape3, Vector3
from meduniseg_core.preprocessing.body import body_box
from meduniseg_core.preprocessing.dataset import RawCase, RawDataset
from meduniseg_core.preprocessing.label_ids import check_ids
from meduniseg_core.preprocessing.parallel import over_cases
from meduniseg_core.preprocessing.plan import IntensityStatistics, Normalisation
from meduniseg_core.preprocessing.source_files import SourceFiles

SAMPLES_PER_CASE = 10_000
_HU_AIR = -200.0
_VERSION = 1  # raised where the same files give other figures


class Fingerprint(BaseModel):
    """Properties of a data set's training cases, in canonical orientation; geometry in array order ``(D, H, W)``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    cases: int = Field(ge=1)
    dimension: Literal[2, 3]
    physical: bool = Field(description="all images have a size in mm")
    hounsfield: tuple[bool, ...] = Field(
        description="per channel: a CT channel that reaches values of air in most cases"
    )
    spacings: tuple[Vector3, ...] = Field(description="mm, per case")
    shapes: tuple[Shape3, ...] = Field(description="voxels of the body box, per case")
    body_fraction: float = Field(description="median share of the image that the box of the body takes")
    figures: tuple[IntensityStatistics | None, ...] = Field(
        description="per channel, over the foreground; None where constant"
    )
    presence: dict[str, int] = Field(description="class -> number of cases that hold it")

    @property
    def median_spacing(self) -> Vector3:
        """The median spacing per axis, in mm."""
        d, h, w = (float(np.median([spacing[a] for spacing in self.spacings])) for a in range(3))
        return d, h, w


@dataclass(frozen=True)
class _CaseFigures:
    physical: bool
    spacing: Vector3
    shape: Shape3
    fraction: float
    minimum: tuple[float, ...]
    samples: np.ndarray  # (C, n)
    labels: np.ndarray


def case_seed(case: str, seed: int = 0) -> int:
    """Make a case's seed, which is the same on every machine and in any order of the cases.

    Args:
        case: The case's name.
        seed: The seed of the whole run.

    Returns:
        A number of 63 bits.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{case}".encode()).digest()[:8], "big") >> 1


def ct_channels(channels: tuple[str, ...], modality: str) -> tuple[bool, ...]:
    """Find the CT channels: those named so, and in a CT data set those not named otherwise.

    Args:
        channels: The channels' names.
        modality: The data set's modality.

    Returns:
        One flag per channel.
    """
    others = {"pet", "suv", "mri", "mr", "t1", "t2", "flair", "nonorm", "mask"}
    return tuple(
        name.strip().lower() == "ct" or (modality == "ct" and name.strip().lower() not in others) for name in channels
    )


def extract_fingerprint(
    dataset: RawDataset,
    *,
    seed: int = 0,
    parallel: int = 1,
    store: Path | None = None,
    sources: SourceFiles | None = None,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> Fingerprint:
    """Compute the fingerprint from every training case.

    Args:
        dataset: The data set.
        seed: Seeds, with the case's name, the sampling of foreground intensities.
        parallel: Number of processes.
        store: A folder that keeps each case's figures, by the hash of its files; None keeps nothing.
        sources: Hashes those files.
        events: Receives progress.
        cancel: Ends the work between two cases.

    Returns:
        The fingerprint.

    Raises:
        BadInputError: There are no training cases, a case cannot be read, or images do not fit together.
        CancelledError: ``cancel`` was set.
    """
    cases = dataset.training_cases()
    ct = ct_channels(dataset.channels, dataset.modality)
    begin = time.monotonic()
    files = sources or SourceFiles(None, dataset.folder)
    if store is not None and parallel > 1:
        files.read_ahead(cases, parallel)
    jobs = [_Look(case, dataset, ct, seed, *_place(case, dataset, ct, seed, store, files)) for case in cases]
    found_now: dict[str, _CaseFigures] = {}
    for job in jobs:
        known = _stored(job)
        if known is not None:
            found_now[job.case.case] = known
    files.save()
    missing = [job for job in jobs if job.case.case not in found_now]
    if found_now:
        events(Progress("fingerprint", len(found_now), len(cases), time.monotonic() - begin))
    for job, figures in over_cases(_looked_at, missing, parallel, cancel):
        found_now[job.case.case] = figures
        events(Progress("fingerprint", len(found_now), len(cases), time.monotonic() - begin, job.case.case))
    seen = [found_now[case.case] for case in cases]

    samples = [np.concatenate([one.samples[c] for one in seen]) for c in range(len(ct))]
    lowest = np.median([one.minimum for one in seen], axis=0)
    found = [set(one.labels.tolist()) for one in seen]
    return Fingerprint(
        dataset=dataset.name,
        cases=len(cases),
        dimension=dataset.dimension,
        physical=all(one.physical for one in seen),
        hounsfield=tuple(is_ct and bool(low < _HU_AIR) for is_ct, low in zip(ct, lowest, strict=True)),
        spacings=tuple(one.spacing for one in seen),
        shapes=tuple(one.shape for one in seen),
        body_fraction=float(np.median([one.fraction for one in seen])),
        figures=tuple(_figures(values) for values in samples),
        presence={name: sum(label in ids for ids in found) for label, name in enumerate(dataset.classes, start=1)},
    )


@dataclass(frozen=True)
class _Look:
    """A case to look at; where its figures are kept, and the key that they must have (None: nowhere)."""

    case: RawCase
    dataset: RawDataset
    ct: tuple[bool, ...]
    seed: int
    file: Path | None
    key: str


def _place(
    case: RawCase, dataset: RawDataset, ct: tuple[bool, ...], seed: int, store: Path | None, files: SourceFiles
) -> tuple[Path | None, str]:
    if store is None or case.label is None:
        return None, ""
    try:
        digests = [files.sha256(path) for path in (*case.images, case.label)]
    except OSError:
        return None, ""  # looking at the case says what is wrong
    content = [_VERSION, digests, list(dataset.classes), dataset.ignored, dataset.dimension, list(ct), seed]
    return store / f"{case.case}.npz", hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _stored(job: _Look) -> _CaseFigures | None:
    if job.file is None or not job.file.is_file():
        return None
    try:
        with np.load(job.file, allow_pickle=False) as content:
            if str(content["key"]) != job.key:
                return None
            spacing, shape = content["spacing"].tolist(), content["shape"].tolist()
            return _CaseFigures(
                physical=bool(content["physical"]),
                spacing=(spacing[0], spacing[1], spacing[2]),
                shape=(shape[0], shape[1], shape[2]),
                fraction=float(content["fraction"]),
                minimum=tuple(content["minimum"].tolist()),
                samples=content["samples"].astype(np.float64),
                labels=content["labels"],
            )
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile):
        return None  # damaged: looked at again


def _looked_at(job: _Look) -> _CaseFigures:
    figures = _look_at(job.case, job.dataset, job.ct, job.seed)
    if job.file is not None:
        job.file.parent.mkdir(parents=True, exist_ok=True)
        single = figures.samples.astype(np.float32)
        exact = single if np.array_equal(single, figures.samples) else figures.samples
        with atomic_path(job.file) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **{**vars(figures), "samples": exact, "key": job.key})
    return figures


def _look_at(case: RawCase, dataset: RawDataset, ct: tuple[bool, ...], seed: int) -> _CaseFigures:
    stored = read_image(case.images)
    image, turn = canonical_orientation(stored)
    if image.channels != len(ct):
        raise BadInputError(
            f"{image.name} has {image.channels} channel(s) and dataset.json of {dataset.name} names {len(ct)}; "
            "make them agree."
        )
    if image.is_2d != (dataset.dimension == 2):
        raise BadInputError(
            f"{dataset.folder} mixes 2D images and volumes ({image.name}); split it into two data sets."
        )
    array = image.array
    kinds: tuple[Normalisation, ...] = tuple("ct" if is_ct else "zscore" for is_ct in ct)
    box = body_box(array, kinds) if image.physical and not image.is_2d else whole_box(array.shape[1:])
    size = box_shape(box)
    assert case.label is not None  # a training case has labels
    read = read_labels(case.label)
    check_ids(read, dataset.classes, dataset.ignored)
    ids = turn.forward(place_labels(read, stored).array)[0]
    labels = np.unique(ids)
    inside = np.flatnonzero((ids > 0) & (ids <= len(dataset.classes)))
    generator = np.random.default_rng(case_seed(case.case, seed))
    if inside.size:
        # with replacement, the same number from each case: none counts for more by being larger (nnU-Net)
        index = generator.choice(inside, SAMPLES_PER_CASE)
        samples = np.stack([channel[np.unravel_index(index, channel.shape)] for channel in array])
    else:
        samples = np.zeros((len(ct), 0))
    return _CaseFigures(
        physical=image.physical,
        spacing=image.geometry.spacing,
        shape=size,
        fraction=float(np.prod(size) / array[0].size),
        minimum=tuple(float(channel.min()) for channel in array),
        samples=samples.astype(np.float64),
        labels=labels,
    )


def _figures(values: np.ndarray) -> IntensityStatistics | None:
    if values.size == 0 or values.std() == 0:
        return None
    low, high = np.percentile(values, (0.5, 99.5))
    return IntensityStatistics(
        mean=float(values.mean()), std=float(values.std()), percentile_00_5=float(low), percentile_99_5=float(high)
    )
