"""Whose features the panels take: of the model that made the labels, else of the one in use, said in a sentence."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from layer_images import layer_image
from napari.components import ViewerModel

from meduniseg_core.events import CancelToken, Message, ignore
from meduniseg_core.weights.offer import offer_of
from napari_meduniseg import _features
from napari_meduniseg._features import FeatureSource, MadeBy, made_by
from napari_meduniseg._layer_input import snapshot_layers
from napari_meduniseg._layers import METADATA_KEY


@pytest.fixture
def layer() -> Any:
    picture = np.random.default_rng(0).integers(0, 255, (48, 48)).astype(np.uint8)
    return ViewerModel().add_image(picture, name="picture")


def test_labels_tell_what_made_them() -> None:
    viewer = ViewerModel()
    drawn = viewer.add_labels(np.zeros((4, 4), np.uint8))
    assert made_by(None) == made_by(drawn) == MadeBy()
    drawn.metadata[METADATA_KEY] = {"provenance": {"model": "mine", "task": "chest", "modality": "xray"}}
    assert made_by(drawn) == MadeBy("mine", "chest", "xray")


def test_features_are_of_the_labels_model_where_it_is_installed_else_of_what_is_in_use(
    layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    starter = offer_of("starter")
    adopted = SimpleNamespace(plans=starter.plans, models=dict.fromkeys(starter.models, "adopted"))
    monkeypatch.setattr(_features, "offer_in_use", lambda _events: adopted)
    loaded: list[str] = []
    source = FeatureSource()
    real = source.predictor

    def predictor(name: str) -> Any:
        loaded.append(name)
        return real("starter")

    monkeypatch.setattr(source, "predictor", predictor)
    image = layer_image([layer]).image
    found = source.get(image, MadeBy("starter", "chest", "xray"), ignore, CancelToken())
    assert loaded == ["starter"] and found.features.tasks[0] == "chest"
    assert "starter" in found.text and "Lungs and infection" in found.text
    source.get(image, MadeBy("gone", "chest", "xray"), ignore, CancelToken())
    source.get(image, MadeBy(), ignore, CancelToken())
    assert loaded == ["starter", "adopted", "adopted"]
    alone = source.get(image, None, ignore, CancelToken())
    assert not alone.features.tasks and loaded == ["starter", "adopted", "adopted"]


def test_a_second_stroke_reads_nothing_until_it_is_told_to_forget(layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source, reads = FeatureSource(), []
    real = _features.read_layers
    monkeypatch.setattr(_features, "read_layers", lambda snapshots: reads.append(1) or real(snapshots))
    first = source.of_layers(snapshot_layers([layer]), None, ignore, CancelToken())
    assert source.of_layers(snapshot_layers([layer]), None, ignore, CancelToken()) is first and len(reads) == 1
    layer.data = layer.data[::-1].copy()
    assert source.of_layers(snapshot_layers([layer]), None, ignore, CancelToken()) is not first and len(reads) == 2
    source.forget()
    source.of_layers(snapshot_layers([layer]), None, ignore, CancelToken())
    assert len(reads) == 3


def test_a_quick_task_of_a_model_that_is_not_in_use_is_not_found(layer: Any) -> None:
    source, events = FeatureSource(), list[Message]()
    image = layer_image([layer]).image
    assert source.of_tasks(image, "0" * 64, ("chest",), events.append, CancelToken()) is None
    sha256 = source.predictor("starter").model.sha256
    found = source.of_tasks(image, sha256, ("chest",), events.append, CancelToken())
    assert found is not None and found.tasks == ("chest",)
    assert source.of_tasks(image, None, (), events.append, CancelToken()) is not None
