"""What a fine-tuned network takes over from its base."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_network import plan

from meduniseg_core.adaptation.transfer import Downstream, downstream_config, downstream_state, with_stem
from meduniseg_core.errors import UsageError
from meduniseg_core.model import ModelConfig, build_model, count_parameters
from meduniseg_core.training import rescale_like
from meduniseg_core.weights import Model, ModelInfo


def test_the_paper_s_downstream_network_has_the_paper_s_size() -> None:
    assert count_parameters(downstream_config(ModelConfig(), 3, 2))["total"] == 31_242_544


def test_everything_but_fuse_and_the_head_is_taken_over(base: Model) -> None:
    theirs = base.network.state_dict()
    fresh = build_model(downstream_config(base.info.config, 1, 4)).state_dict()
    state = downstream_state(theirs, fresh, prompt=1)
    assert set(state) == set(fresh)
    torch.testing.assert_close(state["modal_map.prompts"], theirs["modal_map.prompts"][1:])
    torch.testing.assert_close(state["encoder.stems.1.weight"], theirs["encoder.stems.1.weight"])
    up = "decoder.levels.0.up.weight"
    assert theirs[up].shape[0] == 9 and state[up].shape[0] == 8
    torch.testing.assert_close(state[up], theirs[up][:8])
    for name in state:
        if name.endswith("head.weight"):
            assert state[name] is fresh[name]
        elif name not in ("modal_map.prompts", up):
            torch.testing.assert_close(state[name], theirs[name])


def test_without_the_prior_the_downstream_network_is_the_base_with_a_prior_of_zero(base: Model) -> None:
    config = downstream_config(base.info.config, 1, 3)
    network = build_model(config).eval()
    state = downstream_state(base.network.state_dict(), network.state_dict(), prompt=0)
    state.update({name: value for name, value in base.network.state_dict().items() if name.endswith("head.weight")})
    network.load_state_dict(state)
    image, zero = torch.randn(1, 1, 1, 32, 32), torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        features = base.network.encode(image, zero)
        assert features.priors is not None
        features.priors.zero_()
        torch.testing.assert_close(network(image, None, zero, 1)[0], base.network.decode(features, zero)[0])


def test_a_base_that_does_not_fit_is_refused_in_a_sentence(base: Model) -> None:
    info = ModelInfo(
        name="run",
        config=downstream_config(base.info.config, 1, 2),
        tasks=(plan("skin", "dermoscopy", ("lesion",)),),
        modalities=("dermoscopy",),
    )
    with pytest.raises(UsageError, match=r"no prompt for the modality 'dermoscopy'.*--modality: xray, ultrasound"):
        Downstream(base).describe(info)
    assert Downstream(base, "xray").describe(info).provenance["modal_prompt_of"] == "xray"


@pytest.mark.parametrize("shape", [(1, 1, 1, 32, 32), (1, 1, 4, 32, 32)])
def test_weights_start_as_long_as_fresh_ones_and_compute_the_same(base: Model, shape: tuple[int, ...]) -> None:
    network = build_model(downstream_config(base.info.config, 1, 3)).eval()
    fresh = {name: value.clone() for name, value in network.state_dict().items()}
    trained = {
        name: value * (5 if ".conv." in name or ".stems." in name else 1) + 0.1 * torch.randn_like(value)
        for name, value in fresh.items()
    }
    flat = shape[2] == 1
    image, zero = torch.randn(shape), torch.zeros(1, dtype=torch.long)
    scaled = rescale_like(fresh, trained, flat=flat)
    seen = (slice(None), slice(None), slice(1, 2) if flat else slice(None))
    name = "decoder.levels.1.blocks.0.conv.weight"
    assert trained[name][seen].norm() > 4 * fresh[name][seen].norm()
    torch.testing.assert_close(scaled[name][seen].norm(), fresh[name][seen].norm())
    outputs = []
    with torch.no_grad():
        for state in (trained, scaled):
            network.load_state_dict(state)
            outputs.append(network(image, None, zero, 2))
    for before, after in zip(*outputs, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


def test_a_stem_that_no_task_of_the_base_has_is_made_of_the_most_similar_task_s(base: Model) -> None:
    theirs = base.network.state_dict()
    state = with_stem(theirs, learnt=1, wanted=2)
    grey = torch.randn(1, 1, 1, 32, 32)
    weight, bias = state["encoder.stems.2.weight"], state["encoder.stems.2.bias"]
    expected = torch.conv3d(grey, theirs["encoder.stems.1.weight"], theirs["encoder.stems.1.bias"])
    torch.testing.assert_close(torch.conv3d(grey.expand(1, 2, 1, 32, 32), weight, bias), expected)
    assert with_stem(theirs, learnt=3, wanted=3) is theirs


def test_the_stem_is_one_that_knows_the_modality_even_with_another_number_of_channels(base: Model) -> None:
    xray, ultrasound = base.info.tasks
    colour = xray.model_copy(
        update={"channels": ("R", "G", "B"), "normalisation": ("zscore",) * 3, "figures": (None,) * 3}
    )
    other = replace(base, info=base.info.model_copy(update={"tasks": (colour, ultrasound)}))
    wanted = colour.model_copy(update={"task": "new", "modality": "ultrasound"})
    config = downstream_config(base.info.config, 3, wanted.class_count)
    info = ModelInfo(name="run", config=config, tasks=(wanted,), modalities=("ultrasound",))
    start = Downstream(other)
    described = start.describe(info)
    assert described.provenance["stem_of_channels"] == 1
    network = build_model(described.config)
    start.load(network, described)
    stem = network.state_dict()["encoder.stems.3.weight"]
    torch.testing.assert_close(stem[:, 0], stem[:, 2])
    theirs = base.network.state_dict()["encoder.stems.1.weight"][:, 0]
    torch.testing.assert_close(stem[:, 0] / stem[:, 0].norm(), theirs / theirs.norm())


@pytest.mark.parametrize(
    "changes",
    [
        {"task_prompts": "each"},
        {"modal_prompts": "one"},
        {"learned_prompts": False},
        {"modal_prior_at": "bottleneck"},
        {"task_prior_at": "decoder"},
    ],
)
def test_a_variant_of_the_paper_is_taken_over_but_for_its_task_prior(base: Model, changes: dict[str, str]) -> None:
    torch.manual_seed(1)
    config = base.info.config.model_copy(update=changes)
    variant = replace(base, info=base.info.model_copy(update={"config": config}), network=build_model(config).eval())
    plans = (plan("other", "ultrasound", ("mass",)),)
    run = Downstream(variant).describe(
        ModelInfo(name="run", config=config, tasks=plans, modalities=base.info.modalities)
    )
    network = build_model(run.universal_config).eval()
    Downstream(variant).load(network, run)
    assert network.fuse is None
    frozen = [name for name, own in network.named_parameters() if not own.requires_grad]
    expected = {"modal_prior_at": ["sefu.prompt"], "learned_prompts": []}
    assert frozen == expected.get(next(iter(changes)), ["modal_map.prompts"])
    image = torch.randn(1, 1, 1, 32, 32)
    with torch.no_grad():
        ours = network.encode(image, torch.tensor([0]))
        theirs = variant.network.encode(image, torch.tensor([1]))
    torch.testing.assert_close(ours.stages[-1], theirs.stages[-1], rtol=1e-3, atol=1e-3)
    if ours.context is not None:
        torch.testing.assert_close(ours.context, theirs.context, rtol=1e-3, atol=1e-3)
