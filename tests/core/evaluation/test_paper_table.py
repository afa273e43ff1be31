"""Reports as the paper's tables."""

from __future__ import annotations

import pytest

from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation import CaseScores, ClassScores, Report, paper_tables, strangers


def report(task: str, dimension: int, scores: list[tuple[float, float]]) -> Report:
    """Cases of one class with these pairs of Dice and reference volume."""
    cases = tuple(
        CaseScores(
            case=str(number),
            dimension=dimension,
            unit="mm",
            classes=(
                ClassScores(
                    label=1,
                    name="it",
                    dice=dice,
                    hd95=None,
                    surface_dice=None,
                    prediction_volume=volume,
                    reference_volume=volume,
                ),
            ),
        )
        for number, (dice, volume) in enumerate(scores)
    )
    return Report(task=task, tolerance=2.0, cases=cases)


SPLEEN = report("spleen", 3, [(0.9, 1.0), (0.8, 1.0)])
LIVER = report("liver", 3, [(0.6, 1.0)])
POLYP = report("polyp", 2, [(0.5, 1.0)])


def test_means_are_over_sets_not_cases_by_dimension() -> None:
    (table,) = paper_tables([{"polyp": POLYP, "spleen": SPLEEN, "liver": LIVER}, {"liver": LIVER}])
    assert table.stage == "upstream"
    assert [row.dataset for row in table.rows] == ["Liver", "Spleen", "Polyp"]  # the paper's order
    assert [row.scores for row in table.rows] == [
        (pytest.approx(60.0), pytest.approx(60.0)),
        (pytest.approx(85.0), None),
        (pytest.approx(50.0), None),
    ]
    first, second = table.means
    assert (first.mean_3d, first.mean_2d, first.mean) == tuple(map(pytest.approx, (72.5, 50.0, 65.0)))
    assert (second.mean_3d, second.mean_2d) == (pytest.approx(60.0), None)
    assert (table.sets, table.paper_means["MedUniSeg"]) == (17, 80.5)
    assert (table.rows[0].cases, table.rows[0].paper_cases) == (1, 27)


def test_siim_is_judged_by_wdice_beside_the_paper_s_figure() -> None:
    pneumothorax = report("pneumothorax", 2, [(1.0, 0.0), (1.0, 0.0), (0.0, 0.0), (0.4, 1.0)])
    (table,) = paper_tables([{"pneumothorax": pneumothorax}])
    (row,) = table.rows
    assert row.scores[0] == pytest.approx(100 * (1 / 4 * 2 / 3 + 3 / 4 * 0.4))
    assert row.paper == {"MedUniSeg": 59.8, "from scratch": 55.7}


def test_intervals_are_by_resampling_the_cases_of_every_set() -> None:
    even = report("spleen", 3, [(0.4, 1.0), (0.6, 1.0)] * 30)
    (table,) = paper_tables([{"spleen": even, "liver": LIVER}, {"liver": LIVER}])
    liver, spleen = table.rows
    first = liver.intervals[0]
    assert first is not None and (first.low, first.high) == (pytest.approx(60.0), pytest.approx(60.0))  # one case
    own = spleen.intervals[0]
    assert own is not None and own.low < 50 < own.high and own.high - own.low < 8
    assert spleen.intervals[1] is None
    assert set(table.intervals[0]) == {"mean", "mean_3d"}
    mean = table.intervals[0]["mean"]
    assert mean.low < 55 < mean.high
    assert mean.high - mean.low == pytest.approx((own.high - own.low) / 2)  # liver does not vary
    siim = report("pneumothorax", 2, [(1.0, 0.0)] * 9 + [(0.4, 1.0)] * 9)
    (of_siim,) = paper_tables([{"pneumothorax": siim}])
    interval = of_siim.rows[0].intervals[0]
    assert interval is not None and interval.low <= of_siim.rows[0].scores[0] <= interval.high  # type: ignore[operator]


def test_other_tasks_are_named_and_left_out() -> None:
    runs = [{"spleen": SPLEEN, "moon": report("moon", 2, [(1.0, 1.0)])}]
    assert strangers(runs) == ["moon"]
    assert len(paper_tables(runs)[0].rows) == 1
    with pytest.raises(BadInputError, match="No report is of a task of the paper"):
        paper_tables([{"moon": runs[0]["moon"]}])
