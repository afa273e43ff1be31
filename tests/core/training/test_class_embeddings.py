"""Embeddings of classes from a file: fixed, by name, checked before they are believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from meduniseg_core.errors import BadInputError
from meduniseg_core.model.baselines import UniversalModel
from meduniseg_core.training import NetworkSettings, TrainingConfig, train
from meduniseg_core.training.class_embeddings import ClassEmbeddings
from meduniseg_core.weights import load_model


def given(folder: Path, content: object) -> Path:
    path = folder / "texts.json"
    path.write_text(json.dumps(content))
    return path


def test_they_stay_as_given_and_are_part_of_what_a_resume_compares(config: TrainingConfig, tmp_path: Path) -> None:
    numbers = torch.randn(2, 512).tolist()
    path = given(tmp_path, {"ball/blob": numbers[0], "disc/blob": numbers[1], "other/thing": numbers[0]})
    network = NetworkSettings(
        method="universal-model", features=(4, 6, 8, 8), strides=((1, 2, 2), (2, 2, 2), (2, 2, 2))
    )
    run = config.model_copy(update={"network": network, "epochs": 1, "class_embeddings": path})
    model = load_model(train(run).model)
    assert isinstance(model.network, UniversalModel)
    torch.testing.assert_close(model.network.embeddings.detach(), torch.tensor([numbers[1], numbers[0]]))
    assert model.info.provenance["class_embeddings_sha256"]
    given(tmp_path, {"ball/blob": numbers[1], "disc/blob": numbers[1]})
    with pytest.raises(BadInputError, match="another configuration"):
        train(run.model_copy(update={"epochs": 1}), resume=True)
    given(tmp_path, {"ball/blob": numbers[1]})
    with pytest.raises(BadInputError, match=r"texts\.json: has no embedding for disc/blob"):
        train(run)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"a/b": [1.0]},
        {"a/b": [True] * 512},
        {"a/b": ["1"] * 512},
        {"a/b": 3},
        {"a/b": [10**400] * 512},
        {"a/b": [1e39] * 512},  # infinite in single precision
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(BadInputError, match=r"texts\.json: is not an object with 512"):
        ClassEmbeddings(given(tmp_path, content))


@pytest.mark.parametrize("text", ["{", '{"a/b": [' + ",".join(["NaN"] * 512) + "]}", "[" * 100_000])
def test_broken_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "texts.json"
    path.write_text(text)
    with pytest.raises(BadInputError, match=r"texts\.json: is not"):
        ClassEmbeddings(path)


def test_they_are_a_universal_model_s_alone(tmp_path: Path) -> None:
    fields = {"name": "x", "datasets": ["a"], "output": "o", "cache": "c", "class_embeddings": "t"}
    with pytest.raises(ValueError, match="universal-model"):
        TrainingConfig.model_validate(fields)
    network = {"method": "universal-model"}
    with pytest.raises(ValueError, match="not both"):
        TrainingConfig.model_validate({**fields, "network": network, "pretrained_weights": "starter"})
    path = tmp_path / "run.toml"
    lines = ['name = "x"', 'datasets = ["a"]', 'output = "o"', 'cache = "c"', 'class_embeddings = "t.json"']
    path.write_text("\n".join([*lines, "[network]", 'method = "universal-model"']))
    assert TrainingConfig.from_toml(path).class_embeddings == tmp_path / "t.json"
