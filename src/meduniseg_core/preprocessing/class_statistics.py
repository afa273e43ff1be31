"""Statistics of a data set's images and classes, which go into the plan of its task."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from meduniseg_core.errors import BadInputError
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.files import write_text
from meduniseg_core.images import Image, canonical_orientation, read_image, read_labels
from meduniseg_core.images.oriented import is_oriented
from meduniseg_core.preprocessing.body import constant_background
from meduniseg_core.preprocessing.dataset import RawCase, RawDataset
from meduniseg_core.preprocessing.detail import detail_features, detail_of
from meduniseg_core.preprocessing.parallel import over_cases
from meduniseg_core.preprocessing.plan import TaskPlan
from meduniseg_core.preprocessing.statistics import ClassStatistics, SizeUnit, TaskStatistics

VERSION = 1  # raised where the same images give other facts


@dataclass(frozen=True)
class ClassFacts:
    """One class in one image; see `ClassStatistics` for the units."""

    voxels: int
    size: float
    intensity: tuple[float, ...]
    centre: tuple[float, float, float]


class CaseFacts(BaseModel):
    """One case's part of `TaskStatistics`; a class that does not occur is None."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = ""
    oriented: bool
    extent: tuple[float, float, float]
    spacing: tuple[float, float, float] | None
    detail: tuple[float, ...] | None
    classes: tuple[tuple[float, tuple[float, ...], tuple[float, float, float]] | None, ...]


def size_unit(image: Image) -> SizeUnit:
    """Choose the unit that classes of an image are measured in.

    Args:
        image: Any image.

    Returns:
        "ml" for a volume, "mm2" for a slice with a size in mm, else "share" (of the image).
    """
    unit, _ = image.size_unit
    return "share" if unit == "pixels" else unit


def class_facts(image: Image, labels: Image, plan: TaskPlan) -> list[ClassFacts | None]:
    """Measure every class of a task in one image: size, mean intensity and centre.

    Args:
        image: ``(C, D, H, W)``.
        labels: ``(1, D, H, W)``, on the image's grid.
        plan: The task's plan.

    Returns:
        One entry per class, in the plan's order; None for a class without a voxel.
    """
    turned, turn = canonical_orientation(image)
    ids = turn.forward(labels.array)[0]
    depth, height, width = ids.shape
    count = plan.class_count
    voxels = np.zeros(count)
    places = np.zeros((3, count))
    channels = min(turned.channels, len(plan.channels))
    sums = np.zeros((channels, count))
    rows, columns = (grid.ravel().astype(np.float64) for grid in np.indices((height, width)))
    for d, plane in enumerate(ids):  # plane by plane: bincount takes 8 bytes a voxel
        inside = np.flatnonzero(plane)
        if inside.size == 0:
            continue
        kept = np.minimum(plane.ravel()[inside], count - 1).astype(np.intp)
        found = np.bincount(kept, minlength=count)
        voxels += found
        places[0] += d * found
        places[1] += np.bincount(kept, weights=rows[inside], minlength=count)
        places[2] += np.bincount(kept, weights=columns[inside], minlength=count)
        for channel in range(channels):
            values = turned.array[channel, d].ravel()[inside].astype(np.float64)
            sums[channel] += np.bincount(kept, weights=values, minlength=count)
    unit = size_unit(image)
    geometry = turned.geometry
    scale = {
        "ml": geometry.voxel_volume / 1000,
        "mm2": geometry.spacing[1] * geometry.spacing[2],
        "share": 1 / (depth * height * width),
    }[unit]
    usual = [_usual(turned.array[channel], plan.normalisation[channel]) for channel in range(channels)]
    facts: list[ClassFacts | None] = []
    for label in range(1, count):
        number = voxels[label]
        if not number:
            facts.append(None)
            continue
        centre = [(places[axis, label] / number + 0.5) / ids.shape[axis] for axis in range(3)]
        means = [(sums[c, label] / number - mean) / spread for c, (mean, spread) in enumerate(usual)]
        facts.append(
            ClassFacts(
                int(number),
                float(number * scale),
                tuple(float(m) for m in means),
                (float(centre[0]), float(centre[1]), float(centre[2])),
            )
        )
    return facts


