"""Upstream against downstream: Pearson's r by hand, Fisher's interval, and tables that people wrote."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from meduniseg_core.errors import BadInputError
from meduniseg_core.insight.correlation import ScorePair, correlation, read_scores


def pairs(upstream: list[float], downstream: list[float]) -> list[ScorePair]:
    return [ScorePair(f"m{at}", *both) for at, both in enumerate(zip(upstream, downstream, strict=True))]


def test_pearson_and_fisher_by_hand() -> None:
    # deviations -2 -1 0 1 2 and -2 0 -1 1 2: sum of products 9, of squares 10 and 10
    found = correlation(pairs([1, 2, 3, 4, 5], [1, 3, 2, 4, 5]))
    assert found.r == pytest.approx(0.9) and found.points == 5
    z, reach = math.atanh(0.9), 1.959964 / math.sqrt(2)
    assert (found.low, found.high) == pytest.approx((math.tanh(z - reach), math.tanh(z + reach)), abs=1e-5)
    assert 0.03 < found.p < 0.04
    assert correlation(pairs([1, 2, 3, 4], [8, 6, 4, 2])).r == pytest.approx(-1)


def test_scale_and_offset_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    up, down = rng.random(12), rng.random(12)
    once, again = correlation(pairs(list(up), list(down))), correlation(pairs(list(100 * up + 3), list(down * 0.5)))
    assert (once.r, once.low, once.high) == pytest.approx((again.r, again.low, again.high))


def test_what_has_no_correlation_is_refused() -> None:
    with pytest.raises(BadInputError, match="4 models, and there are 3"):
        correlation(pairs([1, 2, 3], [1, 2, 3]))
    with pytest.raises(BadInputError, match="same downstream score"):
        correlation(pairs([1, 2, 3, 4], [2, 2, 2, 2]))


def test_a_table_is_read_and_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("model,upstream,downstream,note\na,80.5,84.6,x\nb,79.9,83.1,\n", "utf-8-sig")
    assert read_scores(path) == [ScorePair("a", 80.5, 84.6), ScorePair("b", 79.9, 83.1)]
    path.write_text("Model;Upstream;Downstream\na;80,5;84,6\n", "utf-8-sig")  # a spreadsheet's
    assert read_scores(path) == [ScorePair("a", 80.5, 84.6)]
    for text, word in (
        (
            "model,upstream\na,1\n",
            "no column downstream in its first line; name the columns model, upstream, downstream",
        ),
        ("model,upstream,downstream\n\n\na,1,x\n", "line 4"),
        ("model,upstream,downstream\na,1,nan\n", "not finite"),
        ("model,upstream,downstream\na,1,2\na,2,3\n", "two rows"),
    ):
        path.write_text(text, "utf-8")
        with pytest.raises(BadInputError, match=word) as error:
            read_scores(path)
        assert "scores.csv" in str(error.value)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInputError, match="UTF-8"):
        read_scores(path)
