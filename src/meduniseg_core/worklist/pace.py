"""How long editing a case will take, learned from a ledger's editing times and changed voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from meduniseg_core.corrections import LedgerEntry

_LEAST_TIMED = 4  # acceptances with time and changes that are needed to predict time from changes
_MOST = 4.0  # the share of changed voxels is at most so many times the usual one


@dataclass(frozen=True)
class Pace:
    """``base`` seconds for each case and ``per_voxel`` seconds for each changed voxel.

    ``share``: the median share of a prediction's labelled voxels that were changed; ``usual``: the median uncertainty
    (`worth.uncertainty_of`) of these predictions, None if not known.
    """

    base: float
    per_voxel: float
    share: float
    usual: float | None

    def seconds(self, voxels: int | None, uncertainty: float | None) -> float:
        """Estimate the editing time of a case.

        Args:
            voxels: the number that its prediction labels; None if there is no prediction.
            uncertainty: of the prediction; twice as uncertain, twice as much to change.

        Returns:
            Seconds.
        """
        if voxels is None:
            return self.base
        relative = 1.0
        if uncertainty is not None and self.usual:
            relative = min(uncertainty / self.usual, _MOST)
        return self.base + self.per_voxel * self.share * voxels * relative


def learn_pace(entries: Sequence[LedgerEntry], uncertainties: Mapping[str, float]) -> Pace | None:
    """Learn how long editing takes.

    Args:
        entries: a ledger's acceptances.
        uncertainties: of the predictions, as far as known, by the image's hash.

    Returns:
        A non-negative least-squares fit of the seconds to the changed voxels; the median of the seconds if fewer than
        four acceptances have both. None if no acceptance has a time.
    """
    timed = [entry for entry in entries if entry.seconds is not None]
    if not timed:
        return None
    seconds = np.array([entry.seconds for entry in timed], dtype=float)
    both = [entry for entry in timed if entry.has_prediction]
    shares = [_changed(entry) / size for entry in entries if (size := _labelled(entry))]
    known = [uncertainties[entry.image_sha256] for entry in both if entry.image_sha256 in uncertainties]
    base, per_voxel = float(np.median(seconds)), 0.0
    if len(both) >= _LEAST_TIMED:
        changed = np.array([_changed(entry) for entry in both], dtype=float)
        scale = max(float(changed.max()), 1.0)
        columns = np.stack([np.ones_like(changed), changed / scale], axis=1)
        (base, slope), _ = nnls(columns, np.array([entry.seconds for entry in both], dtype=float))
        base, per_voxel = float(base), float(slope) / scale
    return Pace(
        base, per_voxel, float(np.median(shares)) if shares else 0.0, float(np.median(known)) if known else None
    )


def _changed(entry: LedgerEntry) -> int:
    return sum((one.added or 0) + (one.removed or 0) for one in entry.classes)


def _labelled(entry: LedgerEntry) -> int:
    """The number of voxels that the prediction labelled; 0 without one."""
    return sum(one.predicted or 0 for one in entry.classes)
