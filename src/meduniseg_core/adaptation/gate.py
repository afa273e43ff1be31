"""Before and after, case by case, on cases that were never trained on: what adopting a new model is decided by."""

from __future__ import annotations

import base64
import csv
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, computed_field

from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation import CaseScores, Report, evaluate_case, write_report
from meduniseg_core.evaluation.html import STYLE, number, table
from meduniseg_core.evaluation.metrics import EMPTY_MASK_POLICY
from meduniseg_core.evaluation.overlay import overlay, png_bytes, side_by_side
from meduniseg_core.evaluation.report import Interval, ReportPicture, bootstrap_interval
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.files import write_bytes, write_text
from meduniseg_core.images import Image, read_image, read_labels
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawCase, RawDataset
from meduniseg_core.weights import Model, Pack

WORSE_BY = 0.01
"""Dice a class may lose before the new model counts as worse for it."""

PICTURES = 3
_SIDE = 300

Verdict = Literal["better", "worse", "first", "unjudged"]


class Pair(BaseModel):
    """One case before and after; ``before`` is None where the base does not know the task."""

    model_config = ConfigDict(frozen=True)

    before: CaseScores | None
    after: CaseScores

    @property
    def dice_after(self) -> float:
        """Mean Dice after, over the classes that there is a before of (all, where there is none)."""
        if self.before is None:
            return self.after.dice
        shared = {scores.label for scores in self.before.classes}
        return float(np.mean([scores.dice for scores in self.after.classes if scores.label in shared]))

    @property
    def gain(self) -> float | None:
        """Mean Dice after minus before, over the classes that both know."""
        return None if self.before is None else self.dice_after - self.before.dice


class ClassPair(BaseModel):
    """One class over all cases: mean Dice and HD95 before and after (None where not measured)."""

    model_config = ConfigDict(frozen=True)

    name: str
    dice_before: float | None
    dice_after: float
    hd95_before: float | None
    hd95_after: float | None


class GateReport(BaseModel):
    """The comparison; everything besides the cases follows from them. The JSON can be read back."""

    model_config = ConfigDict(frozen=True)

    task: str
    base: str
    base_sha256: str
    candidate: str
    candidate_sha256: str
    policy: str = EMPTY_MASK_POLICY
    notes: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()
    pictures: tuple[ReportPicture, ...] = Field(default=(), exclude=True)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def dice_before(self) -> float | None:
        """Mean over cases; None without a before."""
        known = [pair.before.dice for pair in self.pairs if pair.before is not None]
        return float(np.mean(known)) if known else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def dice_after(self) -> float | None:
        """Mean over cases, of the classes that there is a before of; None without cases."""
        return float(np.mean([pair.dice_after for pair in self.pairs])) if self.pairs else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def interval(self) -> Interval | None:
        """Bootstrap interval of the mean paired gain; None without a before."""
        gains = [pair.gain for pair in self.pairs if pair.gain is not None]
        return bootstrap_interval(gains) if gains else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def classes(self) -> tuple[ClassPair, ...]:
        """Every class of the new model over all cases."""
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
        """``worse`` if the mean Dice did not rise or a class lost more than ``WORSE_BY``; only then is there a reason
        against adopting. ``first`` where the base did not know the task, ``unjudged`` without validation cases."""
        if not self.pairs:
            return "unjudged"
        if self.dice_before is None:
            return "first"
        return "worse" if self._losses() else "better"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def reason(self) -> str:
        """The verdict in a sentence or two."""
        after, before, interval = self.dice_after, self.dice_before, self.interval
        if after is None:
            return "There are no validation cases, so nothing says whether the new model is better; accept more cases."
        cases = "1 case" if len(self.pairs) == 1 else f"{len(self.pairs)} cases"
        if before is None or interval is None:
            return f"{self.base} does not know this task; the new model has a mean Dice of {after:.3f} on {cases}."
        change = (
            f"Mean Dice {before:.3f} before, {after:.3f} after, on {cases} held back from training "
            f"(gain {after - before:+.3f}, {interval.confidence:.0%} interval {interval.low:+.3f} to "
            f"{interval.high:+.3f})."
        )
        return " ".join([change, *self._losses()])

    @property
    def worst(self) -> tuple[str, ...]:
        """The cases that lost most (without a before: those that are worst), at most ``PICTURES``."""
        return tuple(pair.after.case for pair in by_gain(self.pairs)[:PICTURES])

    @property
    def recommended(self) -> bool:
        """Whether adopting is what one would do."""
        return self.verdict in ("better", "first")

    def _losses(self) -> list[str]:
        assert self.dice_before is not None and self.dice_after is not None
        lost = [] if self.dice_after > self.dice_before else ["The mean did not rise."]
        for entry in self.classes:
            if entry.dice_before is not None and entry.dice_after < entry.dice_before - WORSE_BY:
                lost.append(f"{entry.name} became worse ({entry.dice_before:.3f} to {entry.dice_after:.3f}).")
        return lost


