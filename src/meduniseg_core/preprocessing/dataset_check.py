"""Is a data set fit for use? Every problem, not only the first."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from meduniseg_core.errors import BadInputError, MedUniSegError
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.images import Image, place_labels, read_image, read_labels
from meduniseg_core.images.cases import channel_of, group_files
from meduniseg_core.preprocessing.dataset import RawCase, RawDataset, Split, files_per_case


def check_dataset(dataset: RawDataset, *, events: EventSink = ignore, cancel: CancelToken | None = None) -> list[str]:
    """Every problem of ``dataset`` as one sentence that names the file; reads every image and label map.

    Looked for: missing channels, labels and images, files that cannot be read, labels on another grid than their image,
    label ids that dataset.json does not name, channel counts that disagree, and 2D mixed with 3D.
    """
    problems: list[str] = []
    work: list[tuple[Split, RawCase]] = []
    for split in ("Tr", "Ts"):
        problems += _check_files(dataset, split)
        try:
            work += [(split, case) for case in dataset.cases(split)]
        except BadInputError as error:
            if not any(str(error) == problem for problem in problems):
                problems.append(str(error))
    if not any(split == "Tr" for split, _ in work):
        problems.append(f"{dataset.folder / 'imagesTr'} holds no usable training cases; put images there.")
    try:
        _ = dataset.modality
    except BadInputError as error:
        problems.append(str(error))
    known = {case.case for _, case in work}
    strangers = sorted(set(dataset.description.patient_of) - known)
    if strangers and known:
        problems.append(
            f"{dataset.folder / 'dataset.json'}: patient_of names {strangers[0]}, which is no case; correct it."
        )

    begin = time.monotonic()
    depths: dict[bool, str] = {}
    for done, (split, case) in enumerate(work, start=1):
        if cancel is not None:
            cancel.raise_if_cancelled()
        problems += _check_case(dataset, case, split, depths)
        events(Progress("check", done, len(work), time.monotonic() - begin, case.case))
    if len(depths) == 2:
        problems.append(
            f"{dataset.folder} mixes 2D images ({depths[True]}) and volumes ({depths[False]}); make it two data sets."
        )
    return problems


def _check_files(dataset: RawDataset, split: Split) -> list[str]:
    """Channels that are missing, and labels without an image, from the names alone."""
    images, labels = dataset.folder / f"images{split}", dataset.folder / f"labels{split}"
    ending = dataset.description.file_ending
    if not images.is_dir():
        return [f"{images} is missing; a data set needs it."] if split == "Tr" else []
    wanted = files_per_case(dataset.channels)
    channels: dict[str, set[int]] = {}
    for path in _files(images, ending) if wanted > 1 else ():
        case, channel = channel_of(path.name[: -len(ending)])
        if channel is not None:
            channels.setdefault(case, set()).add(channel)
    problems = [
        f"{images / f'{case}_{channel:04d}{ending}'} is missing; add that channel or remove the case."
        for case, have in sorted(channels.items())
        for channel in range(wanted)
        if channel not in have
    ]
    if labels.is_dir():
        cases = set(channels) | {case.name for case in group_files(_files(images, ending), wanted, ending)}
        problems += [
            f"{path} has no image in {images.name}; add {path.name[: -len(ending)]}_0000{ending} or remove it."
            for path in _files(labels, ending)
            if path.name[: -len(ending)] not in cases
        ]
    return problems


def _files(folder: Path, ending: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith(ending) and not path.name.startswith("."))


def _check_case(dataset: RawDataset, case: RawCase, split: Split, depths: dict[bool, str]) -> list[str]:
    problems: list[str] = []
    wanted = dataset.folder / f"labels{split}" / f"{case.case}{dataset.description.file_ending}"
    if case.label is None and (split == "Tr" or wanted.parent.is_dir()):
        problems.append(f"{wanted} is missing; add the labels or remove the case.")
    try:
        image: Image | None = read_image(case.images)
    except MedUniSegError as error:
        problems.append(str(error))
        image = None
    if image is not None:
        depths.setdefault(image.is_2d, image.name)
        if image.channels != len(dataset.channels):
            problems.append(
                f"{case.images[0]} has {image.channels} channel(s) and dataset.json names {len(dataset.channels)}; "
                "make them agree."
            )
    if case.label is not None:
        problems += _check_label(dataset, case.label, image)
    return problems


def _check_label(dataset: RawDataset, path: Path, image: Image | None) -> list[str]:
    try:
        labels = read_labels(path)
    except MedUniSegError as error:
        return [str(error)]
    problems: list[str] = []
    if image is not None:
        try:
            place_labels(labels, image)
        except BadInputError as error:
            problems.append(str(error))
    strange = sorted(set(np.unique(labels.array).tolist()) - set(range(len(dataset.classes) + 1)))
    if strange:
        ids = ", ".join(str(label) for label in strange[:8])
        problems.append(
            f"{path} holds label ids that dataset.json does not name ({ids}); name them or correct the labels."
        )
    return problems
