"""Networks other than MedUniSeg in a training: a stopped run goes on bit for bit, and its model segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from meduniseg_core.errors import UsageError
from meduniseg_core.images import read_image
from meduniseg_core.inference import Predictor
from meduniseg_core.model import build_model
from meduniseg_core.model.config import PriorDesign
from meduniseg_core.training import NetworkSettings, TrainingConfig, train
from meduniseg_core.training.prepare import prepare
from meduniseg_core.training.pretrained import PretrainedWeights
from meduniseg_core.weights import Model, load_model
from tests.stopping import trained_the_same_when_stopped

SMALL: dict[str, Any] = {
    "features": (4, 6, 8, 8),
    "strides": ((1, 2, 2), (2, 2, 2), (2, 2, 2)),
    "task_prompt_channels": 4,
    "task_prompt_size": (2, 2, 2),
    "modal_prompt_length": 8,
}
CHOICES: dict[str, dict[str, Any]] = {
    "uniseg": {"modal_prior": False},
    "multiple prompts": {"task_prompts": "each"},
    "universal prompts": {"modal_prompts": "one"},
    "fixed prompts": {"learned_prompts": False},
    "bottleneck prompts": {"modal_prior_at": "bottleneck", "fuse_blocks": 1},
    "meduniseg-t": {"task_prior_at": "decoder", "fuse_divisor": 2},
    "dodnet": {"method": "dodnet"},
    "universal-model": {"method": "universal-model"},
    "ccq": {"method": "ccq"},
    "hermes": {"method": "hermes"},
}


def with_network(config: TrainingConfig, choice: dict[str, Any]) -> TrainingConfig:
    network = NetworkSettings.model_validate({**SMALL, **choice})
    return config.model_copy(update={"network": network, "epochs": 1, "validation_every": 1})


@pytest.mark.parametrize("name", CHOICES)
def test_a_stopped_run_goes_on_and_its_model_segments_both_tasks(config: TrainingConfig, name: str) -> None:
    run = with_network(config, CHOICES[name])
    model = trained_the_same_when_stopped(run)
    written = model.info.config.model_dump(mode="json")
    chosen = {key: value for key, value in CHOICES[name].items() if key in PriorDesign.model_fields}
    assert {key: written[key] for key in chosen} == chosen
    discs, balls = config.datasets
    predictor = Predictor(model, "cpu", "fp32")
    for task, path in (("disc", discs / "imagesTr/disc_0_0000.png"), ("ball", balls / "imagesTr/ball_0_0000.nii.gz")):
        image = read_image(path)
        found = predictor.segment(image, task)[task]
        assert found.labels.array.shape == (1, *image.array.shape[1:])
        assert np.isin(found.labels.array, (0, 1)).all()


def test_runs_without_a_variant_keep_their_hash_and_a_variant_has_its_own(config: TrainingConfig) -> None:
    plain = with_network(config, {})
    dumped = plain.network.model_dump(mode="json")
    assert set(dumped) == {
        "features",
        "strides",
        "task_prompt_channels",
        "task_prompt_size",
        "modal_prompt_length",
        "priors",
    }
    hashes = {
        prepare(with_network(config, choice)).config_hash for choice in ({}, *CHOICES.values(), {"modal_prior": True})
    }
    assert len(hashes) == 1 + len(CHOICES)


def test_a_network_that_cannot_be_is_refused(config: TrainingConfig) -> None:
    with pytest.raises(ValueError, match="stay zero"):
        NetworkSettings(task_prompts="each", learned_prompts=False)
    with pytest.raises(ValueError, match="fuse_blocks"):
        NetworkSettings(fuse_blocks=0)
    with pytest.raises(ValueError, match="setting of MedUniSeg"):
        NetworkSettings(method="ccq", fuse_blocks=1)
    with pytest.raises(UsageError, match="one task at least"):
        prepare(with_network(config, {"method": "hermes", "priors": False}))
    infos = [prepare(with_network(config, choice)).info for choice in (CHOICES["meduniseg-t"], {})]
    late = Model(info=infos[0], network=build_model(infos[0].config), sha256="0" * 64)
    with pytest.raises(UsageError, match="section 10"):
        PretrainedWeights(late).load(build_model(infos[1].universal_config), infos[1])
    start = with_network(config, CHOICES["dodnet"])
    base = train(start)
    other = with_network(config, {}).model_copy(
        update={"pretrained_weights": str(base.model), "output": config.output.parent / "other"}
    )
    with pytest.raises(UsageError, match=r"dodnet network.*choose a MedUniSeg model"):
        train(other)
    with pytest.raises(UsageError, match=r"dodnet network.*choose a MedUniSeg model"):
        _ = load_model(base.model).universal_network
