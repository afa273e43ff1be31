"""What the annotators changed on the held-back cases: labels that began as the base's own output favour the base.

A case that was accepted after one stroke gives the base a Dice of nearly 1 by construction. So what was changed is
counted, voxel by voxel, and what each side makes of exactly those voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from meduniseg_core.corrections.ledger import Ledger
from meduniseg_core.corrections.records import ClassChange, LedgerEntry
from meduniseg_core.images import Image, place_labels, read_labels
from meduniseg_core.preprocessing import RawDataset

NEAR_COPY = 0.05
"""Of a class's voxels: where fewer were changed, the accepted labels are the prediction and no second opinion."""


@dataclass(frozen=True)
class Correction:
    """An accepted case that began as a prediction: the ledger's line, and the prediction's file."""

    entry: LedgerEntry
    prediction: Path


class Corrected(BaseModel):
    """What was changed in one case. ``right_before``, ``right_after``: how many of the ``changed`` voxels each side has
    as they were accepted (None without a before)."""

    model_config = ConfigDict(frozen=True)

    model: str
    by_base: bool
    classes: tuple[ClassChange, ...]
    changed: int
    right_before: int | None
    right_after: int


def corrections_in(dataset: RawDataset, cases: Sequence[str]) -> dict[str, Correction]:
    """Those of ``cases`` that were corrected from a prediction; none where the data set is no ledger."""
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
    """What was changed in one case, and what each side makes of it.

    Args:
        correction: The ledger's line and the prediction that it began as.
        base_sha256: Of the base.
        truth: The accepted labels, on the grid of ``image``.
        image: The case's.
        found: The sides' label maps on that grid: before, if there is one, and after.
        has_before: Whether ``found`` begins with the base's.
        ignored: The label of voxels that nobody has looked at: they were not changed.

    Returns:
        The counts.
    """
    began = place_labels(read_labels(correction.prediction), image).array
    where = (began != truth.array) & (truth.array != (-1 if ignored is None else ignored))
    accepted = truth.array[where]
    right = [int(np.count_nonzero(labels.array[where] == accepted)) for labels in found]
    model = correction.entry.model
    return Corrected(
        model=model.name if model is not None else "a model that is not known",
        by_base=model is not None and model.sha256 == base_sha256,
        classes=correction.entry.classes,
        changed=int(np.count_nonzero(where)),
        right_before=right[0] if has_before else None,
        right_after=right[-1],
    )


def share_changed(cases: Sequence[Corrected]) -> dict[str, float]:
    """Class -> changed voxels (added and removed) as a share of those predicted or accepted, over all cases."""
    changed: dict[str, int] = {}
    size: dict[str, int] = {}
    for case in cases:
        for one in case.classes:
            added, removed = one.added or 0, one.removed or 0
            changed[one.name] = changed.get(one.name, 0) + added + removed
            size[one.name] = size.get(one.name, 0) + one.corrected + removed  # the union of both
    return {name: changed[name] / size[name] if size[name] else 0.0 for name in changed}


def bias_text(base: str, cases: Mapping[str, Corrected | None]) -> str:
    """One or two sentences on which side the cases favour; "" where nothing is known of how they began."""
    ours = [case for case in cases.values() if case is not None and case.by_base]
    if not ours:
        return ""
    shares = share_changed(ours)
    listed = ", ".join(f"{name} {share:.1%}" for name, share in sorted(shares.items()))
    near = [name for name, share in sorted(shares.items()) if share < NEAR_COPY]
    text = (
        f"On {len(ours)} of {len(cases)} held-back cases the accepted labels began as the output of {base} itself, of "
        f"which the annotators changed: {listed}. That favours {base}"
    )
    text += f"; of {', '.join(near)} the Dice before says little more than that little was changed." if near else "."
    changed = sum(case.changed for case in ours)
    if changed:
        after = sum(case.right_after for case in ours)
        text += f" Of the {changed:,} voxels that were changed the new model has {after / changed:.0%} as accepted"
        befores = [case.right_before for case in ours if case.right_before is not None]
        text += f", {base} {sum(befores) / changed:.0%}." if len(befores) == len(ours) else "."
    return text
