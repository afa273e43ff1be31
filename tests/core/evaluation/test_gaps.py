"""Which tasks are behind, how surely, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation import CaseScores, ClassScores, Report, read_reports, task_gaps
from meduniseg_core.evaluation.writing import write_report


def case(name: str, *dice: float) -> CaseScores:
    classes = tuple(
        ClassScores(
            label=label,
            name=f"class {label}",
            dice=value,
            hd95=None,
            surface_dice=None,
            prediction_volume=1,
            reference_volume=1,
        )
        for label, value in enumerate(dice, start=1)
    )
    return CaseScores(case=name, dimension=3, unit="mm", classes=classes)


def report(task: str = "", **cases: float) -> Report:
    return Report(task=task, tolerance=2.0, cases=tuple(case(name, value) for name, value in cases.items()))


def test_tasks_that_are_surely_behind_come_first_then_by_the_gap() -> None:
    ours = {
        "even": report(a=0.8, b=0.7, c=0.9),
        "unsure": report(a=0.9, b=0.1, c=0.5),
        "behind": report(a=0.5, b=0.6, c=0.4),
        "little": report(a=0.80, b=0.80, c=0.80),
    }
    theirs = {
        "even": report(a=0.8, b=0.7, c=0.9),
        "unsure": report(a=0.3, b=0.9, c=0.9),
        "behind": report(a=0.7, b=0.8, c=0.7),
        "little": report(a=0.82, b=0.81, c=0.82),
        "elsewhere": report(a=0.1),
    }
    gaps = task_gaps(ours, theirs)
    assert [(gap.task, gap.under_performing) for gap in gaps] == [
        ("behind", True), ("little", True), ("unsure", False), ("even", False)
    ]  # fmt: skip
    assert gaps[0].gap == pytest.approx(0.7 / 3) and gaps[0].dice == pytest.approx(0.5)
    assert gaps[0].interval.low == pytest.approx(0.2) and gaps[0].interval.high == pytest.approx(0.3)
    assert gaps[3].gap == 0 and gaps[3].interval.low == gaps[3].interval.high == 0


def test_cases_are_paired_by_name_and_the_worst_are_named() -> None:
    ours = {"task": report(a=0.1, b=0.5, c=0.6, d=0.7, only_here=0.0)}
    theirs = {"task": report(d=0.7, c=0.9, b=0.6, a=0.9, only_there=1.0, and_there=1.0)}
    (gap,) = task_gaps(ours, theirs)
    assert (gap.cases, gap.unpaired) == (4, 3)
    assert [(entry.case, entry.dice, entry.reference_dice) for entry in gap.worst] == [
        ("a", 0.1, 0.9), ("c", 0.6, 0.9), ("b", 0.5, 0.6)
    ]  # fmt: skip


def test_reports_are_read_from_a_file_a_folder_or_a_folder_of_folders(tmp_path: Path) -> None:
    write_report(report("liver", a=0.5), tmp_path / "reports" / "first")
    write_report(report(a=0.6), tmp_path / "reports" / "kidney")
    found = read_reports(tmp_path / "reports")
    assert set(found) == {"liver", "kidney"}, "by the report's own task, else by the folder's name"
    assert set(read_reports(tmp_path / "reports" / "first")) == {"liver"}
    one = read_reports(tmp_path / "reports" / "kidney" / "report.json")
    assert one["kidney"].cases == found["kidney"].cases


def test_what_cannot_be_compared_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"there is no report\.json; make one with 'meduniseg evaluate"):
        read_reports(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(BadInputError, match="is not a report of 'meduniseg evaluate'"):
        read_reports(tmp_path)
    write_report(report("liver", a=0.5), tmp_path / "two" / "x")
    write_report(report("liver", a=0.5), tmp_path / "two" / "y")
    with pytest.raises(BadInputError, match="two reports are of the task 'liver'"):
        read_reports(tmp_path / "two")
    with pytest.raises(BadInputError, match="no task in common"):
        task_gaps({"a": report(x=1.0)}, {"b": report(x=1.0)})
    with pytest.raises(BadInputError, match="no case in common"):
        task_gaps({"a": report(x=1.0)}, {"a": report(y=1.0)})
    other = Report(tolerance=2.0, cases=(case("x", 1.0, 1.0),))
    with pytest.raises(BadInputError, match="of other classes"):
        task_gaps({"a": report(x=1.0)}, {"a": other})
