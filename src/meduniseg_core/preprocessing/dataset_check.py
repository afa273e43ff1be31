"""Checking whether a data set is fit for use: all problems, not only the first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from meduniseg_core.errors import BadInputError, MedUniSegError
from meduniseg_core.events import CancelToken, EventSink, Message, Progress, ignore
from meduniseg_core.images import Geometry, Image, canonical_orientation, place_labels, read_image, read_labels
from meduniseg_core.preprocessing.dataset import RawDataset
from meduniseg_core.preprocessing.dataset_doubts import DatasetDoubts
from meduniseg_core.preprocessing.dataset_files import CaseFiles
from meduniseg_core.preprocessing.label_ids import check_ids
from meduniseg_core.preprocessing.plan import Normalisation, TaskPlan
from meduniseg_core.preprocessing.planning import is_sided
from meduniseg_core.preprocessing.working_size import check_working_size


@dataclass
class _Seen:
    """What was seen of the cases so far: whether images are 2D (with a name each), labels, grids of images in mm."""

    doubts: DatasetDoubts
    depths: dict[bool, str] = field(default_factory=dict)
    held: set[int] = field(default_factory=set)
    grids: list[tuple[str, Geometry]] = field(default_factory=list)


def check_dataset(dataset: RawDataset, *, events: EventSink = ignore, cancel: CancelToken | None = None) -> list[str]:
    """Find every problem of a data set; reads every image and label map.

    It looks for missing channels, labels and images, files that cannot be read, labels on another grid than their
    image, label ids that dataset.json does not name, channel counts that disagree, voxel sizes that cannot be, and 2D
    images mixed with volumes.

    Args:
        dataset: The data set.
        events: Receives progress, and warnings: a class that no training case holds, fewer cases than stated, and what
            looks wrong in what can be read (`dataset_doubts`): findings of the readers, CT in another scale than the
            rest, orientations that are not known, channels that look like two patients, one image twice.
        cancel: Ends the work between two cases.

    Returns:
        One sentence per problem, naming the file; none where the data set is fit.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    problems = [*dataset.name_faults("Tr"), *dataset.name_faults("Ts")]
    modality = None
    try:
        modality = dataset.modality
    except BadInputError as error:
        problems.append(str(error))
    seen = _Seen(DatasetDoubts(dataset.channels, modality, is_sided(dataset)))
    work = [files for split in ("Tr", "Ts") for files in dataset.files(split).cases]

    begin = time.monotonic()
    for done, case in enumerate(work, start=1):
        if cancel is not None:
            cancel.raise_if_cancelled()
        problems += _check_case(dataset, case, seen)
        events(Progress("check", done, len(work), time.monotonic() - begin, case.case))
    if len(seen.depths) == 2:
        flat, deep = seen.depths[True], seen.depths[False]
        problems.append(f"{dataset.folder} mixes 2D images ({flat}) and volumes ({deep}); make it two data sets.")
    elif modality is not None and seen.grids:
        problems += _impossible_sizes(dataset, modality, seen)
    for text in (*seen.doubts.sentences(), *(_lacking(dataset, seen.held) if not problems else ())):
        events(Message("warning", text))
    return problems


def _lacking(dataset: RawDataset, held: set[int]) -> Iterator[str]:
    """What a data set without a problem may lack all the same."""
    count = len(dataset.files("Tr").cases)
    absent = [name for number, name in enumerate(dataset.classes, start=1) if number not in held]
    if absent and count:
        yield (
            f"{dataset.folder} has no case that holds {', '.join(absent)}: nothing of it can be learned; check its "
            "labels, or leave the class out."
        )
    stated = dataset.description.stated_cases
    if isinstance(stated, int) and stated != count:
        yield (
            f"{dataset.folder} has {count} training cases and its dataset.json says {stated} (numTraining): check that "
            "it is complete."
        )


def _impossible_sizes(dataset: RawDataset, modality: str, seen: _Seen) -> Iterator[str]:
    """What preparing the images for a plan of their median voxel size would refuse."""
    d, h, w = np.median([grid.spacing for _, grid in seen.grids], axis=0)
    kind: Normalisation = "none"
    plan = TaskPlan(
        task=dataset.task,
        modality=modality,
        dimension=2 if True in seen.depths else 3,
        channels=dataset.channels,
        classes=dataset.classes,
        spacing=(float(d), float(h), float(w)),
        patch=(1, 32, 32) if True in seen.depths else (16, 32, 32),
        normalisation=(kind,) * len(dataset.channels),
        figures=(None,) * len(dataset.channels),
    )
    for name, grid in seen.grids:
        try:
            check_working_size(grid, plan, name)
        except BadInputError as error:
            yield str(error)


def _check_case(dataset: RawDataset, case: CaseFiles, seen: _Seen) -> list[str]:
    problems: list[str] = []
    try:
        image: Image | None = read_image(case.images)
    except MedUniSegError as error:
        problems.append(str(error))
        image = None
    if image is not None:
        seen.depths.setdefault(image.is_2d, image.name)
        if image.physical:
            seen.grids.append((image.name, canonical_orientation(image)[0].geometry))
        if image.channels != len(dataset.channels):
            problems.append(
                f"{case.images[0]} has {image.channels} channel(s) and dataset.json names {len(dataset.channels)}; "
                "make them agree."
            )
    placed: Image | None = None
    if case.label is not None and case.label.is_file():
        found, placed = _check_label(dataset, case.label, image, seen.held)
        problems += found
    if image is not None:
        seen.doubts.add(image, placed)
    return problems


def _check_label(
    dataset: RawDataset, path: Path, image: Image | None, held: set[int]
) -> tuple[list[str], Image | None]:
    """The label map's problems, and it on the image's grid, if it fits."""
    try:
        labels = read_labels(path)
    except MedUniSegError as error:
        return [str(error)], None
    placed: Image | None = None
    held |= {n for n in range(1, len(dataset.classes) + 1) if n not in held and bool((labels.array == n).any())}
    problems: list[str] = []
    if image is not None:
        try:
            placed = place_labels(labels, image)
        except BadInputError as error:
            problems.append(str(error))
    try:
        check_ids(labels, dataset.classes, dataset.ignored)
    except BadInputError as error:
        problems.append(str(error))
    return problems, placed
