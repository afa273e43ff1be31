"""Counting lesions, and the figures of a report that depend on them and on volumes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from meduniseg_core.evaluation import Report, evaluate_case
from meduniseg_core.evaluation.lesions import LesionCounts, all_lesions, count_lesions
from meduniseg_core.images import Geometry, Image

SHAPE = (1, 20, 20)


def marked(*blocks: tuple[slice, slice]) -> np.ndarray:
    array = np.zeros(SHAPE, dtype=bool)
    for rows, columns in blocks:
        array[0, rows, columns] = True
    return array


FIRST, SECOND, THIRD = (slice(0, 4), slice(0, 4)), (slice(8, 12), slice(8, 12)), (slice(16, 19), slice(2, 5))


def test_a_lesion_is_found_by_one_voxel_and_a_piece_that_touches_none_is_false() -> None:
    prediction = marked((slice(3, 6), slice(3, 6)), THIRD)
    assert count_lesions(prediction, marked(FIRST, SECOND)) == LesionCounts(reference=2, found=1, false=1)


def test_one_piece_over_two_lesions_finds_both() -> None:
    assert count_lesions(marked((slice(0, 12), slice(0, 12))), marked(FIRST, SECOND)) == LesionCounts(
        reference=2, found=2, false=0
    )


def test_pieces_that_meet_at_a_corner_are_one() -> None:
    assert count_lesions(marked(), marked(FIRST, (slice(4, 8), slice(4, 8)))).reference == 1


@pytest.mark.parametrize(
    ("counts", "f1"),
    [(LesionCounts(), 1.0), (LesionCounts(reference=3), 0.0), (LesionCounts(reference=2, found=1, false=1), 0.5)],
)
def test_f1(counts: LesionCounts, f1: float) -> None:
    assert counts.f1 == pytest.approx(f1)


def test_f1_is_of_all_cases_together() -> None:
    together = all_lesions([LesionCounts(reference=9, found=9), LesionCounts(reference=1, false=1)])
    assert together.f1 == pytest.approx(18 / 20)


def image(mask: np.ndarray) -> Image:
    return Image(mask[None].astype(np.uint8), Geometry(SHAPE, (10.0, 10.0, 10.0)))


def test_a_report_has_wdice_lesions_and_volume_error() -> None:
    names = {1: "lesion"}
    pairs = [(marked(FIRST), marked(FIRST)), (marked(THIRD), marked()), (marked(), marked()), (marked(), marked())]
    cases = tuple(
        evaluate_case(image(guess), image(truth), names, case=str(number), lesions=True)
        for number, (guess, truth) in enumerate(pairs)
    )
    (row,) = Report(tolerance=2.0, cases=cases).classes
    assert row.dice == pytest.approx(3 / 4)
    # one case with a lesion (Dice 1) and three without (Dice 0, 1, 1): each group weighs by the other's size
    assert row.weighted_dice == pytest.approx(1 / 4 * (2 / 3) + 3 / 4 * 1.0)
    assert row.lesion_f1 == pytest.approx(2 / 3)
    assert row.volume_error == pytest.approx(9 / 4)  # nine voxels of 1 ml in one of four cases


def test_a_report_of_an_older_version_has_no_lesions() -> None:
    scores = evaluate_case(image(marked(FIRST)), image(marked(FIRST)), {1: "lesion"})
    content = json.loads(Report(tolerance=2.0, cases=(scores,)).json_text())
    del content["cases"][0]["classes"][0]["lesions"]
    (row,) = Report.model_validate(content).classes
    assert row.lesion_f1 is None
