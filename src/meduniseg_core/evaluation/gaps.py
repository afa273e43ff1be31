"""Which tasks lag behind: a model's reports compared with those of single-task networks or of the last release."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, computed_field

from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation.intervals import BootstrapInterval, bootstrap_interval
from meduniseg_core.evaluation.report import Report

REPORT_FILE = "report.json"
_WORST = 3
_LARGEST = 256 << 20  # bytes; a report of ten thousand cases has a few million


class CaseGap(BaseModel):
    """One case's mean Dice over the classes: the model's and the reference's."""

    model_config = ConfigDict(frozen=True)

    case: str
    dice: float
    reference_dice: float

    @property
    def gap(self) -> float:
        """How far the model's Dice lies below the reference's."""
        return self.reference_dice - self.dice


class TaskGap(BaseModel):
    """One task, over the cases that both reports have. ``unpaired`` counts the cases that only one of them has."""

    model_config = ConfigDict(frozen=True)

    task: str
    cases: int
    unpaired: int
    dice: float
    reference_dice: float
    interval: BootstrapInterval
    worst: tuple[CaseGap, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def gap(self) -> float:
        """How far the model's mean Dice lies below the reference's; negative where it is above."""
        return self.reference_dice - self.dice

    @computed_field  # type: ignore[prop-decorator]
    @property
    def under_performing(self) -> bool:
        """Whether the whole interval of the gap lies above zero."""
        return self.interval.low > 0


def read_reports(path: Path, *, remedy: str = "evaluate again") -> dict[str, Report]:
    """Read reports by task.

    Args:
        path: a ``report.json``, a folder that holds one, or a folder of such folders.
        remedy: what to do about one that cannot be read.

    Returns:
        Reports by task: the one that the report names, else the folder's name.

    Raises:
        BadInputError: there is no report, one cannot be read, or two are of one task.
    """
    path = Path(path)
    if path.is_file():
        files = [path]
    elif (path / REPORT_FILE).is_file():
        files = [path / REPORT_FILE]
    else:
        files = sorted(path.glob(f"*/{REPORT_FILE}"))
    if not files:
        raise BadInputError(
            f"{path}: there is no {REPORT_FILE}; make one with 'meduniseg evaluate ... -o {path}/TASK'."
        )
    reports: dict[str, Report] = {}
    for file in files:
        report = _read(file, remedy)
        task = report.task or file.resolve().parent.name
        if task in reports:
            raise BadInputError(f"{path}: two reports are of the task '{task}'; keep one of them.")
        reports[task] = report
    return reports


def task_gaps(reports: Mapping[str, Report], references: Mapping[str, Report]) -> list[TaskGap]:
    """Measure how far a model lags behind in every task that both sides have.

    The interval is a bootstrap over the paired differences of the cases.

    Args:
        reports: The model's reports, by task.
        references: The reports it is compared with, by task.

    Returns:
        One entry per task: first those that are certain to lag behind, then by the size of the gap.

    Raises:
        BadInputError: The sides have no task in common, or the reports of a task have no case in common or other
            classes.
    """
    common = [task for task in reports if task in references]
    if not common:
        raise BadInputError(
            f"The reports have no task in common (here: {', '.join(reports)}; there: {', '.join(references)}); "
            "evaluate the same tasks, each into a folder called TASK."
        )
    gaps = [_gap(task, reports[task], references[task]) for task in common]
    return sorted(gaps, key=lambda gap: (not gap.under_performing, -gap.gap))


def _gap(task: str, report: Report, reference: Report) -> TaskGap:
    ours = {case.case: case for case in report.cases}
    theirs = {case.case: case for case in reference.cases}
    names = [name for name in ours if name in theirs]
    if not names:
        raise BadInputError(f"The two reports of task {task} have no case in common; evaluate both on the same cases.")
    for name in names:
        labels = [[entry.label for entry in case.classes] for case in (ours[name], theirs[name])]
        if labels[0] != labels[1]:
            raise BadInputError(f"The two reports of task {task} are of other classes; evaluate both with the same.")
    pairs = [CaseGap(case=name, dice=ours[name].dice, reference_dice=theirs[name].dice) for name in names]
    return TaskGap(
        task=task,
        cases=len(pairs),
        unpaired=len(ours.keys() ^ theirs.keys()),
        dice=sum(pair.dice for pair in pairs) / len(pairs),
        reference_dice=sum(pair.reference_dice for pair in pairs) / len(pairs),
        interval=bootstrap_interval([pair.gap for pair in pairs]),
        worst=tuple(sorted(pairs, key=lambda pair: (-pair.gap, pair.case))[:_WORST]),
    )


def _read(path: Path, remedy: str) -> Report:
    try:
        if path.stat().st_size > _LARGEST:
            raise BadInputError(f"{path}: it is larger than any report; give a report of 'meduniseg evaluate'.")
        return Report.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BadInputError(f"{path} is not a report of 'meduniseg evaluate', or damaged; {remedy}.") from error
