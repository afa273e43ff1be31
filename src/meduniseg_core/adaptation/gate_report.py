"""The gate's report: scores before and after, paired by case, and the verdict that follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, computed_field

from meduniseg_core.adaptation.gate_bias import Corrected, alike_text, bias_text, near_copies
from meduniseg_core.evaluation import CaseScores
from meduniseg_core.evaluation.intervals import BootstrapInterval, bootstrap_interval
from meduniseg_core.evaluation.metrics import EMPTY_MASK_POLICY
from meduniseg_core.evaluation.report import ReportPicture

WORSE_BY = 0.01
"""The loss of Dice above which the new model counts as worse for a class."""

PICTURES = 3

SELECTED = (
    "The training chose its best state on these same cases, so the scores after it are slightly optimistic; the "
    "fewer cases, the more."
)
"""Applies to every run that selects its best checkpoint."""

Verdict = Literal["better", "worse", "first", "unjudged"]

_HEADLINES = {"better": "Better than before", "first": "A new task", "unjudged": "Nothing to compare with"}


class Pair(BaseModel):
    """The scores of one case before and after.

    ``before`` is None where the base does not know the task, ``corrected`` where the labels did not begin as a
    prediction (or it is not known).
    """

    model_config = ConfigDict(frozen=True)

    before: CaseScores | None
    after: CaseScores
    corrected: Corrected | None = None

    @property
    def dice_after(self) -> float:
        """Mean Dice of the candidate over the classes that the base has, too (all classes if there is no score
        before)."""
        if self.before is None:
            return self.after.dice
        shared = {scores.label for scores in self.before.classes}
        return float(np.mean([scores.dice for scores in self.after.classes if scores.label in shared]))

    @property
    def gain(self) -> float | None:
        """Mean Dice after minus before, over the classes that both models have; None if there is no score before."""
        return None if self.before is None else self.dice_after - self.before.dice


class ClassPair(BaseModel):
    """One class over all cases: mean Dice and HD95 (mm) before and after, None where not measured."""

    model_config = ConfigDict(frozen=True)

    name: str
    dice_before: float | None
    dice_after: float
    hd95_before: float | None
    hd95_after: float | None


class GateReport(BaseModel):
    """The comparison of a candidate with its base; all figures follow from the pairs. Its JSON can be read back."""

    model_config = ConfigDict(frozen=True)

    task: str
    base: str
    base_sha256: str
    candidate: str
    candidate_sha256: str
    policy: str = EMPTY_MASK_POLICY
    notes: tuple[str, ...] = ()
    selected: bool = False
    pairs: tuple[Pair, ...] = ()
    pictures: tuple[ReportPicture, ...] = Field(default=(), exclude=True)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def dice_before(self) -> float | None:
        """Mean Dice of the base over the cases; None if it does not know the task."""
        known = [pair.before.dice for pair in self.pairs if pair.before is not None]
        return float(np.mean(known)) if known else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def dice_after(self) -> float | None:
        """Mean Dice of the candidate over the cases, of the classes that the base has, too; None if there are no
        cases."""
        return float(np.mean([pair.dice_after for pair in self.pairs])) if self.pairs else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def interval(self) -> BootstrapInterval | None:
        """Bootstrap interval of the mean paired gain; None for fewer than two cases that have a score before."""
        gains = [pair.gain for pair in self.pairs if pair.gain is not None]
        return bootstrap_interval(gains) if len(gains) > 1 else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def classes(self) -> tuple[ClassPair, ...]:
        """The scores of each class of the candidate, over all cases."""
        found = []
        for column in zip(*(pair.after.classes for pair in self.pairs), strict=True):
            label = column[0].label
            before = [s for p in self.pairs if p.before is not None for s in p.before.classes if s.label == label]
            found.append(
                ClassPair(
                    name=column[0].name,
                    dice_before=float(np.mean([scores.dice for scores in before])) if before else None,
                    dice_after=float(np.mean([scores.dice for scores in column])),
                    hd95_before=_mean([scores.hd95 for scores in before]),
                    hd95_after=_mean([scores.hd95 for scores in column]),
                )
            )
        return tuple(found)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> Verdict:
        """``worse`` if the mean Dice did not rise or a class lost more than ``WORSE_BY``, else ``better``.

        ``first`` if the base does not know the task, ``unjudged`` if there are no validation cases.
        """
        if not self.pairs:
            return "unjudged"
        if self.dice_before is None:
            return "first"
        return "worse" if self._losses() else "better"

    @property
    def headline(self) -> str:
        """The verdict in a few words, which name the classes that became worse, and those of them whose accepted labels
        are the base's own output: for these a loss says little."""
        if self.verdict != "worse":
            return _HEADLINES[self.verdict]
        worse = [entry.name for entry in self.classes if _lost(entry)]
        if not worse:
            return "Not better than before"
        untouched = [name for name in worse if name in self.untouched]
        said = f"Worse than before in {', '.join(worse)}"
        if not untouched:
            return said
        which = "" if untouched == worse else f" of {', '.join(untouched)}"
        return f"{said}: the accepted labels{which} are {self.base}'s own output, hardly touched"

    @property
    def untouched(self) -> tuple[str, ...]:
        """The classes whose accepted labels are the base's own output, on most of the cases."""
        ours = [pair.corrected for pair in self.pairs if pair.corrected is not None and pair.corrected.by_base]
        return near_copies(ours) if 2 * len(ours) > len(self.pairs) else ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def reason(self) -> str:
        """The verdict in a sentence or two."""
        after, before, interval = self.dice_after, self.dice_before, self.interval
        if after is None:
            return "There are no validation cases, so nothing says whether the new model is better; accept more cases."
        cases = "1 case" if len(self.pairs) == 1 else f"{len(self.pairs)} cases"
        if before is None:
            return f"{self.base} does not know this task; the new model has a mean Dice of {after:.3f} on {cases}."
        sure = (
            "one case does not say how sure that is"
            if interval is None
            else f"{interval.confidence:.0%} interval {interval.low:+.3f} to {interval.high:+.3f}"
        )
        change = (
            f"Mean Dice {before:.3f} before, {after:.3f} after, on {cases} held back from training "
            f"(gain {after - before:+.3f}, {sure})."
        )
        return " ".join([change, *self._losses()])

    @computed_field  # type: ignore[prop-decorator]
    @property
    def bias(self) -> str:
        """Which side the validation cases favour, and why; empty if nothing points to a bias.

        They favour the base if their labels began as its output (or may have: they are that output, almost), and the
        candidate if its best checkpoint was chosen on them (``selected``).
        """
        if not self.pairs or self.dice_before is None:
            return SELECTED if self.pairs and self.selected else ""
        own = bias_text(self.base, {pair.after.case: pair.corrected for pair in self.pairs})
        drawn = [pair.before for pair in self.pairs if pair.corrected is None and pair.before is not None]
        alike = alike_text(self.base, drawn, len(self.pairs))
        return " ".join(text for text in (own, alike, SELECTED if self.selected else "") if text)

    @property
    def worst(self) -> tuple[str, ...]:
        """The cases that lost most (those with the lowest Dice if there is no score before), at most ``PICTURES``."""
        return tuple(pair.after.case for pair in by_gain(self.pairs)[:PICTURES])

    @property
    def recommended(self) -> bool:
        """Whether the verdict speaks for adopting the candidate."""
        return self.verdict in ("better", "first")

    def _losses(self) -> list[str]:
        assert self.dice_before is not None and self.dice_after is not None
        lost = [] if self.dice_after > self.dice_before else ["The mean did not rise."]
        for entry in self.classes:
            if _lost(entry):
                lost.append(f"{entry.name} became worse ({entry.dice_before:.3f} to {entry.dice_after:.3f}).")
        return lost


def _lost(entry: ClassPair) -> bool:
    return entry.dice_before is not None and entry.dice_after < entry.dice_before - WORSE_BY


def by_gain(pairs: Sequence[Pair]) -> list[Pair]:
    """Sort pairs, the worst first: by gain, or by the Dice after if there is no score before.

    Args:
        pairs: the pairs.

    Returns:
        A sorted copy.
    """
    return sorted(pairs, key=lambda pair: (pair.dice_after if pair.gain is None else pair.gain, pair.after.case))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
