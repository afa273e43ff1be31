"""Measures how far the validation cases favour the base because their labels began as its own output.

A case that was accepted after one stroke gives the base a Dice of nearly 1 by construction. So the voxels that the
annotators changed are counted, and how many of those each model gets right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from meduniseg_core.corrections.ledger import Ledger
from meduniseg_core.corrections.records import ClassChange, LedgerEntry
from meduniseg_core.evaluation import CaseScores
from meduniseg_core.images import Image, place_labels, read_labels
from meduniseg_core.preprocessing import RawDataset

NEAR_COPY = 0.05
"""Share of a class's voxels. If fewer were changed, the accepted labels are a copy of the prediction."""

ALIKE = 0.99
"""Dice of a class. Labels that were drawn by hand rarely agree with a model's output so closely."""


@dataclass(frozen=True)
class Correction:
    """An accepted case that began as a prediction: its ledger entry and the prediction's file."""

    entry: LedgerEntry
    prediction: Path


class Corrected(BaseModel):
    """What was changed in one case.

    ``by_base``: the prediction was the base's output (by its sha256), or hardly differs from it: that of a copy under
    another name, of the base before its calibration, or one that nothing is known of. ``right_before`` and
    ``right_after`` count the ``changed`` voxels to which the base and the candidate give the accepted label
    (``right_before`` is None if the base does not know the task).
    """

    model_config = ConfigDict(frozen=True)

    model: str
    by_base: bool
    classes: tuple[ClassChange, ...]
    changed: int
    right_before: int | None
    right_after: int
    is_2d: bool = False


def corrections_in(dataset: RawDataset, cases: Sequence[str]) -> dict[str, Correction]:
    """Find the cases that were corrected from a prediction.

    Args:
        dataset: a data set or a ledger.
        cases: names of cases.

    Returns:
        The correction of each such case; empty if the data set is not a ledger.

    Raises:
        BadInputError: the ledger is damaged.
    """
    if not Ledger.is_at(dataset.folder):
        return {}
    ledger = Ledger.open(dataset.folder)
    files = ledger.predictions()
    return {
        case: Correction(entry, files[case])
        for case, entry in ledger.cases().items()
        if case in cases and entry.has_prediction and files[case].is_file()
    }


def corrected(
    correction: Correction,
    base_sha256: str,
    truth: Image,
    image: Image,
    found: Sequence[Image],
    has_before: bool,
    ignored: int | None = None,
) -> Corrected:
    """Count what was changed in one case, and how each model labels the changed voxels.

    Args:
        correction: the ledger's entry and the prediction that it began as.
        base_sha256: sha256 of the base.
        truth: the accepted labels, on the grid of ``image``.
        image: the case's image.
        found: the models' label maps on that grid: the base's, if there is one, and the candidate's.
        has_before: whether ``found`` begins with the base's.
        ignored: the label of voxels that nobody has looked at, which do not count as changed.

    Returns:
        The counts.

    Raises:
        BadInputError: the prediction cannot be read.
    """
    began = place_labels(read_labels(correction.prediction), image).array
    where = (began != truth.array) & (truth.array != (-1 if ignored is None else ignored))
    accepted = truth.array[where]
    right = [int(np.count_nonzero(labels.array[where] == accepted)) for labels in found]
    model = correction.entry.model
    return Corrected(
        model=model.name if model is not None else "a model that is not known",
        by_base=(model is not None and model.sha256 == base_sha256)
        or (has_before and _hardly_differ(began, found[0].array)),
        classes=correction.entry.classes,
        changed=int(np.count_nonzero(where)),
        right_before=right[0] if has_before else None,
        right_after=right[-1],
        is_2d=truth.is_2d,
    )


def _hardly_differ(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two label maps differ in less than ``NEAR_COPY`` of the voxels that either labels."""
    labelled = int(np.count_nonzero((one != 0) | (other != 0)))
    return labelled > 0 and int(np.count_nonzero(one != other)) < NEAR_COPY * labelled


def share_changed(cases: Sequence[Corrected]) -> dict[str, float]:
    """The share of each class that annotators changed.

    Args:
        cases: the counts of each case.

    Returns:
        By class, the voxels added and removed divided by those predicted or accepted, over all cases.
    """
    changed: dict[str, int] = {}
    size: dict[str, int] = {}
    for case in cases:
        for one in case.classes:
            added, removed = one.added or 0, one.removed or 0
            changed[one.name] = changed.get(one.name, 0) + added + removed
            size[one.name] = size.get(one.name, 0) + one.corrected + removed  # the union of both
    return {name: changed[name] / size[name] if size[name] else 0.0 for name in changed}


def near_copies(cases: Sequence[Corrected]) -> tuple[str, ...]:
    """The classes whose accepted labels are the base's own output: hardly a voxel of them was changed.

    Args:
        cases: the counts of the cases that began as the base's output.

    Returns:
        Their names, sorted.
    """
    return tuple(name for name, share in sorted(share_changed(cases).items()) if share < NEAR_COPY)


def bias_text(base: str, cases: Mapping[str, Corrected | None]) -> str:
    """Describe which side the cases favour.

    Args:
        base: the base's name.
        cases: the counts of each validation case; None for one whose origin is not known.

    Returns:
        One or two sentences; empty if no case began as the base's output.
    """
    ours = [case for case in cases.values() if case is not None and case.by_base]
    if not ours:
        return ""
    shares = share_changed(ours)
    listed = ", ".join(f"{name} {share:.1%}" for name, share in sorted(shares.items()))
    near = near_copies(ours)
    text = (
        f"On {len(ours)} of {len(cases)} held-back cases the accepted labels began as the output of {base} itself, of "
        f"which the annotators changed: {listed}. That favours {base}"
    )
    text += f"; of {', '.join(near)} the Dice before says little more than that little was changed." if near else "."
    changed = sum(case.changed for case in ours)
    if changed:
        after = sum(case.right_after for case in ours)
        unit = "pixels" if all(case.is_2d for case in ours) else "voxels"
        text += f" Of the {changed:,} {unit} that were changed the new model has {after / changed:.0%} as accepted"
        befores = [case.right_before for case in ours if case.right_before is not None]
        text += f", {base} {sum(befores) / changed:.0%}." if len(befores) == len(ours) else "."
    return text


def alike_text(base: str, before: Sequence[CaseScores], cases: int) -> str:
    """Name the classes that the base finds almost voxel by voxel, on cases of which nothing says how the labels began.

    Args:
        base: the base's name.
        before: its scores on those cases.
        cases: the number of all validation cases.

    Returns:
        One sentence; empty if there is no such class.
    """
    alike = [
        (scores.case, one.name)
        for scores in before
        for one in scores.classes
        if one.dice >= ALIKE and one.reference_volume > 0
    ]
    if not alike:
        return ""
    names = ", ".join(dict.fromkeys(name for _, name in alike))
    return (
        f"On {len({case for case, _ in alike})} of {cases} held-back cases the labels of {names} are the output of "
        f"{base} almost voxel by voxel (Dice {ALIKE} or more), and nothing says how they began: if they began as that "
        f"output, they favour {base}."
    )
