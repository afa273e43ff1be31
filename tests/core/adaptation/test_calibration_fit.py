"""The fits of a calibration: what must hold whatever the numbers are, and that made-up truths are found again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from meduniseg_core.adaptation.calibration_fit import (
    Observation,
    fit_calibration,
    fit_intervals,
    fit_logistic,
    fit_space,
)
from meduniseg_core.adaptation.calibration_scores import Scored, auroc, calibration_error, scores
from meduniseg_core.inference.quality.assessment import ClassQuality, ResultQuality, assess, interval_of
from meduniseg_core.inference.quality.evidence import ClassEvidence, Evidence
from meduniseg_core.inference.quality.features import distance
from meduniseg_core.preprocessing import TaskPlan

SHARES = st.floats(0, 1)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 40).flatmap(
        lambda n: st.tuples(hnp.arrays(float, (n, 3), elements=st.floats(-5, 5)), hnp.arrays(float, n, elements=SHARES))
    )
)
def test_a_logistic_fit_is_finite_and_at_its_minimum(data: tuple[np.ndarray, np.ndarray]) -> None:
    features, targets = data
    penalties = np.full(3, 2.0)
    weights, bias = fit_logistic(features, targets, np.ones(len(features)), penalties)
    assert np.isfinite([*weights, bias]).all()

    def loss(w: np.ndarray, b: float) -> float:
        odds = features @ w + b
        own = np.logaddexp(0, b) - 0.5 * b  # the observation that keeps the bias finite
        return float((np.logaddexp(0, odds) - targets * odds).sum() + own + (penalties * w**2).sum() / 2)

    best = loss(weights, bias)
    for step in np.eye(4) * 0.05:
        assert best <= loss(weights + step[:3], bias + step[3]) + 1e-6
        assert best <= loss(weights - step[:3], bias - step[3]) + 1e-6


def test_a_logistic_fit_finds_the_odds_that_data_were_drawn_with() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((4000, 2))
    share = 1 / (1 + np.exp(-(1.5 * features[:, 0] - 0.5)))
    drawn = (rng.random(4000) < share).astype(float)
    weights, bias = fit_logistic(features, drawn, np.ones(4000), np.full(2, 1.0))
    np.testing.assert_allclose([*weights, bias], [1.5, 0.0, -0.5], atol=0.15)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 80).flatmap(
        lambda n: st.tuples(hnp.arrays(float, n, elements=SHARES), hnp.arrays(float, n, elements=SHARES))
    )
)
def test_intervals_reach_to_one_and_hold_what_they_were_made_of(data: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, true = data
    intervals = fit_intervals(predicted, true, 0.8)
    ends = [interval.until for interval in intervals]
    assert ends == sorted(set(ends))
    assert ends[-1] == 1
    inside = sum(
        p - interval_of(intervals, p).low - 1e-4 <= t <= p + interval_of(intervals, p).high + 1e-4
        for p, t in zip(predicted, true, strict=True)
    )
    assert inside >= 0.8 * len(predicted) - 1e-9


def test_intervals_hold_their_share_of_new_values() -> None:
    rng = np.random.default_rng(1)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        predicted = rng.random(count)
        return predicted, np.clip(predicted + 0.3 * (1 - predicted) * rng.standard_normal(count), 0, 1)

    intervals = fit_intervals(*draw(400))
    predicted, true = draw(4000)
    held = np.mean(
        [
            p - interval_of(intervals, p).low <= t <= p + interval_of(intervals, p).high
            for p, t in zip(predicted, true, strict=True)
        ]
    )
    assert 0.75 < held < 0.9
    assert intervals[-1].low < intervals[0].low + intervals[0].high, "good predictions are surer"


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(float, st.tuples(st.integers(6, 30), st.integers(3, 12)), elements=st.floats(-100, 100)))
def test_a_space_is_finite_and_its_mean_is_nearest(values: np.ndarray) -> None:
    space = fit_space(list(values))
    assert space is not None
    middle = distance(np.asarray(space.mean), space)
    assert middle is not None
    assert middle < 1e-2
    for one in values:
        found = distance(one, space)
        assert found is not None
        assert np.isfinite(found)
        assert found >= middle - 1e-9


def test_too_few_images_make_no_space() -> None:
    assert fit_space([np.zeros(4)] * 5) is None
    assert fit_space([np.zeros(0)] * 20) is None


def test_images_of_another_kind_lie_farther_away() -> None:
    rng = np.random.default_rng(2)
    known = rng.standard_normal((40, 30)) + 5
    space = fit_space(list(known))
    assert space is not None
    near = [distance(one, space) or 0.0 for one in rng.standard_normal((20, 30)) + 5]
    far = [distance(one, space) or 0.0 for one in rng.standard_normal((20, 30)) + 8]
    assert max(near) < min(far)
    # the distances that are kept are those of images left out: new ones of the kind look the same
    assert np.median(near) == pytest.approx(np.median(space.distances), rel=0.15)


PLAN = TaskPlan(
    task="spot",
    modality="fundus",
    dimension=2,
    channels=("R", "G", "B"),
    classes=("spot",),
    longest_side=64,
    patch=(1, 64, 64),
    normalisation=("zscore",) * 3,
    figures=(None,) * 3,
)


def observation(number: int, rng: np.random.Generator, copy: bool = False) -> Observation:
    """A result whose probabilities tell its Dice, with some noise; nothing is found of what is not there."""
    there = number % 4 != 0
    certainty = float(rng.uniform(0.5, 0.99))
    one = ClassEvidence(400, 400 * certainty, 900, 400, 60, 60, 20, 6, 0, 0, (0.5, 0.4, 0.6))
    missed = ClassEvidence(0, 0, 0, 0.1, 0, 0, 0, -4, 0, 0)
    dice = float(np.clip(certainty + 0.05 * rng.standard_normal(), 0, 1)) if there else 1.0
    evidence = Evidence(4096, (one if there else missed,), rng.standard_normal(6))
    return Observation("spot", f"p{number}", evidence, (dice,), (there,), copy=copy)


def test_a_calibration_predicts_the_dice_of_new_results() -> None:
    rng = np.random.default_rng(3)
    calibration = fit_calibration([observation(number, rng) for number in range(200)], [PLAN])
    scored = []
    for number in range(200, 400):
        new = observation(number, rng)
        quality = assess(new.evidence, PLAN, calibration)
        assert quality is not None
        scored.append(Scored("spot", quality, new.dice, new.present))
    found = scores(scored)
    assert found["spearman"] is not None
    assert found["spearman"] > 0.85
    assert found["present_error"] is not None
    assert found["present_error"] < 0.05
    assert found["dice_error"] is not None
    assert found["dice_error"] < 0.08
    assert found["covered"] is not None
    assert found["covered"] > 0.75


def test_what_the_model_learned_by_heart_does_not_count_as_success() -> None:
    rng = np.random.default_rng(4)
    fresh = [observation(number, rng) for number in range(80)]
    by_heart = [
        Observation("spot", f"q{n}", observation(n + 1, rng).evidence, (1.0,), (True,), learned=True) for n in range(80)
    ]
    plain, both = (fit_calibration(part, [PLAN]) for part in (fresh, [*fresh, *by_heart]))
    assert both.dice.weights == pytest.approx(plain.dice.weights, abs=0.2)
    assert both.dice.bias == pytest.approx(plain.dice.bias, abs=0.2)


def test_few_images_of_one_kind_alone_are_no_error() -> None:
    rng = np.random.default_rng(5)
    calibration = fit_calibration([observation(1, rng), observation(2, rng)], [PLAN])
    quality = assess(observation(5, rng).evidence, PLAN, calibration)
    assert quality is not None
    assert (quality.classes[0].low, quality.classes[0].high) == (0.0, 1.0), "two images promise nothing"


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(float, 12, elements=SHARES), hnp.arrays(bool, 12))
def test_auroc_is_that_of_all_pairs(score: np.ndarray, positive: np.ndarray) -> None:
    found = auroc(score, positive)
    if not 0 < positive.sum() < 12:
        assert found is None
        return
    pairs = [(a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]]
    assert found == pytest.approx(np.mean(pairs))


def test_calibration_error_by_hand() -> None:
    said, happened = np.array([0.9, 0.9, 0.2, 0.25]), np.array([1.0, 0.0, 0.0, 0.0])
    assert calibration_error(said, happened) == pytest.approx((2 * 0.4 + 2 * 0.225) / 4)
    assert calibration_error(np.zeros(0), np.zeros(0)) is None


def test_scores_count_failures_and_bounds() -> None:
    def scored(predicted: float, true: float) -> Scored:
        one = ClassQuality("spot", True, 0.9, predicted, predicted - 0.1, predicted + 0.1)
        return Scored("spot", ResultQuality((one,), None, 0.8), (true,), (True,))

    found = scores([scored(0.9, 0.95), scored(0.8, 0.3), scored(0.2, 0.25), scored(0.7, 0.6)])
    assert (found["images"], found["below"], found["covered"]) == (4, 2, 0.75)
    assert found["auroc"] == pytest.approx(0.75)
