"""Instances of a result: pieces, boxes in voxels and mm, scores, sizes; through predictor, ensemble and slices."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from inference_samples import picture, picture_plan, tiny_model, volume, volume_plan
from test_segmentation_result import result_for

from meduniseg_core.images import Geometry, Image
from meduniseg_core.images.instances import box_in_mm, boxes_text, read_boxes
from meduniseg_core.inference import Predictor
from meduniseg_core.inference.ensemble import Ensemble
from meduniseg_core.inference.instances import find_instances


def test_pieces_have_boxes_scores_and_sizes() -> None:
    labels = np.zeros((1, 6, 8, 10), dtype=np.uint8)
    labels[0, 1:3, 2:4, 5:8] = 1
    labels[0, 4, 6, 0] = 1
    labels[0, 3, 4, 8] = 2  # touches the first piece's corner: another class is another piece
    shares = np.zeros((3, 6, 8, 10), dtype=np.float16)
    shares[1, 1:3, 2:4, 5:8] = 0.5
    shares[1, 1, 2, 5] = 1.0
    shares[1, 4, 6, 0] = 0.75
    shares[2, 3, 4, 8] = 0.25
    found = find_instances(Image(labels, Geometry((6, 8, 10), (2.0, 1.0, 0.5))), ("a", "b"), shares)
    assert [(one.name, one.box, one.voxels) for one in found] == [
        ("a", ((4, 5), (6, 7), (0, 1)), 1),
        ("a", ((1, 3), (2, 4), (5, 8)), 12),
        ("b", ((3, 4), (4, 5), (8, 9)), 1),
    ]
    assert [one.score for one in found] == pytest.approx([0.75, 6.5 / 12, 0.25])
    assert (found[1].size, found[1].unit) == (pytest.approx(12 * 1.0 / 1000), "ml")


def test_without_probabilities_every_piece_is_sure() -> None:
    labels = np.zeros((1, 1, 4, 4), dtype=np.uint8)
    assert find_instances(Image(labels, Geometry((1, 4, 4), (1.0, 1.0, 1.0)), physical=False), ("a",)) == ()
    labels[0, 0, 1:3, 1] = 1
    (one,) = find_instances(Image(labels, Geometry((1, 4, 4), (1.0, 1.0, 1.0)), physical=False), ("a",))
    assert (one.score, one.size, one.unit) == (1.0, 2.0, "pixels")


def test_overlapping_regions_are_scored_by_their_own_output() -> None:
    labels = np.zeros((1, 1, 2, 2), dtype=np.uint8)
    labels[0, 0, 0, 0] = 2
    shares = np.zeros((2, 1, 2, 2))
    shares[0, 0, 0, 0], shares[1, 0, 0, 0] = 0.9, 0.6
    (one,) = find_instances(
        Image(labels, Geometry((1, 2, 2), (1.0, 1.0, 1.0)), physical=False), ("a", "b"), shares, {2: 0, 1: 1}
    )
    assert one.score == pytest.approx(0.9)


def test_a_box_in_mm_holds_the_whole_voxels_on_a_turned_grid() -> None:
    box = (1, 3), (0, 2), (4, 5)
    plain = Geometry((4, 4, 8), (3.0, 2.0, 1.0), origin=(10.0, 20.0, 30.0))
    np.testing.assert_allclose(box_in_mm(box, plain), ((13.5, 14.5), (19.0, 23.0), (31.5, 37.5)))
    # depth and rows of the grid lie 45 degrees across x and y: 6 and 4 mm
    half = np.sqrt(0.5)
    turned = np.array([[half, -half, 0], [half, half, 0], [0, 0, 1.0]])
    geometry = replace(plain, direction=tuple(map(tuple, turned)))
    corners = np.array([(d, h, w, 1.0) for d in (0.5, 2.5) for h in (-0.5, 1.5) for w in (3.5, 4.5)])
    places = (corners @ geometry.affine.T)[:, :3]
    expected = list(zip(places.min(axis=0), places.max(axis=0), strict=True))
    np.testing.assert_allclose(box_in_mm(box, geometry), expected)
    assert box_in_mm(box, geometry)[0][1] - box_in_mm(box, geometry)[0][0] == pytest.approx(half * (6.0 + 4.0))


def test_a_list_is_saved_beside_the_labels_and_read_back(tmp_path: Path) -> None:
    image = volume((4, 8, 8))
    labels = np.zeros((4, 8, 8), dtype=np.uint8)
    labels[1, 2:4, 2:4] = 2
    result = result_for(image, labels)
    found = find_instances(result.labels, result.class_names)
    path = replace(result, instances=found).save(tmp_path / "case.v1.nii.gz")
    assert {entry.name for entry in path.parent.iterdir()} == {"case.v1.nii.gz", "case.v1.json", "case.v1_boxes.json"}
    listed = read_boxes(tmp_path / "case.v1_boxes.json")
    (entry,) = listed.instances
    assert (entry.label, entry.name, entry.box, entry.voxels) == (2, "two", ((1, 2), (2, 4), (2, 4)), 4)
    assert entry.box_mm is not None and entry.extent_mm == pytest.approx((2.0, 4.0, 4.0))
    assert listed.shape == (4, 8, 8) and listed.task == "organ"
    record = json.loads((tmp_path / "case.v1.json").read_text("utf-8"))
    assert "case.v1_boxes.json" in record["files"]
    replace(result, instances=()).save(tmp_path / "empty.nii.gz")
    assert read_boxes(tmp_path / "empty_boxes.json").instances == ()


def test_a_photograph_has_no_box_in_mm() -> None:
    labels = np.zeros((1, 4, 6), dtype=np.uint8)
    labels[0, 1, 1] = 1
    result = result_for(picture(4, 6), labels)
    text = boxes_text(find_instances(result.labels, result.class_names), result.labels, "eye.png", "eye")
    (entry,) = json.loads(text)["instances"]
    assert entry["box_mm"] is None and entry["extent_mm"] is None and entry["unit"] == "pixels"


def test_the_predictor_scores_by_the_probabilities_and_keeps_them_only_where_asked() -> None:
    session = Predictor(tiny_model([volume_plan(), picture_plan()]), "cpu", "fp32")
    for image, task in ((volume((16, 40, 40)), "organ"), (picture(40, 40), "spot"), (volume((3, 40, 40), 5.0), "spot")):
        if task == "spot" and not image.is_2d:
            image = image.with_array(np.repeat(image.array, 3, axis=0))
        plain = session.segment(image, task, probabilities=True)[task]
        found = session.segment(image, task, instances=True)[task]
        assert found.probabilities is None and plain.instances is None and plain.probabilities is not None
        assert np.array_equal(found.labels.array, plain.labels.array)
        assert found.instances == find_instances(plain.labels, plain.class_names, plain.probabilities.array)
        assert found.instances, "the test needs a network that finds something"
        both = session.segment(image, task, instances=True, probabilities=True)[task]
        assert both.probabilities is not None and both.instances == found.instances


def test_an_ensemble_scores_by_the_mean_probabilities() -> None:
    plan, image = volume_plan(), volume((12, 24, 24))
    members = [Predictor(tiny_model([plan], seed=seed), "cpu", "fp32") for seed in (0, 1)]
    found = Ensemble(members).segment(image, plan.task, instances=True)[plan.task]
    mean = Ensemble(members).segment(image, plan.task, probabilities=True)[plan.task].probabilities
    assert found.probabilities is None and found.instances and mean is not None
    assert found.instances == find_instances(found.labels, found.class_names, mean.array)
