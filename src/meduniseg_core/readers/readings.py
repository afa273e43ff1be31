"""The readings that a ledger holds of a case, on one grid, and the decision between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from meduniseg_core.corrections import Adjudication, Ledger, LedgerEntry
from meduniseg_core.corrections.records import Consensus
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.images import Image, place_labels, read_image, read_labels
from meduniseg_core.readers.agreement import Labels, check_readings
from meduniseg_core.readers.consensus import Method, consensus

_NOBODY = "no name"  # of a reader


@dataclass(frozen=True, eq=False)
class CaseReadings:
    """The readings of one case: its ``image``, and by reader the ``labels`` on the image's grid and the ledger's entry.

    ``classes`` are the names of labels 1, 2, ...
    """

    case: str
    image: Image
    labels: dict[str, Image]
    entries: dict[str, LedgerEntry]
    classes: tuple[str, ...]

    @property
    def names(self) -> dict[int, str]:
        """The name of each label's class."""
        return dict(enumerate(self.classes, start=1))

    def arrays(self, ignored: int | None = None) -> dict[str, Labels]:
        """Each reader's labels as an array, to be compared.

        Args:
            ignored: the label of voxels that a reader left open (not annotated). What one reader left open is
                background in all arrays, so nobody disputes it.

        Returns:
            (D, H, W) by the reader's name.
        """
        found: dict[str, Labels] = {name: one.array[0] for name, one in self.labels.items()}
        if ignored is None:
            return found
        left_open = self._left_open(ignored)
        return {name: np.where(left_open, np.zeros_like(one), one) for name, one in found.items()}

    def joined(self, method: Method, ignored: int | None = None) -> Image:
        """Join the readers' labels by a consensus.

        Args:
            method: as for :func:`consensus`.
            ignored: the label of voxels that a reader left open. They stay open: nobody has said that they are
                background.

        Returns:
            (1, D, H, W), on the image's grid.

        Raises:
            UsageError: there is no such method.
        """
        labels = consensus(self.arrays(ignored), method)
        if ignored is not None:
            labels = labels.astype(np.promote_types(labels.dtype, np.min_scalar_type(ignored)))
            labels[self._left_open(ignored)] = ignored
        return self.image.with_array(labels[None])

    def _left_open(self, ignored: int) -> np.ndarray:
        found: np.ndarray = np.any([one.array[0] == ignored for one in self.labels.values()], axis=0)
        return found


def shared_cases(ledger: Ledger) -> dict[str, tuple[str, ...]]:
    """List the cases that several readers have labelled.

    Args:
        ledger: the ledger.

    Returns:
        The readers' names by case, in the order of their first acceptances.
    """
    found: dict[str, dict[str, None]] = {}
    for entry in ledger.entries():
        if not entry.adjudicates:
            found.setdefault(entry.case, {})[entry.who or _NOBODY] = None
    return {case: tuple(readers) for case, readers in found.items() if len(readers) > 1}


def read_readings(ledger: Ledger, case: str) -> CaseReadings:
    """Read a case with every reader's newest labels.

    Args:
        ledger: the ledger.
        case: the case's name in it.

    Returns:
        The readings.

    Raises:
        UsageError: the ledger has no such case.
        BadInputError: only one reader has labelled it, or a file is missing or damaged.
    """
    dataset = ledger.dataset
    found = ledger.readings(case)
    if not found:
        raise UsageError(f"{ledger.folder} has no case '{case}'; 'meduniseg corrections list' names those it has.")
    image = read_image(ledger.files.images(case, dataset.channels))
    labels = {}
    for name, reading in found.items():
        if not reading.labels.is_file():
            raise BadInputError(f"{reading.labels}, which {name or _NOBODY} accepted, is missing; restore it.")
        labels[name or _NOBODY] = place_labels(read_labels(reading.labels, like=image), image)
    check_readings({name: one.array[0] for name, one in labels.items()})
    entries = {name or _NOBODY: reading.entry for name, reading in found.items()}
    return CaseReadings(case, image, labels, entries, dataset.classes)


def adjudicate(
    ledger: Ledger,
    readings: CaseReadings,
    labels: Image,
    *,
    who: str | None,
    consensus: Consensus = "reading",
    seconds: float | None = None,
    classes: Sequence[str] | None = None,
) -> LedgerEntry:
    """Accept the decision between readings. The readings stay in the ledger's history; the entry refers to them.

    Args:
        ledger: the ledger.
        readings: the readings that were decided between.
        labels: (1, D, H, W), on the image's grid.
        who: who decided.
        consensus: what the decision began with.
        seconds: editing time in seconds.
        classes: as for `Ledger.extend_classes`.

    Returns:
        The new entry.

    Raises:
        UsageError: a reader has accepted the case again since the readings were read.
        BadInputError: as for `Ledger.accept`.
    """
    now = {name or _NOBODY: one.entry.sequence for name, one in ledger.readings(readings.case).items()}
    before = {name: entry.sequence for name, entry in readings.entries.items()}
    if now != before:
        changed = next(name for name in (*now, *before) if now.get(name) != before.get(name))
        raise UsageError(f"{changed} has accepted {readings.case} again meanwhile; open its readings once more.")
    return ledger.accept(
        readings.image,
        labels,
        seconds=seconds,
        who=who,
        classes=classes,
        adjudication=Adjudication(tuple(sorted(before.values())), consensus),
    )
