"""A universal training that starts from a trained universal network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.model import build_model
from meduniseg_core.training import NetworkSettings, TrainingConfig, train
from meduniseg_core.training.loop import Trainer
from meduniseg_core.training.pretrained import PretrainedWeights, start_of
from meduniseg_core.weights import Model, load_model


@pytest.fixture
def base(config: TrainingConfig) -> Path:
    """A network trained on the balls alone."""
    balls = config.datasets[1]
    return train(config.model_copy(update={"datasets": (balls,), "output": config.output.parent / "base"})).model


def warm(config: TrainingConfig, base: Path) -> TrainingConfig:
    return config.model_copy(update={"pretrained_weights": str(base)})


def test_a_known_task_starts_with_the_function_that_the_base_has(config: TrainingConfig, base: Path) -> None:
    known = load_model(base)
    trainer = Trainer(warm(config, base), lambda event: None, None)
    info = trainer._prepared.info
    assert [plan.task for plan in info.tasks] == ["disc", "ball"]
    mri, theirs_mri = info.modalities.index("mri"), known.info.modalities.index("mri")
    image = torch.randn(1, 1, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = trainer._network.eval()(image, task=torch.tensor([1]), modality=torch.tensor([mri]), levels=1)[0]
        theirs = known.network.eval()(image, task=torch.tensor([0]), modality=torch.tensor([theirs_mri]), levels=1)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_what_the_base_does_not_know_begins_fresh(config: TrainingConfig, base: Path) -> None:
    known = load_model(base)
    start = PretrainedWeights(known)
    info = Trainer(warm(config, base), lambda event: None, None)._prepared.info
    torch.manual_seed(3)
    network = build_model(info.config)
    fresh = {name: value.clone() for name, value in network.state_dict().items()}
    start.load(network, info)
    now = network.state_dict()
    rows = now["fuse.blocks.2.norm.weight"]
    assert rows[0] == fresh["fuse.blocks.2.norm.weight"][0]
    assert rows[1] == known.network.state_dict()["fuse.blocks.2.norm.weight"][0]


def test_the_model_says_what_it_was_trained_from_and_a_resume_is_bit_identical(
    config: TrainingConfig, base: Path
) -> None:
    whole = train(warm(config, base))
    assert load_model(whole.model).info.provenance["pretrained_sha256"] == load_model(base).sha256
    half = warm(config, base).model_copy(update={"output": config.output.parent / "half"})

    from meduniseg_core.errors import CancelledError
    from meduniseg_core.events import CancelToken, Event, Progress

    token, seen = CancelToken(), []

    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "train":
            seen.append(event)
            if len(seen) == 6:
                token.cancel()

    with pytest.raises(CancelledError):
        train(half, events=stop, cancel=token)
    resumed = load_model(train(half, resume=True).model).network.state_dict()
    expected = load_model(whole.model).network.state_dict()
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


def test_modal_prompts_go_by_their_modality_wherever_they_stand(config: TrainingConfig, base: Path) -> None:
    known = load_model(base)
    info = Trainer(warm(config, base), lambda event: None, None)._prepared.info
    turned = info.model_copy(update={"modalities": (*reversed(known.info.modalities[1:]), "thermography")})
    network = build_model(info.config)
    fresh = network.state_dict()["modal_map.prompts"].clone()
    PretrainedWeights(known).load(network, turned)
    now, theirs = network.state_dict()["modal_map.prompts"], known.network.state_dict()["modal_map.prompts"]
    assert torch.equal(now[0], theirs[-1])
    assert torch.equal(now[-1], fresh[-1])


def test_another_architecture_is_refused_in_one_sentence(config: TrainingConfig, base: Path) -> None:
    wider = NetworkSettings(features=(6, 6, 8, 8, 8, 8), task_prompt_channels=4, modal_prompt_length=16)
    with pytest.raises(UsageError, match="cannot be the pretrained weights"):
        train(warm(config, base).model_copy(update={"network": wider}))


def test_a_base_that_is_not_there_is_said(config: TrainingConfig, tmp_path: Path) -> None:
    with pytest.raises((BadInputError, UsageError), match="nowhere"):
        start_of(warm(config, tmp_path / "nowhere.safetensors"))


def test_a_config_names_a_file_relative_to_itself_or_a_model(config: TrainingConfig, tmp_path: Path) -> None:
    lines = {
        key: json.dumps(value) for key, value in (("name", "x"), ("datasets", ["a"]), ("output", "o"), ("cache", "c"))
    }
    path = tmp_path / "run.toml"
    for written, read in (("starter", "starter"), ("models/a.safetensors", str(tmp_path / "models/a.safetensors"))):
        path.write_text("\n".join(f"{k} = {v}" for k, v in lines.items()) + f'\npretrained_weights = "{written}"\n')
        assert TrainingConfig.from_toml(path).pretrained_weights == read


def test_more_classes_than_the_base_keep_its_rows(config: TrainingConfig, base: Path) -> None:
    known: Model = load_model(base)
    info = Trainer(warm(config, base), lambda event: None, None)._prepared.info
    config_now = info.config.model_copy(update={"classes": 5})
    network = build_model(config_now)
    fresh = network.state_dict()["decoder.levels.0.head.weight"].clone()
    PretrainedWeights(known).load(network, info.model_copy(update={"config": config_now}))
    head = network.state_dict()["decoder.levels.0.head.weight"]
    assert torch.equal(head[:2], known.network.state_dict()["decoder.levels.0.head.weight"])
    assert torch.equal(head[2:], fresh[2:])
