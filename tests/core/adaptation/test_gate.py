"""What the gate says of before and after, and when it advises against adopting."""

from __future__ import annotations

from pathlib import Path

import pytest

from meduniseg_core.adaptation.gate_files import read_gate, write_gate
from meduniseg_core.adaptation.gate_report import GateReport, Pair
from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation import CaseScores, ClassScores
from meduniseg_core.evaluation.report import ReportPicture


def scores(case: str, *dice: float, hd95: float = 3.0) -> CaseScores:
    classes = tuple(
        ClassScores(label=n, name=f"class {n}", dice=d, hd95=hd95, surface_dice=d, prediction_volume=1.0,
                    reference_volume=1.0)
        for n, d in enumerate(dice, start=1)
    )  # fmt: skip
    return CaseScores(case=case, dimension=3, unit="mm", classes=classes)


def report(*pairs: Pair, **more: object) -> GateReport:
    return GateReport(task="t", base="b", base_sha256="0", candidate="c", candidate_sha256="1", pairs=pairs, **more)


def test_better_in_the_mean_and_in_no_class_worse_is_better() -> None:
    found = report(
        Pair(before=scores("x", 0.5, 0.8), after=scores("x", 0.7, 0.795)),
        Pair(before=scores("y", 0.6, 0.8), after=scores("y", 0.6, 0.8)),
    )
    assert found.verdict == "better" and found.recommended
    assert found.dice_before == pytest.approx(0.675) and found.dice_after == pytest.approx(0.72375)
    assert "gain +0.049" in found.reason and "2 cases held back" in found.reason
    assert found.interval is not None and found.interval.low <= 0.04875 <= found.interval.high
    assert found.worst == ("y", "x")


def test_a_class_that_lost_is_named_even_where_the_mean_rose() -> None:
    found = report(Pair(before=scores("x", 0.5, 0.8), after=scores("x", 0.9, 0.75)))
    assert found.verdict == "worse" and not found.recommended
    assert "class 2 became worse (0.800 to 0.750)" in found.reason and "did not rise" not in found.reason


def test_no_gain_is_worse_and_no_before_or_no_case_is_neither() -> None:
    same = report(Pair(before=scores("x", 0.5), after=scores("x", 0.5)))
    assert same.verdict == "worse" and "The mean did not rise." in same.reason
    new = report(Pair(before=None, after=scores("x", 0.5)))
    assert new.verdict == "first" and new.recommended and "does not know this task" in new.reason
    none = report()
    assert none.verdict == "unjudged" and not none.recommended and "no validation cases" in none.reason


def test_one_case_has_no_interval_and_the_sentence_says_so() -> None:
    found = report(Pair(before=scores("x", 0.5), after=scores("x", 0.6)))
    assert found.interval is None and found.verdict == "better"
    assert "on 1 case held back" in found.reason and "one case does not say how sure that is" in found.reason


def test_a_class_that_only_the_new_model_has_counts_neither_for_nor_against_it() -> None:
    found = report(Pair(before=scores("x", 0.6), after=scores("x", 0.7, 0.1)))
    assert found.verdict == "better" and found.dice_after == pytest.approx(0.7)
    assert found.classes[1].dice_before is None and found.classes[1].dice_after == pytest.approx(0.1)


def test_a_report_is_read_back_as_it_was_written_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    picture = ReportPicture(rank="worst", case="<x>", png=b"\x89PNG")
    found = report(Pair(before=scores("<x>", 0.5), after=scores("<x>", 0.6)), pictures=(picture,), notes=("a & b",))
    files = write_gate(found, tmp_path / "gate")
    assert read_gate(tmp_path / "gate") == found
    page = files["html"].read_text()
    assert "&lt;x&gt;" in page and "<x>" not in page and "a &amp; b" in page
    rows = files["csv"].read_text().splitlines()
    assert rows[0].startswith("case,unit,class,dice_before") and rows[1] == "<x>,mm,class 1,0.5,0.6,3,3"
    assert {path.name for path in (tmp_path / "gate" / "before").iterdir()} >= {"report.json", "report.html"}
    files["json"].write_text("{}")
    with pytest.raises(BadInputError, match="is not a gate's report"):
        read_gate(tmp_path / "gate")
    assert read_gate(tmp_path) is None