@dataclass(frozen=True)
class Side:
    """One side of the comparison: a predictor, and what it is called."""

    name: str
    sha256: str
    predictor: Predictor


def gate(
    base: Side,
    candidate: Side,
    dataset: RawDataset,
    cases: Sequence[str],
    *,
    notes: Sequence[str] = (),
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> GateReport:
    """Segment the labelled ``cases`` of ``dataset`` by both sides and compare each with the case's label map.

    The base is asked for the same task where it has one and its classes stand first among the candidate's, in their
    order; classes that only the candidate has are reported without a before. Raises BadInputError for a case that is
    gone, and what segmenting raises.
    """
    task = dataset.task
    known = {case.case: case for case in dataset.cases("Tr")}
    gone = sorted(set(cases) - set(known))
    if gone:
        raise BadInputError(f"{dataset.folder}: case {gone[0]} is no longer there; restore it or train anew.")
    classes = candidate.predictor.model.info.plan_of(task).classes
    shared = known_classes(base.predictor.model, task, classes)
    sides = [(base, shared)] if shared else []
    sides.append((candidate, len(classes)))
    if shared == 0 and knows(base.predictor.model, task):
        notes = (*notes, f"The task {task} of {base.name} has other classes, so there is nothing to compare with.")
    elif 0 < shared < len(classes):
        notes = (*notes, f"New, and not compared: {', '.join(classes[shared:])}.")
    began, pairs = time.monotonic(), []
    for done, name in enumerate(cases):
        image, truth = _read(known[name])
        scores = [
            evaluate_case(
                side.predictor.segment(image, task, cancel=cancel)[task].labels,
                truth,
                dict(enumerate(classes[:count], start=1)),
                case=name,
            )
            for side, count in sides
        ]
        pairs.append(Pair(before=scores[0] if len(sides) == 2 else None, after=scores[-1]))
        events(Progress("gate", done + 1, len(cases), time.monotonic() - began, name))
    report = GateReport(
        task=task,
        base=base.name,
        base_sha256=base.sha256,
        candidate=candidate.name,
        candidate_sha256=candidate.sha256,
        notes=tuple(notes),
        pairs=tuple(pairs),
    )
    pictures = tuple(
        ReportPicture(rank="worst", case=case, png=_picture([side for side, _ in sides], known[case], task, cancel))
        for case in report.worst
    )
    return report.model_copy(update={"pictures": pictures})


def by_gain(pairs: Sequence[Pair]) -> list[Pair]:
    """The worst first: by the gain, or by the Dice after where there is no before."""
    return sorted(pairs, key=lambda pair: (pair.dice_after if pair.gain is None else pair.gain, pair.after.case))


def known_classes(model: Model, task: str, classes: Sequence[str]) -> int:
    """How many of ``classes``, from the first on, are all the classes that the model has of the task; 0 where its
    classes are others, or it does not have the task."""
    if not knows(model, task):
        return 0
    own = model.info.plan_of(task).classes
    return len(own) if tuple(classes[: len(own)]) == own else 0


def knows(model: Model, task: str) -> bool:
    """Whether a model has the task."""
    return task in [plan.task for plan in model.info.tasks]


def served_note(base: Model, candidate: Model) -> tuple[str, ...]:
    """That the new model leaves the base's other tasks to the base, where it does."""
    served = {plan.task for plan in candidate.info.tasks}
    if all(plan.task in served for plan in base.info.tasks):
        return ()
    return (f"The new model serves {', '.join(sorted(served))} only; {base.info.name} stays in use for the others.",)


def refined_note(base: Model, pack: Pack) -> tuple[str, ...]:
    """That the base's other tasks are not touched by a pack."""
    tasks = ", ".join(pack.info.tasks)
    return (f"The pack changes {tasks} only; all other tasks of {base.info.name} stay as they are, bit for bit.",)


SELECTED = (
    "The training kept its best state by these same cases, so the figures after it are flattered a little; the fewer "
    "cases, the more."
)
"""What holds for every run that selects its best checkpoint."""


def write_gate(report: GateReport, folder: Path) -> dict[str, Path]:
    """Write ``gate.json``, ``gate.csv``, ``gate.html``, the pictures, and the evaluation report of each side
    (``before/``, ``after/``) into ``folder``; each file is whole or not there. Returns the files by kind."""
    written = {kind: folder / f"gate.{kind}" for kind in ("csv", "html", "json")}
    for side in ("before", "after"):
        scores = [pair.before if side == "before" else pair.after for pair in report.pairs]
        known = tuple(case for case in scores if case is not None)
        if known:
            model = report.base if side == "before" else report.candidate
            title = f"{report.task} by {model}, validation cases"
            write_report(Report(title=title, tolerance=2.0, cases=known), folder / side)
    for position, picture in enumerate(report.pictures, start=1):
        write_bytes(folder / f"worst_{position}.png", picture.png)
    write_text(written["csv"], _csv(report))
    write_text(written["html"], _html(report))
    write_text(written["json"], report.model_dump_json(indent=2) + "\n")
    return written


def read_gate(folder: Path) -> GateReport | None:
    """What :func:`write_gate` wrote; None where there is none. BadInputError where it is damaged."""
    path = folder / "gate.json"
    if not path.is_file():
        return None
    try:
        report = GateReport.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise BadInputError(f"{path}: is not a gate's report; run 'meduniseg runs gate' again.") from error
    pictures = tuple(
        ReportPicture(rank="worst", case=case, png=file.read_bytes())
        for case, file in zip(report.worst, sorted(folder.glob("worst_*.png")), strict=False)
    )
    return report.model_copy(update={"pictures": pictures})


def _read(case: RawCase) -> tuple[Image, Image]:
    assert case.label is not None
    return read_image(case.images), read_labels(case.label)


def _picture(sides: Sequence[Side], case: RawCase, task: str, cancel: CancelToken | None) -> bytes:
    """Before (where there is one), after and the reference, in the slice where the reference is largest."""
    image, truth = _read(case)
    found = [side.predictor.segment(image, task, cancel=cancel)[task] for side in sides]
    colours = dict(enumerate(found[-1].colours, start=1))
    shown = [*(result.labels for result in found), truth]
    return png_bytes(side_by_side([overlay(image, labels, colours, long_side=_SIDE, like=truth) for labels in shown]))


def _csv(report: GateReport) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["case", "unit", "class", "dice_before", "dice_after", "hd95_before", "hd95_after"])
    for pair in report.pairs:
        former = {scores.label: scores for scores in pair.before.classes} if pair.before is not None else {}
        for scores in pair.after.classes:
            old = former.get(scores.label)
            values = (old.dice if old else None, scores.dice, old.hd95 if old else None, scores.hd95)
            writer.writerow(
                [pair.after.case, pair.after.unit, scores.name, *("" if v is None else f"{v:.6g}" for v in values)]
            )
    return stream.getvalue()


