"""MedUniSeg*: what is added, what learns, what stays bit for bit."""

from __future__ import annotations

import pytest
import torch

from meduniseg_core.model import ARCHITECTURES, MedUniSeg, ModelConfig, build_model
from meduniseg_core.model.lora import LowRank, Refinement, added_parameters, merge_lora

SMALL = ModelConfig(
    features=(4, 8, 8),
    strides=((1, 2, 2), (2, 2, 2)),
    stems=(1, 3),
    classes=3,
    modalities=2,
    modal_prompt_length=8,
    tasks=2,
    task_prompt_channels=4,
    task_prompt_size=(2, 2, 2),
)


@pytest.fixture
def network() -> MedUniSeg:
    torch.manual_seed(0)
    return build_model(SMALL)


def run(network: MedUniSeg, flat: bool, task: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    image = torch.randn(2, 1, 1 if flat else 8, 16, 16, generator=generator)
    return network(image, torch.full((2,), task), torch.zeros(2, dtype=torch.long))


def train_a_little(network: MedUniSeg, refinement: Refinement, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(refinement.parameters(), lr=0.5)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(level.square().mean() for flat in (True, False) for level in run(network, flat)).backward()
        optimizer.step()


def test_the_paper_s_network_gets_6_8_million_parameters() -> None:
    with torch.device("meta"):
        counts = added_parameters(build_model(ARCHITECTURES["meduniseg"]))
    assert sum(counts.values()) == pytest.approx(6.8e6, abs=0.1e6), counts
    assert counts["transposed convolutions"] == sum(
        inputs * outputs * kernel
        for inputs, outputs, kernel in (
            (321, 320, 8), (320, 256, 8), (256, 128, 8), (128, 64, 8), (64, 32, 4)
        )
    )  # fmt: skip
    assert counts["heads"] == 4 * (320 + 256 + 128 + 64 + 32)


@pytest.mark.parametrize("flat", [False, True])
def test_before_the_first_step_and_switched_off_it_is_the_network_bit_for_bit(network: MedUniSeg, flat: bool) -> None:
    before = [level.clone() for level in run(network, flat, task=1)]
    refinement = Refinement(network, rank=2)
    for ours, theirs in zip(run(network, flat, task=1), before, strict=True):
        assert torch.equal(ours, theirs)
    train_a_little(network, refinement)
    assert not torch.equal(run(network, flat, task=1)[0], before[0])
    refinement.active = False
    for ours, theirs in zip(run(network, flat, task=1), before, strict=True):
        assert torch.equal(ours, theirs)
    refinement.active = True
    assert not torch.equal(run(network, flat, task=1)[0], before[0])


def test_gradients_reach_the_new_modules_and_nothing_else(network: MedUniSeg) -> None:
    own = {name: value.clone() for name, value in network.state_dict().items()}
    refinement = Refinement(network, rank=2)
    new = set(refinement.parameters())
    train_a_little(network, refinement, steps=2)  # in the first, a gets no gradient because b is zero
    frozen = {
        name.replace("parametrizations.weight.original", "weight"): parameter
        for name, parameter in network.named_parameters()
        if parameter not in new
    }
    assert set(frozen) == set(own)
    for name, parameter in frozen.items():
        assert parameter.grad is None and not parameter.requires_grad, name
        assert torch.equal(parameter, own[name]), name
    unused = "encoder/stems/3"  # no sample has three channels
    for name, parameter in refinement.named_parameters():
        assert (parameter.grad is not None) == (unused not in name), name


def test_every_convolution_is_updated_and_up_convolutions_and_heads_get_twins(network: MedUniSeg) -> None:
    parts = {name.replace("/", "."): part for name, part in Refinement(network, rank=2).parts.items()}
    low_rank = {name for name, part in parts.items() if isinstance(part, LowRank)}
    assert {"encoder.stems.1", "encoder.stems.3", "fuse.blocks.0.conv", "fuse.blocks.2.conv"} <= low_rank
    assert {name for name in parts if name not in low_rank} == {
        "decoder.levels.0.up", "decoder.levels.1.up", "decoder.levels.0.head", "decoder.levels.1.head"
    }  # fmt: skip


@pytest.mark.parametrize("flat", [False, True])
def test_merged_into_the_weights_it_computes_the_same(network: MedUniSeg, flat: bool) -> None:
    refinement = Refinement(network, rank=2)
    train_a_little(network, refinement)
    with torch.no_grad():
        expected = run(network, flat)
        merge_lora(network)
        for ours, theirs in zip(run(network, flat), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert set(network.state_dict()) == set(build_model(SMALL).state_dict())


def test_a_pack_s_names_are_those_of_the_files_that_exist(network: MedUniSeg) -> None:
    names = set(Refinement(network, rank=2).state_dict())
    assert {"parts.encoder/stems/1.a", "parts.encoder/stems/1.b", "parts.decoder/levels/0/up.weight"} <= names
    assert not any("parametrizations" in name for name in names)


def test_a_refinement_s_state_goes_to_a_fresh_one(network: MedUniSeg) -> None:
    refinement = Refinement(network, rank=2)
    train_a_little(network, refinement)
    with torch.no_grad():
        expected = run(network, False)[0]
    torch.manual_seed(0)
    other = build_model(SMALL)
    fresh = Refinement(other, rank=2)
    fresh.load_state_dict(refinement.state_dict())
    with torch.no_grad():
        assert torch.equal(run(other, False)[0], expected)
