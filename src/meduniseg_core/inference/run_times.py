"""How long runs took against what was estimated, so that a forecast is a range that this machine keeps.

Also the progress of a run of several passes as one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

from meduniseg_core.events import Event, EventSink, Progress
from meduniseg_core.structured_text import try_read_json, try_write_json

_KEPT = 40  # runs that are remembered
_NEAREST = 5  # of them that a forecast is made from
_MARGIN = 1.25  # beyond the shortest and the longest of them
_UNKNOWN = 0.7, 2.0, 2.0  # before the first run: factors of the estimate, and seconds for reading and writing
_SHORTEST = 0.05  # seconds


class RunTimes:
    """Pairs of estimated and measured seconds, kept in a file.

    An estimate counts the network's windows. What comes with them (reading, resampling, empty windows that are skipped)
    differs by machine and image, so runs of a similar estimate tell most.

    Args:
        file: where the pairs are kept (JSON); it need not exist. What cannot be read there counts as nothing.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def expect(self, estimate: float) -> tuple[float, float]:
        """Forecast a run.

        Args:
            estimate: seconds that the windows are estimated to take.

        Returns:
            The shortest and the longest time to expect, in seconds.
        """
        estimate = max(estimate, _SHORTEST)
        pairs = sorted(self._pairs(), key=lambda pair: abs(math.log(pair[0] / estimate)))[:_NEAREST]
        if not pairs:
            low, high, more = _UNKNOWN
            return low * estimate, high * estimate + more
        # what does not grow with the windows is added to a longer run, and not multiplied
        times = [took + max(0.0, estimate - known) if known < estimate else took for known, took in pairs]
        factors = [took / known * estimate for known, took in pairs]
        found = [*times, *(value for value, (known, _) in zip(factors, pairs, strict=True) if known > estimate / 4)]
        return min(found) / _MARGIN, max(found) * _MARGIN

    def note(self, estimate: float, took: float) -> None:
        """Remember a run.

        Args:
            estimate: seconds that its windows were estimated to take.
            took: seconds that it took.
        """
        pairs = [*self._pairs(), (max(estimate, _SHORTEST), max(took, _SHORTEST))][-_KEPT:]
        try_write_json(self._file, [[round(value, 3) for value in pair] for pair in pairs])

    def _pairs(self) -> list[tuple[float, float]]:
        found = try_read_json(self._file)
        return [(float(pair[0]), float(pair[1])) for pair in found if _is_pair(pair)] if isinstance(found, list) else []


class WholeProgress:
    """Turns the progress of passes that follow each other into that of the whole run.

    Args:
        costs: what each pass costs, in any unit.
        events: receives every event; progress of the stage "segment" as that of the whole.
    """

    def __init__(self, costs: Sequence[float], events: EventSink) -> None:
        whole = sum(costs)
        self._shares = [cost / whole for cost in costs] if whole > 0 else [1.0]
        self._events, self._began = events, time.perf_counter()
        self._pass, self._last = 0, -1

    def __call__(self, event: Event) -> None:
        """Receive an event of a pass."""
        if not isinstance(event, Progress) or event.stage != "segment":
            self._events(event)
            return
        if event.done < self._last and self._pass < len(self._shares) - 1:
            self._pass += 1
        self._last = event.done
        share = self._shares[self._pass] * event.done / max(1, event.total)
        done = min(1.0, sum(self._shares[: self._pass]) + share)
        seconds = time.perf_counter() - self._began
        self._events(Progress("segment", round(1000 * done), 1000, seconds, event.detail))


def _is_pair(pair: object) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(value, int | float) and math.isfinite(value) and value > 0 for value in pair)
    )
