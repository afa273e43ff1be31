"""Detection against values computed by hand, and against scikit-learn where it has the same figure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation import evaluate_folders
from meduniseg_core.evaluation.detection import (
    Candidate,
    Matched,
    average_precision,
    box_iou,
    lesion_boxes,
    match_boxes,
    sensitivities,
    summarise_detection,
)
from meduniseg_core.images import Geometry, Image, write_labels
from meduniseg_core.images.boxes import Box
from meduniseg_core.images.instances import boxes_name, boxes_text
from meduniseg_core.inference.instances import find_instances

FLAT = (0, 1)


def box(h: int, w: int, size: int = 4) -> Box:
    return FLAT, (h, h + size), (w, w + size)


def test_the_iou_of_boxes() -> None:
    assert box_iou(box(0, 0), box(0, 0)) == 1
    assert box_iou(box(0, 0), box(0, 4)) == 0  # they touch
    assert box_iou(box(0, 0), box(2, 2)) == pytest.approx(4 / 28)
    assert box_iou(((0, 2), (0, 4), (0, 4)), ((1, 3), (0, 4), (0, 4))) == pytest.approx(16 / 48)


def test_pieces_that_touch_by_a_corner_are_one_lesion() -> None:
    mask = np.zeros((2, 8, 8), dtype=bool)
    mask[0, 1:3, 1:3] = mask[1, 3:5, 3:5] = True
    mask[0, 7, 0] = True
    assert sorted(lesion_boxes(mask)) == [((0, 1), (7, 8), (0, 1)), ((0, 2), (1, 5), (1, 5))]


def test_each_candidate_finds_one_lesion_and_each_lesion_is_found_once() -> None:
    lesions = [box(0, 0), box(20, 20)]
    twice = [Candidate(box(0, 1), 0.9), Candidate(box(0, 0), 0.8), Candidate(box(20, 21), 0.7)]
    assert match_boxes(twice, lesions) == Matched((0.9, 0.8, 0.7), (True, False, True), 2)
    assert match_boxes(twice, lesions, overlap=0.7).hits == (False, True, False)
    assert match_boxes([], lesions) == Matched((), (), 2)
    assert match_boxes(twice, []).hits == (False, False, False)


def test_the_best_overlapping_lesion_is_taken_not_the_first() -> None:
    lesions = [box(0, 0, 8), box(0, 6, 8)]
    assert match_boxes([Candidate(box(0, 6, 8), 0.9), Candidate(box(0, 0, 8), 0.1)], lesions).hits == (True, True)


def test_average_precision_by_hand() -> None:
    # two images, four lesions; by score: hit, false, hit, false, and one lesion is never found
    images = [Matched((0.9, 0.5), (True, False), 2), Matched((0.7, 0.6), (False, True), 1)]
    # after each step: precision 1, 1/2, 2/3, 1/2 at recall 1/3, 1/3, 2/3, 2/3; envelope 1, 2/3, 2/3, 1/2
    assert average_precision(images) == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)
    assert average_precision([Matched((0.9,), (False,), 0)]) is None
    assert average_precision([Matched((), (), 3)]) == 0
    assert average_precision([Matched((0.2, 0.1), (True, True), 2)]) == 1


def test_equal_scores_are_one_step() -> None:
    # in whatever order they stand: one hit and one false candidate at once
    for hits in ((True, False), (False, True)):
        assert average_precision([Matched((0.5, 0.5), hits, 1)]) == pytest.approx(0.5)
        assert sensitivities([Matched((0.5, 0.5), hits, 1)], (0.5, 1.0)) == [0.0, 1.0]


def test_froc_by_hand() -> None:
    images = [Matched((0.9, 0.5), (True, False), 2), Matched((0.7, 0.6), (False, True), 1)]
    # false candidates an image after each step: 0, 1/2, 1/2, 1
    assert sensitivities(images, (0.25, 0.5, 1.0, 8.0)) == pytest.approx([1 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert sensitivities([Matched((), (), 0)]) is None


def test_a_summary_has_intervals_and_survives_images_without_lesions() -> None:
    images = [Matched((0.9,), (True,), 1)] * 6 + [Matched((0.8,), (False,), 1)] * 6 + [Matched((), (), 0)] * 4
    found = summarise_detection(1, "lesion", images)
    assert (found.images, found.lesions, found.candidates, found.found) == (16, 12, 12, 6)
    assert found.f1 == pytest.approx(0.5) and found.average_precision == pytest.approx(0.5)
    assert found.average_precision_interval is not None and found.froc_interval is not None
    assert found.average_precision_interval.low < 0.5 < found.average_precision_interval.high
    assert summarise_detection(1, "lesion", images) == found  # seeded
    nothing = summarise_detection(1, "lesion", [Matched((), (), 0)])
    assert (nothing.f1, nothing.average_precision, nothing.froc, nothing.sensitivities) == (1.0, None, None, ())


def write_case(folder: Path, case: str, labels: np.ndarray, shares: np.ndarray | None = None) -> None:
    image = Image(labels[None, None].astype(np.uint8), Geometry((1, *labels.shape), (1.0, 1.0, 1.0)), physical=False)
    write_labels(image, folder / f"{case}.png")
    if shares is not None:
        found = find_instances(image, ("lesion",), np.stack([1 - shares, shares])[:, None])
        path = folder / f"{case}.png"
        path.with_name(boxes_name(path)).write_text(boxes_text(found, image, f"{case}.png", "lesion"), "utf-8")


def test_folders_with_lists_of_boxes(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
    truth, guess, shares = np.zeros((32, 32)), np.zeros((32, 32)), np.zeros((32, 32))
    truth[2:8, 2:8] = truth[20:26, 20:26] = 1
    guess[2:8, 3:9] = guess[14:17, 1:4] = 1
    shares[2:8, 3:9], shares[14:17, 1:4] = 0.6, 0.9
    write_case(ours, "a", guess, shares)
    write_case(theirs, "a", truth)
    write_case(theirs, "b", truth * 0)  # no prediction: nothing was found, and nothing is there
    (found,) = evaluate_folders(ours, theirs, class_names=("lesion",), boxes=0.1).detection
    assert (found.images, found.lesions, found.candidates, found.found) == (2, 2, 2, 1)
    # the false candidate comes first: precision 1/2 at recall 1/2
    assert found.average_precision == pytest.approx(0.25)
    assert found.sensitivities[:3] == (0.0, 0.0, 0.5)
    assert evaluate_folders(ours, theirs, class_names=("lesion",)).detection == ()
    assert evaluate_folders(ours, theirs, class_names=("lesion",), boxes=0.9).detection[0].found == 0


def test_binary_masks_of_other_ids_are_one_class(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
    truth = np.zeros((16, 16))
    truth[2:8, 2:8] = 1
    write_case(ours, "a", truth, truth)
    write_case(theirs, "a", truth * 255)
    (found,) = evaluate_folders(ours, theirs, class_names=("lesion",), boxes=0.5).detection
    assert (found.lesions, found.found, found.average_precision) == (1, 1, 1.0)


def test_a_missing_or_damaged_list_is_named(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
        write_case(folder, "a", np.eye(8))
    with pytest.raises(BadInputError, match=r"Case a has no list of boxes \(a_boxes.json"):
        evaluate_folders(ours, theirs, boxes=0.1)
    path = ours / "a_boxes.json"
    entry = {"class": "x", "label": 1, "score": 0.5, "box": [[0, 1], [0, 4], [0, 4]], "voxels": 4, "size": 4.0}
    whole = {"format": "meduniseg-boxes", "image": "a", "task": "t", "shape": [1, 8, 8]}
    for content, word in (
        ("{", "not JSON"),
        ("[]", "not a list of boxes"),
        (json.dumps({**whole, "instances": [{**entry, "unit": "pixels", "score": 2}]}), "instances.0.score"),
        (json.dumps({**whole, "instances": [{**entry, "unit": "pixels", "box": [[0, 1], [5, 4], [0, 4]]}]}), "begins"),
        (json.dumps({**whole, "instances": [{**entry, "unit": "pixels", "box": [[0, 1], [0, 9], [0, 4]]}]}), "leaves"),
        (json.dumps({**whole, "shape": [1, 9, 9], "instances": []}), "grid"),
    ):
        path.write_text(content, "utf-8")
        with pytest.raises(BadInputError, match=word) as error:
            evaluate_folders(ours, theirs, boxes=0.1)
        assert "a_boxes.json" in str(error.value)
