"""Assigns cases to training or validation: drawn once, by patient, and never changed.

Two rules hold over the whole history of a ledger, not only over its latest entries: a case is in one subset, and a
patient is in one subset. They decide what happens when a patient key is given for a case:

* a new case of a known patient goes to the patient's subset; for a new patient (or without a key, when the case is its
  own patient) the subset is drawn;
* a known case given again without a key keeps its patient;
* a known case given again with another key (an anonymous one that gets its key, a mistyped key) takes the new key if
  that patient is new or in the same subset. If the patient is in the other subset, the acceptance is refused: moving
  either would let a network be judged on what it may have learnt from, and keeping both would knowingly put one patient
  into both subsets;
* a key that no case has any longer keeps its subset.

Without keys, two images of one patient cannot be told from images of two patients.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from meduniseg_core.corrections.records import Subset
from meduniseg_core.errors import BadInputError, UsageError

_EVEN = 1e-9


class SplitRecord(Protocol):
    """What assigning a subset needs to know about an acceptance."""

    @property
    def case(self) -> str:
        """The case's name."""
        ...

    @property
    def patient(self) -> str:
        """The patient's key."""
        ...

    @property
    def subset(self) -> Subset:
        """The case's subset."""
        ...


@dataclass(frozen=True)
class SplitDecision:
    """A case with its patient and subset."""

    case: str
    patient: str
    subset: Subset


def assign_subset(case: str, patient: str | None, past: Sequence[SplitRecord], fraction: float) -> SplitDecision:
    """Decide the patient and the subset of a case.

    Args:
        case: the case's name.
        patient: a key normalised by :func:`patient_key`; None for no key.
        past: all acceptances so far, oldest first.
        fraction: share of the cases that are to be for validation.

    Returns:
        Case, patient and subset.

    Raises:
        BadInputError: the case is in one subset already and the patient in the other.
    """
    current = next((entry for entry in reversed(past) if entry.case == case), None)
    if patient is None:
        patient = current.patient if current is not None else case
    side = next((entry.subset for entry in past if entry.patient == patient), None)
    if current is None:
        return SplitDecision(case, patient, side if side is not None else draw_subset(patient, past, fraction))
    if side is not None and side != current.subset:
        raise BadInputError(
            f"Case {case} was accepted for {current.subset} before and patient {patient} stands in {side}, so "
            "accepting it would place the patient on both sides; check the patient key or leave the case out."
        )
    return SplitDecision(case, patient, current.subset)


def draw_subset(patient: str, past: Sequence[SplitRecord], fraction: float) -> Subset:
    """Choose the subset of a new patient: the one that is furthest below its share; on a tie the key's hash decides.

    The first patient is for training, the second for validation (unless ``fraction`` is 0), so that a small ledger can
    soon be evaluated. In every ledger the same key breaks a tie in the same way.

    Args:
        patient: the key.
        past: all acceptances so far.
        fraction: share of the cases that are to be for validation.

    Returns:
        "training" or "validation".
    """
    sides = {entry.case: entry.subset for entry in past}
    if not sides:
        return "training"
    missing = fraction * len(sides) - sum(side == "validation" for side in sides.values())
    if abs(missing) > _EVEN:
        return "validation" if missing > 0 else "training"
    number = int.from_bytes(hashlib.sha256(patient.encode("utf-8")).digest()[:8], "big")
    return "validation" if number / 2**64 < fraction else "training"


def patient_key(patient: str | None) -> str | None:
    """Normalise a patient key: no outer blanks, one Unicode form.

    Args:
        patient: the key as the user typed it; None for no key.

    Returns:
        The key, or None.

    Raises:
        UsageError: it is empty, too long or not printable.
    """
    if patient is None:
        return None
    key = unicodedata.normalize("NFC", patient).strip()
    if not key or not key.isprintable() or len(key) > 200:
        raise UsageError(f"{patient!r} cannot be a patient key; give 1 to 200 visible characters.")
    return key


def first_on_both_sides(entries: Sequence[SplitRecord]) -> int | None:
    """Find a case or a patient that is in both subsets; no ledger of ours can hold one.

    Args:
        entries: all acceptances, oldest first.

    Returns:
        The index of the first entry that breaks a rule, or None.
    """
    case_sides: dict[str, Subset] = {}
    patient_sides: dict[str, Subset] = {}
    for index, entry in enumerate(entries):
        if case_sides.setdefault(entry.case, entry.subset) != entry.subset:
            return index
        if patient_sides.setdefault(entry.patient, entry.subset) != entry.subset:
            return index
    return None
