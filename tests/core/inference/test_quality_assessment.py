"""What a calibration makes of evidence: numbers, light and sentence; and that a model carries it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from inference_samples import picture, picture_plan, tiny_model
from quality_samples import calibration, logistic, space

from meduniseg_core.errors import UsageError
from meduniseg_core.inference import Predictor
from meduniseg_core.inference.quality.assessment import (
    NOT_CALIBRATED,
    ClassQuality,
    ResultQuality,
    assess,
    probability,
)
from meduniseg_core.inference.quality.evidence import ClassEvidence, Evidence
from meduniseg_core.inference.quality.features import FEATURES, MISSED_FEATURES, class_features, distance
from meduniseg_core.weights import Model
from meduniseg_core.weights.calibration import Calibration, ClassCalibration, TaskCalibration

PLAN = picture_plan()
SURE = ClassEvidence(100, 90, 300, 95, 10, 20, 6, 8, 0, 0)
NOTHING = ClassEvidence(0, 0, 0, 0.5, 0, 0, 0, -2, 0, 0)


def evidence(one: ClassEvidence, features: np.ndarray | None = None) -> Evidence:
    return Evidence(4096, (one,), np.zeros(4) if features is None else features)


def test_a_found_class_has_its_models_numbers_and_its_interval() -> None:
    quality = assess(evidence(SURE), PLAN, calibration(PLAN))
    (one,) = quality.classes
    assert one.present == pytest.approx(0.9), "the certainty is 90 of 100"
    assert one.dice == pytest.approx(2 * 90 / 195), "what the probabilities themselves expect"
    assert (one.low, one.high) == (pytest.approx(one.dice - 0.3), 1.0)
    assert (quality.dice, quality.light) == (one.dice, "green")
    assert quality.sentence == "Looks good: predicted Dice of spot 0.92 (0.62 to 1.00)."


def test_a_class_that_is_not_found_is_right_or_wrong() -> None:
    (one,) = assess(evidence(NOTHING), PLAN, calibration(PLAN)).classes
    assert one.present == pytest.approx(1 / (1 + math.exp(2)))
    assert one.dice == pytest.approx(1 - one.present)
    assert (one.low, one.high) == (0.0, 1.0), "12 % are too many to rule out"
    sure = calibration(PLAN, present_missed=logistic({"peak": 2.0}))
    (one,) = assess(evidence(NOTHING), PLAN, sure).classes
    assert (one.low, one.high) == (1.0, 1.0)


def test_the_offset_of_a_class_moves_its_dice() -> None:
    task = TaskCalibration(task="spot", classes=(ClassCalibration(name="spot", offset=-1.0),), images=5)
    (low,) = assess(evidence(SURE), PLAN, calibration(PLAN, tasks=(task,))).classes
    (plain,) = assess(evidence(SURE), PLAN, calibration(PLAN)).classes
    assert math.log(low.dice / (1 - low.dice)) == pytest.approx(math.log(plain.dice / (1 - plain.dice)) - 1)


def quality(dice: float, low: float, familiar: float | None = 0.5, **changes: object) -> ResultQuality:
    fields = {"name": "polyp", "found": True, "present": 0.9, "dice": dice, "low": low, "high": 1.0, **changes}
    return ResultQuality((ClassQuality(**fields),), familiar, 0.8)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "light", "sentence"),
    [
        (quality(0.8, 0.6), "green", "Looks good: predicted Dice of polyp 0.80 (0.60 to 1.00)."),
        (quality(0.8, 0.4), "amber", "Check it: predicted Dice of polyp 0.80 (0.40 to 1.00)."),
        (quality(0.3, 0.1), "red", "Probably wrong: predicted Dice of polyp 0.30 (0.10 to 1.00)."),
        (
            quality(0.8, 0.6, familiar=0.0),
            "amber",
            "Check it: the image is unlike those that the model was calibrated on.",
        ),
        (
            quality(0.3, 0.0, found=False, present=0.7),
            "red",
            "Probably wrong: no polyp was found, and the image probably holds it (70%).",
        ),
        (
            quality(0.96, 1.0, found=False, present=0.04),
            "green",
            "Looks good: no polyp was found, and the image probably holds none (96% sure).",
        ),
        (
            quality(0.1, 0.0, present=0.2),
            "red",
            "Probably wrong: the polyp that was found is probably not there (80% sure).",
        ),
    ],
)
def test_lights_and_sentences(one: ResultQuality, light: str, sentence: str) -> None:
    assert (one.light, one.sentence) == (light, sentence)


def test_the_threshold_is_the_users() -> None:
    for threshold, light in ((0.1, "green"), (0.7, "amber"), (0.95, "red")):
        found = assess(evidence(SURE), PLAN, calibration(PLAN), threshold)
        assert found.light == light
        assert found.as_json()["threshold"] == threshold


def test_an_image_far_from_the_known_ones_is_unfamiliar() -> None:
    task = TaskCalibration(task="spot", classes=(ClassCalibration(name="spot"),), space=space(np.ones(4)), images=5)
    known = calibration(PLAN, tasks=(task,))
    near, far = (assess(evidence(SURE, np.ones(4) * value), PLAN, known) for value in (1.9, 5.0))
    assert (near.familiar, far.familiar) == (pytest.approx(2 / 3), 0.0)
    assert (near.is_unfamiliar, far.is_unfamiliar) == (False, True)
    # another network's features cannot be compared
    assert assess(evidence(SURE, np.ones(3)), PLAN, known).familiar is None


def test_distances_along_known_directions_count_less() -> None:
    wide = space(np.zeros(4)).model_copy(update={"directions": ((1.0, 0.0, 0.0, 0.0),), "variances": (100.0,)})
    along, across = (distance(np.array(values), wide) for values in ([10.0, 0, 0, 0], [0, 10.0, 0, 0]))
    assert (along, across) == (pytest.approx(0.5), pytest.approx(5.0))


@pytest.mark.parametrize("one", [SURE, NOTHING, ClassEvidence(1, 0.4, -8, 9e6, 1, 1, 1, 32, 1, 0)])
def test_features_are_finite_and_have_their_names(one: ClassEvidence) -> None:
    usual = (0.1, 1e-9)
    known = ClassCalibration(name="spot", size=(-3.0, 1e-9), centre=(usual, usual, usual))
    found = class_features(evidence(one), 0, known, 0.3)
    assert {*FEATURES, *MISSED_FEATURES} == set(found)
    assert all(math.isfinite(value) for value in found.values())


def test_extreme_models_stay_probabilities() -> None:
    extreme = logistic({"peak": 1e9, "margin": -1e9}, bias=1e9).model_copy(update={"scale": (1e-9, 1e-9)})
    assert 0 <= probability(extreme, {"peak": 1e6, "margin": 2e6}) <= 1


def test_what_was_calibrated_otherwise_is_not_used() -> None:
    for other in (
        calibration(picture_plan("other")),
        calibration(picture_plan(classes=("blob",))),
        calibration(PLAN, version=99),
    ):
        assert assess(evidence(SURE), PLAN, other) is None


def calibrated_model() -> Model:
    model = tiny_model([PLAN])
    info = model.info.model_copy(update={"calibration": calibration(PLAN)})
    return Model(info, model.network, model.sha256)


def test_a_calibrated_models_result_says_its_quality_in_its_json(tmp_path: Path) -> None:
    result = Predictor(calibrated_model(), "cpu", "fp32").segment(picture(64, 64), "spot", review_below=0.9)["spot"]
    assert result.quality is not None
    assert result.evidence is None, "it was not asked for"
    said = json.loads(result.save(tmp_path / "a.png").with_suffix(".json").read_text())["quality"]
    assert said == result.quality.as_json()
    assert said["classes"]["spot"]["found"] is True
    assert (said["calibrated"], said["threshold"]) == (True, 0.9)


def test_without_a_calibration_the_json_says_so(tmp_path: Path) -> None:
    result = Predictor(tiny_model([PLAN]), "cpu", "fp32").segment(picture(64, 64), "spot")["spot"]
    said = json.loads(result.save(tmp_path / "a.png").with_suffix(".json").read_text())["quality"]
    assert said == {"calibrated": False, "sentence": NOT_CALIBRATED}


def test_a_threshold_that_is_no_dice_is_refused() -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        Predictor(calibrated_model(), "cpu", "fp32").segment(picture(64, 64), "spot", review_below=1.5)


def test_a_calibration_survives_json() -> None:
    task = TaskCalibration(task="spot", classes=(ClassCalibration(name="spot"),), space=space(np.ones(4)), images=5)
    known = calibration(PLAN, tasks=(task,))
    assert Calibration.model_validate_json(known.model_dump_json()) == known
