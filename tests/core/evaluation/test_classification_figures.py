"""AUROC and balanced accuracy by hand, and what intervals are of."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from meduniseg_core.evaluation.classification import (
    balanced_accuracy,
    class_auroc,
    drawn_by_class,
    summarise_classification,
)


def two(second: list[float]) -> np.ndarray:
    return np.stack([1 - np.array(second), np.array(second)], axis=1)


def test_auroc_counts_pairs_in_the_right_order_and_ties_by_half() -> None:
    truth = np.array([0, 0, 1, 1])
    assert class_auroc(truth, two([0.1, 0.4, 0.4, 0.9])) == pytest.approx(3.5 / 4)
    assert class_auroc(truth, two([0.9, 0.8, 0.2, 0.1])) == 0
    # of three classes the mean over pairs; a head that knows nothing is at 0.5
    three = np.full((6, 3), 1 / 3)
    assert class_auroc(np.array([0, 0, 1, 1, 2, 2]), three) == pytest.approx(0.5)


def test_balanced_accuracy_weighs_classes_alike() -> None:
    truth = np.array([0] * 8 + [1] * 2)
    assert balanced_accuracy(truth, two([0.1] * 10)) == pytest.approx(0.5)
    assert balanced_accuracy(truth, two([0.1] * 4 + [0.9] * 6)) == pytest.approx((0.5 + 1) / 2)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_both_are_scikit_learn_s(classes: int) -> None:
    rng = np.random.default_rng(classes)
    truth = np.concatenate([np.arange(classes), rng.integers(classes, size=40)])
    shares = rng.dirichlet(np.ones(classes), len(truth)).round(1)  # with ties
    shares /= shares.sum(axis=1, keepdims=True)
    pairs = {"multi_class": "ovo", "labels": range(classes)} if classes > 2 else {}
    expected = roc_auc_score(truth, shares if classes > 2 else shares[:, 1], **pairs)
    assert class_auroc(truth, shares) == pytest.approx(expected)
    assert balanced_accuracy(truth, shares) == pytest.approx(balanced_accuracy_score(truth, shares.argmax(axis=1)))


def test_every_draw_holds_all_classes() -> None:
    truth, rng = np.array([0] * 30 + [1]), np.random.default_rng(0)
    for _ in range(20):
        assert np.bincount(truth[drawn_by_class(truth, rng)]).tolist() == [30, 1]


def test_a_summary_has_intervals_and_is_seeded() -> None:
    rng = np.random.default_rng(1)
    truth = [0] * 20 + [1] * 20
    shares = two(list(np.clip(np.array(truth) * 0.3 + rng.random(40) * 0.7, 0, 1)))
    found = summarise_classification(("absent", "present"), truth, shares)
    assert found.images == {"absent": 20, "present": 20}
    assert found.auroc_interval.low < found.auroc < found.auroc_interval.high
    assert found.balanced_accuracy_interval.low <= found.balanced_accuracy <= found.balanced_accuracy_interval.high
    assert summarise_classification(("absent", "present"), truth, shares) == found
    with pytest.raises(ValueError, match="no image is of class present"):
        summarise_classification(("absent", "present"), [0, 0], two([0.1, 0.2]))
