"""Which known task a new data set is nearest to, by the task priors that its images evoke."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from meduniseg_core.errors import UsageError
from meduniseg_core.insight.priors import PriorSample


@dataclass(frozen=True)
class Neighbour:
    """A known task and its distance: that of the mean priors of all tasks, in standard deviations over all samples
    (root mean square over the entries)."""

    task: str
    distance: float


def neighbours(new: PriorSample, known: Sequence[PriorSample]) -> list[Neighbour]:
    """Rank known tasks by their distance to a new data set. What a new set's own prior would be nobody knows: so the
    priors of all tasks of the model, that its images evoke, are compared with those that known images evoke.

    Args:
        new: the priors of the new data set's images.
        known: those of known tasks' images; one of the new set's name is left out.

    Returns:
        The known tasks, the nearest first.

    Raises:
        UsageError: there is no other task.
    """
    others = [one for one in known if one.task != new.task]
    if not others:
        raise UsageError("There is no known task to compare with; give data sets of the model's tasks.")
    everything = np.concatenate([one.all_tasks for one in (new, *others)])
    spread = everything.std(axis=0)
    spread[spread == 0] = 1.0
    centre = new.all_tasks.mean(axis=0)
    found = [
        Neighbour(one.task, float(np.sqrt(np.mean(((one.all_tasks.mean(axis=0) - centre) / spread) ** 2))))
        for one in others
    ]
    return sorted(found, key=lambda one: (one.distance, one.task))
