"""What results say of their quality, in the Segment panel and in the list of a batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from qtpy.QtCore import Qt

from meduniseg_core.inference.quality.assessment import NOT_CALIBRATED, NOT_OF_A_PACK, ClassQuality, ResultQuality
from napari_meduniseg.widgets.case_queue import CaseQueue
from napari_meduniseg.widgets.verdict import Verdict


def quality(name: str, dice: float, low: float) -> ResultQuality:
    return ResultQuality((ClassQuality(name, True, 0.95, dice, low, 1.0),), 0.5, 0.8)


def outcome(**results: ResultQuality | None) -> Any:
    unknown = {"packed": NOT_OF_A_PACK}
    named = {
        task: SimpleNamespace(quality=one, shown_title=task, quality_unknown=unknown.get(task, NOT_CALIBRATED))
        for task, one in results.items()
    }
    return SimpleNamespace(results=named)


@pytest.fixture
def verdict(qtbot: Any) -> Verdict:
    widget = Verdict()
    qtbot.addWidget(widget)
    return widget


def test_the_worst_task_comes_first_and_the_threshold_moves_the_lights(verdict: Verdict) -> None:
    verdict.show_results(outcome(good=quality("liver", 0.9, 0.8), bad=quality("polyp", 0.6, 0.3)))
    assert [light for light, _ in verdict.lines()] == ["amber", "green"]
    assert verdict.lines()[0][1] == "bad: Check it: predicted Dice of polyp 0.60 (0.30 to 1.00)."
    verdict.threshold.setValue(0.85)
    assert [light for light, _ in verdict.lines()] == ["red", "amber"]
    assert [sentence.text() for _, sentence in verdict._rows] == [text for _, text in verdict.lines()]


def test_a_model_that_is_not_calibrated_says_so_and_has_no_threshold(verdict: Verdict) -> None:
    verdict.show_results(outcome(organ=None))
    assert verdict.lines() == [(None, NOT_CALIBRATED)]
    assert not verdict._form.isRowVisible(verdict.threshold)
    verdict.show_results(outcome(a=None, packed=None, b=None))
    assert verdict.lines() == [(None, f"a, b: {NOT_CALIBRATED}"), (None, f"packed: {NOT_OF_A_PACK}")]
    verdict.clear()
    assert verdict.isHidden()
    assert verdict.lines() == []


def test_its_sentences_are_seen_whole(verdict: Verdict, qtbot: Any) -> None:
    verdict.resize(320, 200)
    verdict.show()
    verdict.show_results(outcome(good=quality("liver", 0.9, 0.8), bad=quality("polyp", 0.6, 0.3), organ=None))
    qtbot.waitUntil(lambda: all(sentence.isVisible() for _, sentence in verdict._rows))
    for dot, sentence in verdict._rows:
        assert dot.width() > 0
        assert sentence.width() > 250
        assert sentence.height() >= sentence.heightForWidth(sentence.width())


def test_a_batch_is_sorted_with_the_worst_first(qtbot: Any) -> None:
    queue = CaseQueue()
    qtbot.addWidget(queue)
    for case, dice, low in (("a", 0.9, 0.8), ("b", 0.05, 0.0), ("c", 0.6, 0.3)):
        queue.add_result(case, "polyp", f"{case}.png", 1.0, [], quality("polyp", dice, low).as_json())
    assert [line.split(" (")[0] for line in queue.lines()] == ["✓ a", "✓ b", "✓ c"], "as they come"
    assert "Probably wrong" in queue.lines()[1]
    assert "Check it" in queue.lines()[2]
    assert "predicted" not in queue.lines()[0], "what is green needs no words"
    queue.sortItems(5, Qt.SortOrder.AscendingOrder)
    assert [line.split(" (")[0] for line in queue.lines()] == ["✓ b", "✓ c", "✓ a"]
    queue.add_result("d", "polyp", "d.png", 1.0, [], quality("polyp", 0.5, 0.3).as_json())
    assert [line.split(" (")[0] for line in queue.lines()] == ["✓ b", "✓ d", "✓ c", "✓ a"], "also while it runs"


def test_results_without_quality_are_listed_as_before(qtbot: Any) -> None:
    queue = CaseQueue()
    qtbot.addWidget(queue)
    queue.add_result("a", "organ", "a.png", 1.0, ["look"], {"calibrated": False, "sentence": NOT_CALIBRATED})
    queue.add_result("b", "organ", "b.png", 1.0, [])
    assert queue.lines() == ["✓ a (organ, 1.0 s) look", "✓ b (organ, 1.0 s)"]


def test_what_went_wrong_is_wrapped_in_a_narrow_panel(gui_screen: None, qtbot: Any) -> None:
    queue = CaseQueue()
    qtbot.addWidget(queue)
    queue.resize(400, 300)
    queue.show()
    sentence = "half_a_photograph.png is truncated or damaged (image file is truncated); copy or export it again."
    queue.add_failure(sentence, "half_a_photograph_with_a_long_name")
    queue.add_result("eye", "disc_cup", "", 1.0, [])
    qtbot.waitUntil(lambda: queue.rowHeight(0) > 3 * queue.rowHeight(1) / 2, timeout=5000)
    assert queue.horizontalScrollBar().maximum() == 0  # all columns are in sight
    high = queue.rowHeight(0)
    queue.resize(800, 300)
    qtbot.waitUntil(lambda: queue.rowHeight(0) < high, timeout=5000)
    assert queue.isColumnHidden(3) and queue.isColumnHidden(5)  # one task, and no Dice is known
    queue.add_result("eye", "retinal_vessel", "", 1.0, [])
    assert not queue.isColumnHidden(3)
    queue.add_result("ear", "disc_cup", "", 1.0, [], quality("cup", 0.9, 0.8).as_json())
    assert not queue.isColumnHidden(5)
