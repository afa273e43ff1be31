"""The entries of a worklist, their orders, and the next one to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from meduniseg_core.images.cases import Case

State = Literal["new", "predicted", "corrected", "accepted", "skipped"]
Order = Literal["name", "worth", "quality", "minutes", "state"]

ORDERS: tuple[Order, ...] = get_args(Order)
STATES: tuple[State, ...] = get_args(State)
DEFAULT_ORDER: Order = "name"
_DONE: tuple[State, ...] = ("accepted", "skipped")


@dataclass(frozen=True)
class WorkItem:
    """One case.

    ``labels``: its present label map (prediction or correction), None if there is none. ``quality``: the entry of that
    name in its result's JSON. ``seconds``: the expected editing time. ``worth`` = ``uncertainty`` x ``novelty``
    (`worth`); None if the case was not predicted by the worklist.
    """

    case: Case
    state: State
    labels: Path | None = None
    quality: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    uncertainty: float | None = None
    novelty: float | None = None

    @property
    def name(self) -> str:
        """The case's name."""
        return self.case.name

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: the case was accepted or skipped, or cannot be read."""
        return self.state in _DONE or self.case.fault is not None

    @property
    def light(self) -> str | None:
        """The quality light of the result: green, amber or red; None if its model is not calibrated."""
        found = self.quality.get("light")
        return found if found in ("green", "amber", "red") else None

    @property
    def dice(self) -> float | None:
        """The lowest predicted Dice of a class; None if the model is not calibrated."""
        found: Any = self.quality.get("dice")  # the JSON may be anybody's
        return float(found) if type(found) in (int, float) and 0 <= found <= 1 else None

    @property
    def worth(self) -> float | None:
        """How much the model is expected to learn from the case's annotation."""
        if self.uncertainty is None or self.novelty is None:
            return None
        return self.uncertainty * self.novelty


def ordered(items: Sequence[WorkItem], order: Order) -> list[WorkItem]:
    """Sort the entries; ties are in order of their names.

    Args:
        items: the entries.
        order: ``worth`` (most first), ``quality`` (worst first), ``minutes`` (quickest first), ``state`` or ``name``.
            Entries for which the value is not known come last.

    Returns:
        A new list.
    """

    def key(item: WorkItem) -> tuple[bool, float, str]:
        value: float | None = 0.0
        if order == "worth":
            value = None if item.worth is None else -item.worth
        elif order == "quality":
            value = item.dice
        elif order == "minutes":
            value = item.seconds
        elif order == "state":
            value = float(STATES.index(item.state))
        return value is None, value or 0.0, item.name

    return sorted(items, key=key)


def next_item(items: Sequence[WorkItem], after: str | None = None) -> WorkItem | None:
    """Find the next entry with something to do.

    Args:
        items: the entries, in the order of the list.
        after: the name of the entry after which the search begins; it wraps around. None begins at the first.

    Returns:
        The entry; None if all others are done.
    """
    names = [item.name for item in items]
    start = names.index(after) + 1 if after in names else 0
    around = [*items[start:], *items[:start]]
    return next((item for item in around if not item.is_done and item.name != after), None)
