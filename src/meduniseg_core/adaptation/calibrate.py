"""Calibrate a model: what its results on images with known labels say about its results on others.

Every image is segmented as it is, in changed copies on which the model does worse, and with images of other kinds on
which there is nothing to find. Images that the model was trained on tell what it has seen, but not how well it does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from meduniseg_core.adaptation.calibration_fit import Observation, fit_calibration
from meduniseg_core.adaptation.worsened import worsened
from meduniseg_core.errors import UsageError
from meduniseg_core.evaluation import dice
from meduniseg_core.events import CancelToken, EventSink, Message, Progress, ignore
from meduniseg_core.files import write_text
from meduniseg_core.images import Image, read_image, read_labels
from meduniseg_core.images.grid import place_labels
from meduniseg_core.inference.predictor import Predictor
from meduniseg_core.inference.quality.evidence import ClassEvidence, Evidence
from meduniseg_core.inference.quality.features import VERSION
from meduniseg_core.preprocessing import RawCase, RawDataset
from meduniseg_core.structured_text import parse_json
from meduniseg_core.training.split import Split
from meduniseg_core.version import __version__
from meduniseg_core.weights import ModelInfo
from meduniseg_core.weights.calibration import Calibration

MOST_IMAGES = 100
LEAST_IMAGES = 8  # of all tasks together, that the model was not trained on
_FOREIGN = 5  # one image of another kind for so many of a task's own


@dataclass(frozen=True)
class _Sample:
    """What is segmented: a case of ``source`` for the task of ``dataset``, as it is, changed or foreign."""

    dataset: RawDataset
    source: RawDataset
    case: RawCase
    kind: str
    learned: bool

    @property
    def name(self) -> str:
        return f"{self.dataset.task}--{self.kind}--{self.case.case}"


def observe(
    predictor: Predictor,
    datasets: Sequence[RawDataset],
    *,
    splits: Mapping[str, Split] | None = None,
    images: int = MOST_IMAGES,
    copies: int = 1,
    cache: Path | None = None,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> list[Observation]:
    """Segment everything that a calibration is fitted to.

    Args:
        predictor: of the model; without packs.
        datasets: one for each task, in nnU-Net's layout; a ledger of corrections is one.
        splits: by task, which cases the model was trained on (a training leaves ``split.json``); without, it is taken
            to know none of them.
        images: at most so many of each task, and half as many of those it was trained on.
        copies: changed copies of each image.
        cache: a folder that keeps what was found on each image, so that what broke off goes on there.
        events: progress, by images (stage "calibrate").
        cancel: polled at every window.

    Returns:
        An observation for every image, changed copy and foreign image.

    Raises:
        UsageError: a task that the model has not or with other classes, one given twice, too few images.
    """
    check_datasets(predictor.model.info, datasets)
    known = _trained_on(predictor.model.info, datasets) if splits is None else []
    if known:
        text = (
            f"{predictor.model.info.name} was trained on {', '.join(known)}: its results there are better than "
            "elsewhere. Give the training's split.json (--split), so that only what it has not seen is counted."
        )
        events(Message("warning", text))
    samples = [sample for dataset in datasets for sample in _samples(dataset, datasets, splits or {}, images, copies)]
    fresh = sum(sample.kind == "original" and not sample.learned for sample in samples)
    if fresh < LEAST_IMAGES:
        raise UsageError(
            f"A calibration needs at least {LEAST_IMAGES} images that {predictor.model.info.name} was not trained on, "
            f"and there are {fresh}; give more data sets or corrected cases."
        )
    began = time.perf_counter()
    found = []
    for number, sample in enumerate(samples):
        events(Progress("calibrate", number, len(samples), time.perf_counter() - began, sample.name))
        found.append(_observed(predictor, sample, cache, cancel))
    events(Progress("calibrate", len(samples), len(samples), time.perf_counter() - began))
    return found


def calibration_of(info: ModelInfo, datasets: Sequence[RawDataset], observations: Sequence[Observation]) -> Calibration:
    """Fit a calibration to what :func:`observe` found.

    Args:
        info: of the model.
        datasets: whose images were looked at.
        observations: of every task.

    Returns:
        The calibration, with its provenance.
    """
    found = fit_calibration(observations, [info.plan_of(dataset.task) for dataset in datasets])
    provenance: dict[str, Any] = {
        "version": __version__,
        "date": datetime.now(UTC).date().isoformat(),
        "images": sum(not (one.copy or one.learned) for one in observations),
        "copies": sum(one.copy for one in observations),
        "datasets": [dataset.name for dataset in datasets],
    }
    return found.model_copy(update={"provenance": provenance})


def observation_of(
    predictor: Predictor,
    dataset: RawDataset,
    case: RawCase,
    image: Image,
    labels: Image | None,
    *,
    copy: bool = False,
    learned: bool = False,
    cancel: CancelToken | None = None,
) -> Observation:
    """Segment one image and compare.

    Args:
        predictor: of the model.
        dataset: of the task.
        case: where the image comes from.
        image: (C, D, H, W).
        labels: (1, D, H, W) on its grid; None: it holds no class.
        copy: whether it is changed or foreign.
        learned: whether the model was trained on it.
        cancel: polled at every window.

    Returns:
        The observation.
    """
    result = predictor.segment(image, dataset.task, evidence=True, cancel=cancel)[dataset.task]
    assert result.evidence is not None
    predicted = result.labels.array[0]
    truth = np.zeros_like(predicted) if labels is None else labels.array[0]
    if labels is not None and dataset.ignored is not None:
        looked_at = truth != dataset.ignored
        predicted, truth = predicted * looked_at, truth * looked_at
    ids = range(1, len(result.class_names) + 1)
    return Observation(
        task=dataset.task,
        group=case.patient,
        evidence=result.evidence,
        dice=tuple(dice(predicted, truth, label) for label in ids),
        present=tuple(bool((truth == label).any()) for label in ids),
        copy=copy,
        learned=learned,
    )


def check_datasets(info: ModelInfo, datasets: Sequence[RawDataset]) -> None:
    """Refuse data sets that a model cannot be measured on.

    Args:
        info: description of the model.
        datasets: one for each task.

    Raises:
        UsageError: a task that the model has not or with other classes, or one given twice.
    """
    tasks = [dataset.task for dataset in datasets]
    for dataset in datasets:
        plan = info.plan_of(dataset.task)
        if tasks.count(dataset.task) > 1:
            raise UsageError(f"Two data sets have the task '{dataset.task}'; give one for each task.")
        if plan.classes != dataset.classes:
            raise UsageError(
                f"{dataset.name} has the classes {', '.join(dataset.classes)}, and task {plan.task} of model "
                f"{info.name} {', '.join(plan.classes)}; give a data set of these."
            )


def _trained_on(info: ModelInfo, datasets: Sequence[RawDataset]) -> list[str]:
    """Names of the data sets that the model's training names, too."""
    listed = info.provenance.get("datasets")
    names = {entry.get("name") for entry in listed if isinstance(entry, dict)} if isinstance(listed, list) else set()
    return [dataset.name for dataset in datasets if dataset.name in names]


