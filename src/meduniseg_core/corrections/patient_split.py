"""Which side of the split a case stands on: drawn once, by patient, and never again.

Two rules hold over the whole history of a ledger, not only over its latest entries: a case has one subset, and a
patient has one subset. They follow from what happens when a patient key meets a case:

* a new case of a known patient goes where the patient is; of a new patient (or of none: it is its own patient), the
  subset is drawn;
* a known case given again without a key keeps its patient;
* a known case given again with another key (an anonymous one that gets its key, a key that was mistyped) takes the new
  key if that patient is new or stands on the same side. If the patient stands on the other side, the acceptance is
  refused: to move either would let a network be judged on what it may have learnt from, and to keep both would
  knowingly place one patient on both sides.
* a key that no case carries any longer keeps its subset.

Without keys, two images of one patient cannot be told from those of two patients.
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
    """What placement needs to know of an acceptance."""

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
        """The side."""
        ...


@dataclass(frozen=True)
class SplitDecision:
    """A case, whose it is, and its side."""

    case: str
    patient: str
    subset: Subset


def assign_subset(case: str, patient: str | None, past: Sequence[SplitRecord], fraction: float) -> SplitDecision:
    """Whose a case is and where it goes.

    Args:
        case: its name.
        patient: a key as :func:`patient_key` gives it, or None for none.
        past: all acceptances so far, oldest first.
        fraction: of the cases that are to be for validation.

    Returns:
        Case, patient and side.

    Raises:
        BadInputError: the case stands on one side already and the patient on the other.
    """
    current = next((entry for entry in reversed(past) if entry.case == case), None)
    if patient is None:
        patient = current.patient if current is not None else case
    side = next((entry.subset for entry in past if entry.patient == patient), None)
    if current is None:
        return SplitDecision(case, patient, side if side is not None else draw(patient, past, fraction))
    if side is not None and side != current.subset:
        raise BadInputError(
            f"Case {case} was accepted for {current.subset} before and patient {patient} stands in {side}, so "
            "accepting it would place the patient on both sides; check the patient key or leave the case out."
        )
    return SplitDecision(case, patient, current.subset)


def draw(patient: str, past: Sequence[SplitRecord], fraction: float) -> Subset:
    """The side of a new patient: the one that is furthest below its share of the cases, on a tie by the key's hash.

    The first patient is for training, the second for validation (unless ``fraction`` is 0), so that a small ledger can
    soon be judged. The same key falls on the same side of a tie in every ledger.

    Args:
        patient: the key.
        past: all acceptances so far.
        fraction: of the cases that are to be for validation.

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
    """Bring a key into one form: no outer blanks, one Unicode form.

    Args:
        patient: as a user writes it; None for none.

    Returns:
        The key, or None.

    Raises:
        UsageError: it is empty, too long or cannot be shown.
    """
    if patient is None:
        return None
    key = unicodedata.normalize("NFC", patient).strip()
    if not key or not key.isprintable() or len(key) > 200:
        raise UsageError(f"{patient!r} cannot be a patient key; give 1 to 200 visible characters.")
    return key


def first_on_both_sides(entries: Sequence[SplitRecord]) -> int | None:
    """Find what no ledger of ours can hold: a case or a patient on both sides.

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