def task_statistics(
    dataset: RawDataset,
    plan: TaskPlan,
    *,
    keys: dict[str, str] | None = None,
    folder: Path | None = None,
    parallel: int = 1,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> TaskStatistics | None:
    """Compute the statistics of a data set's labelled training cases.

    Args:
        dataset: The data set.
        plan: The task's plan.
        keys: For each case, a key that changes with its files; only these cases count. None: all cases.
        folder: Where to keep each case's facts as ``CASE_facts.json``, to be used again while its key is the same.
        parallel: Number of processes.
        events: Receives progress.
        cancel: Ends the work between two cases.

    Returns:
        The statistics; None where there are no labelled cases.

    Raises:
        BadInputError: A case cannot be read, or its labels lie on another grid.
        CancelledError: ``cancel`` was set.
    """
    cases = [case for case in dataset.cases("Tr") if case.label is not None and (keys is None or case.case in keys)]
    if not cases:
        return None
    begin = time.monotonic()
    jobs = [_Facts(case, plan, (keys or {}).get(case.case), folder) for case in cases]
    facts = {job.case.case: kept for job in jobs if (kept := _kept(job)) is not None}
    missing = [job for job in jobs if job.case.case not in facts]
    for job, found in over_cases(_facts_of, missing, parallel, cancel):
        facts[job.case.case] = found
        events(Progress(f"statistics {plan.task}", len(facts), len(cases), time.monotonic() - begin, job.case.case))
    return statistics_of([facts[case.case] for case in cases], plan)


def statistics_of(facts: Sequence[CaseFacts], plan: TaskPlan) -> TaskStatistics:
    """Join the facts of several cases into ranges.

    Args:
        facts: At least one case.
        plan: The task's plan.

    Returns:
        The statistics.
    """
    physical = all(case.spacing is not None for case in facts)
    unit: SizeUnit = "share" if not physical else ("mm2" if plan.dimension == 2 else "ml")
    details = [np.array(case.detail) for case in facts if case.detail is not None]
    return TaskStatistics(
        cases=len(facts),
        oriented=all(case.oriented for case in facts),
        size_unit=unit,
        extent=_ranges([case.extent for case in facts]),
        spacing=_ranges([case.spacing for case in facts if case.spacing is not None]) if physical else None,
        detail=detail_of(details),
        classes=tuple(_class([case.classes[index] for case in facts]) for index in range(len(plan.classes))),
    )


def _class(
    seen: Sequence[tuple[float, tuple[float, ...], tuple[float, float, float]] | None],
) -> ClassStatistics | None:
    found = [one for one in seen if one is not None]
    if not found:
        return None
    intensity = np.array([one[1] for one in found])
    return ClassStatistics(
        cases=len(found),
        size=_range([one[0] for one in found]),
        intensity=tuple(_range(list(column)) for column in intensity.T),
        centre=_ranges([one[2] for one in found]),
    )


def _ranges(
    values: Sequence[tuple[float, float, float]],
) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    d, h, w = (_range([value[axis] for value in values]) for axis in range(3))
    return d, h, w


def _range(values: Sequence[float]) -> tuple[float, float]:
    # six digits: enough for a range, and plans stay readable
    return float(f"{min(values):.6g}"), float(f"{max(values):.6g}")


@dataclass(frozen=True)
class _Facts:
    """A case to look at, with its key and the folder where its facts are kept (None: nowhere)."""

    case: RawCase
    plan: TaskPlan
    key: str | None
    folder: Path | None

    @property
    def path(self) -> Path | None:
        if self.folder is None or self.key is None:
            return None
        return self.folder / f"{self.case.case}_facts.json"

    @property
    def full_key(self) -> str:
        plan = self.plan
        return f"{VERSION}:{self.key}:{plan.normalisation}:{plan.class_count}:{plan.longest_side}"


def _kept(job: _Facts) -> CaseFacts | None:
    if job.path is None or not job.path.is_file():
        return None
    try:
        kept = CaseFacts.model_validate_json(job.path.read_bytes())
    except (OSError, ValueError):
        return None  # damaged: looked at again
    return kept if kept.key == job.full_key else None


def _facts_of(job: _Facts) -> CaseFacts:
    found = _look_at(job.case, job.plan, job.full_key)
    if job.path is not None:
        write_text(job.path, found.model_dump_json())
    return found


def _look_at(case: RawCase, plan: TaskPlan, key: str) -> CaseFacts:
    assert case.label is not None
    image, labels = read_image(case.images), read_labels(case.label)
    if labels.geometry.shape != image.geometry.shape:
        raise BadInputError(
            f"The labels {labels.name} have another grid than {image.name}; draw them on the image's grid."
        )
    geometry = canonical_orientation(image)[0].geometry
    spacing = geometry.spacing if image.physical else (1.0, 1.0, 1.0)
    d, h, w = (float(size * step) for size, step in zip(geometry.shape, spacing, strict=True))
    features = detail_features(image, plan)
    return CaseFacts(
        key=key,
        oriented=is_oriented(image),
        extent=(d, h, w),
        spacing=geometry.spacing if image.physical else None,
        detail=None if features is None else tuple(float(value) for value in features),
        classes=tuple(
            None if facts is None else (facts.size, facts.intensity, facts.centre)
            for facts in class_facts(image, labels, plan)
        ),
    )


def _usual(channel: np.ndarray, kind: str) -> tuple[float, float]:
    """The mean and standard deviation that a channel's intensities are measured against: 0 and 1 for HU."""
    if kind in ("ct", "none"):
        return 0.0, 1.0
    background = constant_background(channel) if kind == "zscore_nonzero" else None
    total = squares = number = 0.0
    for plane in channel:
        values = plane.astype(np.float64)
        if background is not None:
            values = values[values != background]
        total, squares, number = total + values.sum(), squares + float((values**2).sum()), number + values.size
    if not number:
        return 0.0, 1.0
    mean = total / number
    return float(mean), float(max(np.sqrt(max(0.0, squares / number - mean**2)), 1e-8))