def _samples(
    dataset: RawDataset, datasets: Sequence[RawDataset], splits: Mapping[str, Split], images: int, copies: int
) -> Iterator[_Sample]:
    """The samples of one task; of long lists an even choice that does not change."""
    split = splits.get(dataset.task)
    trained = set() if split is None else set(split.train)
    cases = sorted((case for case in dataset.cases("Tr") if case.label is not None), key=lambda c: _seed(c.case))
    fresh = [case for case in cases if case.case not in trained][:images]
    learned = [case for case in cases if case.case in trained][: max(1, images // 2)]
    few = len(fresh) < images // 2  # then copies of what it was trained on have to do
    for case in (*fresh, *learned):
        old = case.case in trained
        yield _Sample(dataset, dataset, case, "original", old)
        for number in range(copies if few or not old else 0):
            yield _Sample(dataset, dataset, case, f"copy{number}", old)
    own = dataset.channels
    others = [
        other
        for other in datasets
        if other.modality != dataset.modality
        and len(other.channels) == len(own)
        and other.dimension == dataset.dimension
    ]
    rng = np.random.default_rng(_seed(dataset.task))
    wanted = (len(fresh) + len(learned)) // _FOREIGN if others and copies else 0
    listed = [(other, other.cases("Tr")) for other in others] if wanted else []
    for _ in range(wanted):
        other, foreign = listed[int(rng.integers(len(listed)))]
        yield _Sample(dataset, other, foreign[int(rng.integers(len(foreign)))], "foreign", False)


def _observed(predictor: Predictor, sample: _Sample, cache: Path | None, cancel: CancelToken | None) -> Observation:
    key = f"{predictor.model.sha256}-{predictor.dtype}-{VERSION}-{sample.name}"
    path = None if cache is None else cache / f"{sample.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if path is not None and path.is_file():
        return dataclasses.replace(read_observation(path), learned=sample.learned)
    image, labels = read_image(sample.case.images), None
    if sample.kind != "foreign":
        assert sample.case.label is not None
        labels = place_labels(read_labels(sample.case.label), image)
        if sample.kind.startswith("copy"):
            rng = np.random.default_rng(_seed(sample.name))
            image, labels, _ = worsened(image, labels, rng)
    copy = sample.kind != "original"
    found = observation_of(
        predictor, sample.dataset, sample.case, image, labels, copy=copy, learned=sample.learned, cancel=cancel
    )
    if sample.kind == "foreign":  # nobody's patient of this task
        found = dataclasses.replace(found, group=f"{sample.source.task}/{found.group}")
    if path is not None:
        write_observation(path, found)
    return found


def write_observation(path: Path, observation: Observation) -> None:
    """Keep an observation.

    Args:
        path: a JSON file.
        observation: what was found.
    """
    evidence = observation.evidence
    fields = {name: getattr(observation, name) for name in ("task", "group", "dice", "present", "copy", "learned")}
    classes = [dataclasses.asdict(one) for one in evidence.classes]
    content = {**fields, "voxels": evidence.voxels, "classes": classes, "features": evidence.features.tolist()}
    write_text(path, json.dumps(content))


def read_observation(path: Path) -> Observation:
    """Read what :func:`write_observation` wrote. The file is trusted: it is the user's own.

    Args:
        path: the file.

    Returns:
        The observation.
    """
    content = parse_json(path.read_bytes())
    classes = [ClassEvidence(**{**one, "centre": tuple(one["centre"])}) for one in content.pop("classes")]
    evidence = Evidence(content.pop("voxels"), tuple(classes), np.array(content.pop("features")))
    dices, present = tuple(content.pop("dice")), tuple(content.pop("present"))
    return Observation(evidence=evidence, dice=dices, present=present, **content)


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8], "big")
