"""The split into training and validation cases: drawn once, by patient, and kept in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import write_if_changed
from meduniseg_core.structured_text import parse_json


@dataclass(frozen=True)
class Split:
    """The case names of one data set's split."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


def draw_split(patient_of: Mapping[str, str], fraction: float, rng: np.random.Generator) -> Split:
    """Choose cases for validation, whole patients at a time; at least one patient stays on each side.

    Args:
        patient_of: the patient of each case.
        fraction: share of the cases to hold back.
        rng: draws the patients.

    Returns:
        The split. With fewer than two patients all cases are for training.
    """
    patients = sorted(set(patient_of.values()))
    if fraction <= 0 or len(patients) < 2:
        return Split(tuple(sorted(patient_of)), ())
    wanted = max(1, round(fraction * len(patient_of)))
    held: set[str] = set()
    count = 0
    for patient in rng.permutation(patients)[:-1]:
        if count >= wanted:
            break
        held.add(str(patient))
        count += sum(owner == patient for owner in patient_of.values())
    train = tuple(sorted(case for case, owner in patient_of.items() if owner not in held))
    return Split(train, tuple(sorted(case for case, owner in patient_of.items() if owner in held)))


@dataclass(frozen=True)
class Fold:
    """One of several folds of a cross-validation."""

    number: int
    count: int


def draw_fold(patient_of: Mapping[str, str], fold: Fold, rng: np.random.Generator) -> Split:
    """Hold back one fold. With the same generator the folds of all numbers share no case and hold every case.

    Args:
        patient_of: the patient of each case.
        fold: which fold of how many.
        rng: shuffles the patients.

    Returns:
        The split, whole patients at a time; the folds' numbers of cases are as even as the patients allow.

    Raises:
        BadInputError: there are fewer patients than folds.
    """
    patients = sorted(set(patient_of.values()))
    if len(patients) < fold.count:
        raise BadInputError(
            f"There are {len(patients)} patients for {fold.count} folds; ask for fewer folds (folds) or add cases."
        )
    owners = list(patient_of.values())
    sizes = {patient: owners.count(patient) for patient in patients}
    held: list[set[str]] = [set() for _ in range(fold.count)]
    counts = [0] * fold.count
    for patient in sorted((str(p) for p in rng.permutation(patients)), key=lambda p: -sizes[p]):  # stable
        smallest = counts.index(min(counts))
        held[smallest].add(patient)
        counts[smallest] += sizes[patient]
    own = held[fold.number]
    return Split(
        tuple(sorted(case for case, owner in patient_of.items() if owner not in own)),
        tuple(sorted(case for case, owner in patient_of.items() if owner in own)),
    )


def load_or_draw_splits(
    path: Path, patients: Sequence[tuple[str, Mapping[str, str]]], fraction: float | Fold, seed: int
) -> dict[str, Split]:
    """The splits of all tasks: those in a file, and new ones for tasks that it lacks. The file is updated.

    New cases of a known task go to validation if their patient is there, else to training.

    Args:
        path: the file.
        patients: each task with the patient of each case.
        fraction: share of the cases to hold back, or a fold.
        seed: seed of new splits.

    Returns:
        The split of every task.

    Raises:
        BadInputError: the file is damaged, or a case in it is no longer in the data, which would silently change the
            run's scores.
    """
    known = read_splits(path) if path.is_file() else {}
    splits: dict[str, Split] = {}
    for task, patient_of in patients:
        old = known.get(task)
        if old is None:
            # seeded by the task's own name, so that adding a data set does not redraw the others
            rng = np.random.default_rng([seed, *task.encode("utf-8")])
            if isinstance(fraction, Fold):
                splits[task] = draw_fold(patient_of, fraction, rng)
            else:
                splits[task] = draw_split(patient_of, fraction, rng)
            continue
        missing = sorted({*old.train, *old.validation} - set(patient_of))
        if missing:
            raise BadInputError(
                f"{path}: case {missing[0]} of task {task} is in the split but no longer in the data; "
                "restore it or start a new run."
            )
        held = {patient_of[case] for case in old.validation}
        splits[task] = Split(
            tuple(sorted(case for case, owner in patient_of.items() if owner not in held)),
            tuple(sorted(case for case, owner in patient_of.items() if owner in held)),
        )
    write_splits(path, {**known, **splits})
    return splits


def write_splits(path: Path, splits: Mapping[str, Split]) -> None:
    """Write the split of every task, atomically.

    Args:
        path: the file.
        splits: the split of each task.
    """
    write_if_changed(path, json.dumps({task: vars(split) for task, split in splits.items()}, indent=1))


def read_splits(path: Path) -> dict[str, Split]:
    """Read the split of every task.

    Args:
        path: the file.

    Returns:
        The split of each task.

    Raises:
        BadInputError: it is not a split file.
    """
    try:
        raw = parse_json(path.read_text("utf-8"))
        return {task: Split(tuple(entry["train"]), tuple(entry["validation"])) for task, entry in raw.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(f"{path}: is not a split file ({error}); restore it or start a new run.") from error