def _html(report: GateReport) -> str:
    title = f"{report.task}: {report.base} and {report.candidate}"
    ordered = by_gain(report.pairs)
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><h1>{escape(title)}</h1>",
        f"<p class='big'>{report.verdict.capitalize()}</p><p>{escape(report.reason)}</p>",
        *(f"<p class='note'>{escape(note)}</p>" for note in report.notes),
        "<h2>Classes</h2>",
        table(
            ["Class", "Dice before", "Dice after", "HD95 before", "HD95 after"],
            [
                [c.name, number(c.dice_before), number(c.dice_after), number(c.hd95_before, 2), number(c.hd95_after, 2)]
                for c in report.classes
            ],
        ),
        "<h2>Cases, worst change first</h2>",
        table(
            ["Case", "Dice before", "Dice after", "Gain"],
            [
                [
                    pair.after.case,
                    number(pair.before.dice if pair.before is not None else None),
                    number(pair.dice_after),
                    number(pair.gain),
                ]
                for pair in ordered
            ],
        ),
    ]
    if report.pictures:
        left = "Before left, after in the middle" if report.dice_before is not None else "The new model left"
        parts.append(f"<h2>Worst cases</h2><p>{left}, the accepted labels right.</p>")
    for picture in report.pictures:
        data = base64.b64encode(picture.png).decode("ascii")
        parts.append(
            f"<figure><img alt='{escape(picture.case)}' src='data:image/png;base64,{data}'>"
            f"<figcaption>{escape(picture.case)}</figcaption></figure>"
        )
    parts.append(f"<h2>Empty masks</h2><p>{escape(report.policy)}</p></body></html>\n")
    return "\n".join(parts)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
