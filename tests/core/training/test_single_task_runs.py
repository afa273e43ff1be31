"""Networks for one task in a training: a stopped run goes on bit for bit, and its model segments."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.images import read_image
from meduniseg_core.inference import Predictor
from meduniseg_core.training import NetworkSettings, TrainingConfig
from meduniseg_core.training.prepare import prepare
from meduniseg_core.weights import ModelInfo
from tests.small_peers import FORMS
from tests.small_peers import SIZES as SMALL
from tests.stopping import trained_the_same_when_stopped

DATASETS = {2: (0, "disc", "disc_0_0000.png"), 3: (1, "ball", "ball_0_0000.nii.gz")}


def single(config: TrainingConfig, name: str, dataset: int) -> TrainingConfig:
    network = NetworkSettings.model_validate({"method": name, **SMALL[name]})
    change = {"network": network, "datasets": (config.datasets[dataset],), "epochs": 2, "validation_every": 1}
    return config.model_copy(update=change)


@pytest.mark.parametrize(("name", "dimension"), FORMS)
def test_a_stopped_run_goes_on_and_its_model_segments(config: TrainingConfig, name: str, dimension: int) -> None:
    dataset, task, file = DATASETS[dimension]
    run = single(config, name, dataset)
    model = trained_the_same_when_stopped(run)
    built = model.info.universal_config
    assert (built.method, built.dimension, built.tasks) == (name, dimension, 0)
    assert model.info.provenance["kind"] == "single-task network"
    image = read_image(config.datasets[dataset] / "imagesTr" / file)
    found = Predictor(model, "cpu", "fp32").segment(image, task)[task].labels.array
    assert found.shape == (1, *image.array.shape[1:])
    assert np.isin(found, (0, 1)).all()
    with pytest.raises(UsageError, match=f"is a {name} network"):
        _ = model.universal_network


def test_what_a_network_for_one_task_cannot_do_is_refused(config: TrainingConfig) -> None:
    settings = {**config.model_dump(), "network": {"method": "u-mamba-bot"}}
    with pytest.raises(BadInputError, match="u-mamba-bot is a network for one task; give one data set"):
        TrainingConfig.from_settings(settings, config.output / "config.toml")
    one = {**settings, "datasets": config.datasets[:1]}
    with pytest.raises(ValidationError, match="random weights or an init; leave pretrained_weights out"):
        TrainingConfig.model_validate({**one, "pretrained_weights": "starter"})
    with pytest.raises(UsageError, match=r"nothing of its encoder .* fits the run's network"):
        prepare(TrainingConfig.model_validate({**one, "init": "starter"}))
    with pytest.raises(UsageError, match="ux-net is for volumes, not for 2D images; correct the config"):
        prepare(single(config, "ux-net", 0))
    info = prepare(single(config, "u-mamba-bot", 1)).info
    second = info.tasks[0].model_copy(update={"task": "second"})
    with pytest.raises(ValidationError, match="a u-mamba-bot network has one task"):
        ModelInfo.model_validate({**info.model_dump(), "tasks": (info.tasks[0].model_dump(), second.model_dump())})
