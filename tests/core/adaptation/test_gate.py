"""What the gate says of before and after, and when it advises against adopting."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from meduniseg_core.adaptation.gate import Side, gate
from meduniseg_core.adaptation.gate_bias import Corrected, bias_text, share_changed
from meduniseg_core.adaptation.gate_files import read_gate, write_gate
from meduniseg_core.adaptation.gate_report import GateReport, Pair
from meduniseg_core.corrections import Ledger, ModelReference
from meduniseg_core.corrections.records import ClassChange
from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation import CaseScores, ClassScores
from meduniseg_core.evaluation.report import ReportPicture
from meduniseg_core.images import Geometry, Image


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


SHA = "a" * 64
GEOMETRY = Geometry((4, 10, 10), (2.0, 1.0, 1.0))


def cube(low: int, high: int) -> np.ndarray:
    array = np.zeros((1, 4, 10, 10), np.uint8)
    array[:, 1:3, low:high, low:high] = 1
    return array


def stub(name: str, sha256: str, answer: np.ndarray) -> Side:
    """A side that finds ``answer`` in every image."""

    def segment(image: Image, task: str, cancel: Any = None) -> dict[str, Any]:
        return {task: SimpleNamespace(labels=image.with_array(answer), image=image, colours=((255, 0, 0),))}

    plan = SimpleNamespace(task="liver", classes=("liver",))
    info = SimpleNamespace(tasks=(plan,), plan_of=lambda _task: plan)
    return Side(name, sha256, SimpleNamespace(model=SimpleNamespace(info=info), segment=segment))  # type: ignore[arg-type]


def ledger_at(folder: Path, accepted: np.ndarray, predicted: np.ndarray | None, sha256: str | None) -> Ledger:
    ledger = Ledger.create(folder, task="liver", modality="ct", classes=["liver"], channels=["CT"])
    image = Image(np.random.default_rng(0).normal(size=(1, 4, 10, 10)).astype(np.float32), GEOMETRY)
    ledger.accept(
        image,
        image.with_array(accepted),
        predicted=None if predicted is None else image.with_array(predicted),
        model=None if predicted is None else ModelReference(name="base", sha256=sha256),
    )
    return ledger


def compared(ledger: Ledger, before: np.ndarray, after: np.ndarray, **more: Any) -> GateReport:
    cases = list(ledger.cases())
    return gate(stub("base", SHA, before), stub("new", "b" * 64, after), ledger.dataset, cases, **more)


def test_labels_that_are_the_base_s_own_output_plus_one_stroke_are_said_to_favour_it(tmp_path: Path) -> None:
    stroke = cube(2, 8)
    stroke[0, 1, 2, 2] = 0  # one voxel of 72
    found = compared(ledger_at(tmp_path, stroke, cube(2, 8), SHA), before=cube(2, 8), after=cube(3, 8))
    assert found.dice_before is not None and found.dice_before > 0.99 and found.verdict == "worse"
    assert "On 1 of 1 held-back cases the accepted labels began as the output of base itself" in found.bias
    assert "liver 1.4%" in found.bias and "That favours base; of liver the Dice before says little" in found.bias
    assert "Of the 1 voxels that were changed the new model has 100% as accepted, base 0%." in found.bias
    assert "chose its best state on these same cases" in found.bias  # the other bias, in the same breath
    assert found.headline == "Worse than before in liver: the accepted labels are base's own output, hardly touched"
    folder = tmp_path / "gate"
    page = write_gate(found, folder)["html"].read_text()
    assert "hardly touched" in page
    assert "What the annotators changed" in page and "liver +0 -1" in page
    read = read_gate(folder)
    assert read is not None and read.pairs == found.pairs and read.bias == found.bias


def changes(*added: int) -> Corrected:
    """Of one case: voxels added to class 1, class 2, ..., of 100 each."""
    classes = tuple(
        ClassChange(label=n, name=f"class {n}", predicted=100 - a, corrected=100, added=a, removed=0)
        for n, a in enumerate(added, start=1)
    )
    return Corrected(model="b", by_base=True, classes=classes, changed=sum(added), right_before=0, right_after=0)


def test_the_headline_names_what_became_worse_and_what_nobody_has_corrected() -> None:
    pairs = [
        Pair(before=scores(case, 0.99, 0.8), after=scores(case, 0.9, 0.7), corrected=changes(1, 30)) for case in "xy"
    ]
    own = "b's own output, hardly touched"
    assert report(*pairs).headline == f"Worse than before in class 1, class 2: the accepted labels of class 1 are {own}"
    drawn = [pair.model_copy(update={"corrected": None}) for pair in pairs]
    assert report(*drawn).headline == "Worse than before in class 1, class 2"
    assert report(pairs[0], *drawn).headline == "Worse than before in class 1, class 2"  # one of three cases
    touched = Pair(before=scores("x", 0.8), after=scores("x", 0.7), corrected=changes(30))
    assert report(touched).headline == "Worse than before in class 1"
    same = Pair(before=scores("x", 0.8), after=scores("x", 0.8), corrected=changes(1))
    assert report(same).headline == "Not better than before"
    better = Pair(before=scores("x", 0.8), after=scores("x", 0.9))
    assert report(better).headline == "Better than before"


def test_labels_that_were_corrected_thoroughly_say_how_much_and_of_drawn_ones_nothing_is_known(tmp_path: Path) -> None:
    much = compared(ledger_at(tmp_path / "much", cube(0, 10), cube(2, 8), SHA), before=cube(2, 8), after=cube(0, 9))
    assert much.bias.startswith("On 1 of 1") and "liver 64.0%" in much.bias and "says little" not in much.bias
    assert "the new model has 70% as accepted, base 0%" in much.bias
    drawn = compared(ledger_at(tmp_path / "drawn", cube(2, 8), None, SHA), before=cube(2, 9), after=cube(2, 8))
    assert "began as" not in drawn.bias and drawn.pairs[0].corrected is None
    other = compared(ledger_at(tmp_path / "other", cube(2, 8), cube(2, 9), "c" * 64), cube(2, 8), cube(2, 8))
    assert "began as" not in other.bias and other.pairs[0].corrected is not None
    assert compared(Ledger.open(tmp_path / "drawn"), cube(2, 9), cube(2, 8), selected=False).bias == ""


@pytest.mark.parametrize("known", ["c" * 64, None])
def test_a_prediction_that_is_the_base_s_output_favours_it_whatever_file_is_said_to_have_made_it(
    tmp_path: Path, known: str | None
) -> None:
    """The base before it was calibrated, a copy under another name, a prediction without its JSON."""
    stroke = cube(2, 8)
    stroke[0, 1, 2, 2] = 0
    found = compared(ledger_at(tmp_path, stroke, cube(2, 8), known), before=cube(2, 8), after=cube(3, 8))
    assert "On 1 of 1 held-back cases the accepted labels began as the output of base itself" in found.bias
    assert "hardly touched" in found.headline


def test_labels_of_unknown_origin_that_are_the_base_s_output_are_pointed_out(tmp_path: Path) -> None:
    """A result that was accepted, or put into a data set, without saying that it began as one."""
    stroke = cube(2, 8)
    stroke[0, 1, 2, 2] = 0
    found = compared(ledger_at(tmp_path / "l", stroke, None, SHA), before=cube(2, 8), after=cube(3, 8), selected=False)
    assert found.dice_before == pytest.approx(2 * 71 / (71 + 72))
    assert found.bias.startswith("On 1 of 1 held-back cases the labels of liver are the output of base almost voxel by")
    assert "if they began as that output, they favour base." in found.bias
    empty = compared(ledger_at(tmp_path / "e", 0 * cube(2, 8), None, SHA), 0 * cube(2, 8), cube(2, 8), selected=False)
    assert empty.bias == ""  # that nothing is there is easily agreed upon


def test_what_nobody_has_looked_at_takes_no_part(tmp_path: Path) -> None:
    """The first slice is marked "ignore": neither Dice nor what counts as changed knows of it."""
    ledger = ledger_at(tmp_path / "l", cube(2, 8), None, SHA)
    path = tmp_path / "l" / "dataset.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "labels": {**content["labels"], "ignore": 2}}))
    ledger = Ledger.open(tmp_path / "l")
    image = Image(np.random.default_rng(1).normal(size=(1, 4, 10, 10)).astype(np.float32), GEOMETRY)
    partly = cube(2, 8)
    partly[:, :2] = 2
    model = ModelReference(name="base", sha256=SHA)
    ledger.accept(image, image.with_array(partly), predicted=image.with_array(cube(2, 9)), model=model)
    case = list(ledger.cases())[-1]
    wrong_where_ignored = cube(2, 8)
    wrong_where_ignored[:, :2] = 1
    sides = stub("base", SHA, cube(2, 9)), stub("new", "b" * 64, wrong_where_ignored)
    (pair,) = gate(*sides, ledger.dataset, [case]).pairs
    assert pair.after.classes[0].dice == 1.0
    assert pair.before is not None and pair.before.classes[0].dice == pytest.approx(2 * 36 / (36 + 49))
    changed = 49 - 36
    assert pair.corrected is not None
    assert (pair.corrected.changed, pair.corrected.right_before, pair.corrected.right_after) == (changed, 0, changed)


def test_shares_of_several_cases_are_of_all_their_voxels() -> None:
    def case(corrected: int, added: int, removed: int) -> Corrected:
        change = ClassChange(name="x", corrected=corrected, predicted=corrected - added + removed, added=added,
                             removed=removed)  # fmt: skip
        return Corrected(model="b", by_base=True, classes=(change,), changed=added + removed, right_before=0,
                         right_after=0)  # fmt: skip

    assert share_changed([case(100, 10, 0), case(900, 0, 100)]) == {"x": pytest.approx(110 / 1100)}
    assert share_changed([case(0, 0, 0)]) == {"x": 0.0}
    assert bias_text("b", {"a": None}) == ""
