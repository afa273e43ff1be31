"""Training and test cases of a data set without an official split, and the balance of normal images.

Nothing is drawn from a generator: patients are ranked by a hash of the seed and their name, so the same download gives
the same split on every machine, and what was decided once stays when cases are added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from meduniseg_core.conversion.table import Subset


def random_subsets(
    patient_of: Mapping[str, str], fraction: float, seed: str, known: Mapping[str, Subset]
) -> dict[str, Subset]:
    """Divide cases into training and test by patient.

    Args:
        patient_of: The patient of each case.
        fraction: Share of the cases that are to be for testing.
        seed: Another one gives another split.
        known: Cases that were divided before; they and their patients stay on their side.

    Returns:
        The subset of each case. At least one patient is for training.
    """
    side: dict[str, Subset] = {patient_of[case]: subset for case, subset in known.items() if case in patient_of}
    counts: dict[str, int] = {}
    for patient in patient_of.values():
        counts[patient] = counts.get(patient, 0) + 1
    missing = round(fraction * len(patient_of)) - sum(counts[patient] for patient in side if side[patient] == "test")
    undecided = ranked((patient for patient in counts if patient not in side), seed)
    for patient in undecided:
        last = patient == undecided[-1] and "train" not in side.values()
        test = counts[patient] <= missing and not last
        side[patient] = "test" if test else "train"
        missing -= counts[patient] if test else 0
    return {case: side[patient] for case, patient in patient_of.items()}


def ranked(names: Iterable[str], seed: str) -> list[str]:
    """Order names by a hash.

    Args:
        names: Any names.
        seed: Another one gives another order.

    Returns:
        The names; adding one does not change the others' order.
    """
    return sorted(set(names), key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest())
