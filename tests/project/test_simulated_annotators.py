"""The rule of the simulated annotators, by which teaching is measured: the largest wrong region, never beyond it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def rule(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    import annotators

    yield annotators
    sys.modules.pop("annotators")


def scene() -> np.ndarray:
    reference = np.zeros((3, 100, 100), np.int64)
    reference[1, 10:90, 40:44] = 1  # long and thin
    reference[2, 60:70, 60:70] = 2
    return reference


def test_strokes_lie_in_the_largest_wrong_region_and_are_bounded(rule: Any) -> None:
    reference = scene()
    first = rule.first_strokes(reference)
    assert [stroke.label for stroke in first] == [0, 1, 2]
    for stroke in first:
        assert (reference[stroke.where] == stroke.label).all() and len(set(stroke.where[0])) == 1
        assert max(np.ptp(index) for index in stroke.where) <= 0.25 * 100 + 3
    drawn = np.zeros(reference.shape, bool)
    labels = reference.copy()
    labels[2] = 0
    labels[1, 80:90, 40:42] = 0
    stroke = rule.next_stroke(reference, labels, drawn)
    assert stroke.label == 2 and set(stroke.where[0]) == {2}
    drawn[2, 60:70, 60:70] = True
    assert rule.next_stroke(reference, labels, drawn).label == 1
    assert rule.next_stroke(reference, reference, drawn) is None


def test_clicks_are_deep_and_a_false_piece_of_a_right_part_is_lassoed(rule: Any) -> None:
    reference = scene()
    labels = reference.copy()
    labels[2] = 0
    click = rule.next_click(reference, labels, set())
    assert click.label == 2 and click.at[0] == 2 and click.lasso is None
    assert all(63 <= value <= 66 for value in click.at[1:])
    assert rule.next_click(reference, labels, {click.at}).at != click.at
    labels = reference.copy()
    labels[2, 10:20, 10:20] = 1
    assert rule.next_click(reference, labels, set()).lasso is None, "the whole part is false"
    labels = reference.copy()
    labels[1, 50:55, 44:50] = 1
    lasso = rule.next_click(reference, labels, set()).lasso
    assert lasso is not None and lasso[1, 50:55, 44:50].all() and not lasso[1, :48].any() and not lasso[0].any()


def test_a_brush_paints_the_region_and_nothing_else(rule: Any) -> None:
    reference = scene()
    labels = np.zeros_like(reference)
    stroke = rule.painted(reference, labels)
    assert stroke.label == 1 and (reference[stroke.where] == 1).all() and stroke.where[0].size > 0.9 * 80 * 4
    assert rule.painted(reference, reference) is None
