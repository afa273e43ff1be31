"""Heads: fitted to made evidence, applied, written, and read from files that a stranger wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from inference_samples import picture, picture_plan, tiny_model

from meduniseg_core.adaptation.classifier import LabelledEvidence, fit_head
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import Message
from meduniseg_core.files import sha256_of
from meduniseg_core.images import Image
from meduniseg_core.inference import Predictor
from meduniseg_core.inference.classification import (
    check_head,
    classify_image,
    head_inputs,
    head_probabilities,
    segment_with_head,
)
from meduniseg_core.inference.quality.evidence import ClassEvidence, Evidence
from meduniseg_core.weights import Model
from meduniseg_core.weights.classifier import ClassifierHead, read_head, write_head

SURE = ClassEvidence(10, 9, 30, 12, 2, 4, 1, 3.0, 0, 0)


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model([picture_plan()])


def evidence(features: np.ndarray, peak: float = 0.0) -> Evidence:
    one = ClassEvidence(**{**vars(SURE), "peak": peak})
    return Evidence(100, (one,), features)


def samples(classes: tuple[str, ...], size: int = 30, *, by_peak: bool = False) -> list[LabelledEvidence]:
    """Images whose second feature (or highest logit) tells the class; two images a patient, of one class."""
    rng, found = np.random.default_rng(0), []
    for number in range(size):
        place = (number // 2) % len(classes)
        features, tells = rng.normal(size=6), 3.0 * place + rng.normal() * 0.5
        if not by_peak:
            features[1] = tells
        found.append(
            LabelledEvidence(evidence(features, tells if by_peak else 0.0), classes[place], f"patient{number // 2}")
        )
    return found


@pytest.mark.parametrize("classes", [("benign", "malignant"), ("a", "b", "c")])
def test_a_head_learns_what_tells_the_classes_apart(model: Model, classes: tuple[str, ...]) -> None:
    head = fit_head(model, "spot", samples(classes, 60))
    assert head.classes == classes and head.task == "spot" and head.model_sha256 == model.sha256
    for place, name in enumerate(classes):
        values = np.zeros(6)
        values[1] = 3.0 * place
        shares = head_probabilities(head, head_inputs(evidence(values), head.inputs))
        assert shares.sum() == pytest.approx(1) and classes[int(shares.argmax())] == name
    assert head.provenance["patients"] == 30 and head.provenance["log_loss"] < np.log(len(classes)) / 2


def test_logits_are_looked_at_only_where_cross_validation_is_better_by_them(model: Model) -> None:
    assert fit_head(model, "spot", samples(("a", "b"), 60, by_peak=True)).inputs == "features and logits"
    assert fit_head(model, "spot", samples(("a", "b"), 60, by_peak=True)) == fit_head(
        model, "spot", samples(("a", "b"), 60, by_peak=True)
    )


def test_too_few_classes_or_patients_are_refused(model: Model) -> None:
    with pytest.raises(UsageError, match="two classes"):
        fit_head(model, "spot", samples(("a",)))
    few = [one for one in samples(("a", "b")) if one.label == "a" or one.patient == "patient1"]
    with pytest.raises(UsageError, match="Class b has images of 1 patients"):
        fit_head(model, "spot", few)
    nothing = LabelledEvidence(Evidence(0, (), np.zeros(0)), "a", "p")
    with pytest.raises(BadInputError, match="only background"):
        fit_head(model, "spot", [*samples(("a", "b")), nothing])


def near(predictor: Predictor, image: Image) -> ClassifierHead:
    """A head whose class "here" has such images, and "there" others."""
    shown = predictor.segment(image, "spot", evidence=True)["spot"].evidence
    assert shown is not None
    rng = np.random.default_rng(0)
    found = []
    for name, shift in (("here", 0.0), ("there", 1.0)):
        for number in range(6):
            features = shown.features + shift + rng.normal(size=shown.features.shape) * 0.01
            found.append(LabelledEvidence(Evidence(shown.voxels, shown.classes, features), name, f"{name}{number}"))
    return fit_head(predictor.model, "spot", found)


def test_the_class_comes_with_the_segmentation_of_the_same_pass(model: Model) -> None:
    predictor, image = Predictor(model, "cpu", "fp32"), picture(40, 40)
    head, plain = near(predictor, image), predictor.segment(image, "spot")["spot"]
    result = segment_with_head(predictor, image, ["spot"], head)["spot"]
    found = result.image_class
    assert found is not None and found.name == "here" and found.probabilities["here"] > 0.5
    assert sum(found.probabilities.values()) == pytest.approx(1) and found.ranked[0][0] == "here"
    assert classify_image(predictor, image, head).image_class == found
    assert np.array_equal(result.labels.array, plain.labels.array)
    assert result.provenance()["image_class"] == found.as_json() and "image_class" not in plain.provenance()


def test_of_a_part_or_of_background_no_class_is_said(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, image = Predictor(model, "cpu", "fp32"), picture(40, 40)
    head, messages = near(predictor, image), []
    part = segment_with_head(predictor, image, ["spot"], head, box=((0, 1), (0, 20), (0, 20)), events=messages.append)
    nothing = replace(predictor.segment(image, "spot")["spot"], evidence=Evidence(0, (), np.zeros(0)))
    monkeypatch.setattr(predictor, "segment", lambda *_, **__: {"spot": nothing})
    empty = segment_with_head(predictor, image, ["spot"], head, events=messages.append)
    for found, why in ((part["spot"], "a part of it"), (empty["spot"], "only background")):
        (finding,) = (one for one in found.findings if one.code == "class_not_said")
        assert found.image_class is None and why in finding.text
        assert Message("info", finding.text) in messages
    with pytest.raises(BadInputError, match="only background"):
        classify_image(predictor, image, head)


def test_a_head_classifies_images_of_its_own_network_alone(model: Model) -> None:
    predictor, image = Predictor(model, "cpu", "fp32"), picture(40, 40)
    head = near(predictor, image)
    other = head.model_copy(update={"model_sha256": "cd" * 32})
    with pytest.raises(UsageError, match="was fitted to"):
        check_head(predictor, other)
    with pytest.raises(UsageError, match="another version"):
        check_head(predictor, head.model_copy(update={"features_version": 99}))
    with pytest.raises(UsageError, match="fit it again"):
        head_probabilities(head, np.zeros(3))
    predictor.packs = {"spot": SimpleNamespace(info=SimpleNamespace(name="mine"))}  # type: ignore[dict-item]
    for refused in (segment_with_head, classify_image):
        with pytest.raises(UsageError, match="runs through the pack mine"):
            refused(predictor, image, *((["spot"], head) if refused is segment_with_head else (head,)))


def test_a_head_is_read_back_and_damaged_ones_are_named(model: Model, tmp_path: Path) -> None:
    head, path = fit_head(model, "spot", samples(("a", "b"))), tmp_path / "head.json"
    write_head(head, path)
    assert read_head(path) == head and head.sha256 == sha256_of(path)
    whole = json.loads(path.read_text("utf-8"))
    for change, word in (
        ({"format": "other"}, "not a classifier's head"),
        ({"scale": [0.0] * len(whole["scale"])}, "scale"),
        ({"weights": [whole["weights"][0], [1.0]]}, "one length"),
        ({"bias": [0.0]}, "a row of weights and a bias"),
        ({"classes": ["a", "a"]}, "named once"),
        ({"model_sha256": "x"}, "model_sha256"),
        ({"more": 1}, "more"),
    ):
        path.write_text(json.dumps({**whole, **change}), "utf-8")
        with pytest.raises(BadInputError, match=word) as error:
            read_head(path)
        assert "head.json" in str(error.value)
    path.write_text(json.dumps(whole).replace('"bias": [', '"bias": [NaN, '), "utf-8")
    with pytest.raises(BadInputError, match="bias"):
        read_head(path)
    path.write_text("{", "utf-8")
    with pytest.raises(BadInputError, match="not JSON"):
        read_head(path)
