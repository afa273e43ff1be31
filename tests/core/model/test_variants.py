"""The paper's variants (docs/spec.md section 10): counts, mixed batches, what each is told, files without them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from model_variants import VARIANTS, tiny
from pydantic import ValidationError
from torch import Tensor

from meduniseg_core.model import MedUniSeg, ModelConfig
from meduniseg_core.model.config import PriorDesign
from meduniseg_core.model.lora import Refinement, merge_lora


def ids(*values: int) -> Tensor:
    return torch.tensor(values)


def network_of(changes: dict[str, Any]) -> MedUniSeg:
    torch.manual_seed(0)
    return MedUniSeg(tiny(changes)).double().eval()


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("size", [(16, 32, 32), (1, 48, 32)])
def test_a_mixed_batch_gives_per_sample_what_single_batches_give(name: str, size: tuple[int, int, int]) -> None:
    network = network_of(VARIANTS[name])
    samples = [torch.randn(channels, *size, dtype=torch.float64) for channels in (3, 1, 4)]
    task, modality = ids(2, 0, 1), ids(3, 0, 1)
    with torch.inference_mode():
        together = network(samples, task, modality)
        features = network.decode_features(network.encode(samples, modality), task)
        for index, sample in enumerate(samples):
            alone = network(sample[None], task[index : index + 1], modality[index : index + 1])
            for mixed, single in zip(together, alone, strict=True):
                torch.testing.assert_close(mixed[index], single[0], rtol=0, atol=1e-9)
    head = network.decoder.levels[-1].get_submodule("head")
    weight = head.weight
    assert isinstance(weight, Tensor)
    logits = torch.einsum("kc,bcdhw->bkdhw", weight.flatten(1), features)
    torch.testing.assert_close(logits, together[0], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_task_changes_the_output_and_the_modality_where_it_is_told(name: str) -> None:
    network, image = network_of(VARIANTS[name]), torch.randn(1, 1, 1, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        one, other = network(image, ids(0), ids(0))[0], network(image, ids(1), ids(0))[0]
        assert not torch.allclose(one, other)
        same = torch.allclose(one, network(image, ids(0), ids(2))[0])
    assert same == (name in ("no modal prior", "universal prompts", "fixed prompts", "all at once"))


@pytest.mark.parametrize("name", ["multiple prompts", "bottleneck prompts", "meduniseg-t"])
def test_the_2d_path_is_the_same_function_as_a_volume_of_depth_1(name: str) -> None:
    network, image = network_of(VARIANTS[name]), torch.randn(2, 1, 1, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        flat = network(image, ids(0, 1), ids(1, 3))[0]
        volume = image
        if network.modal_map is not None:
            volume = image + network.modal_map(ids(1, 3), (32, 32)).unsqueeze(2)
        stages = network.encoder(volume)
        modal = None if network.sefu is None else network.sefu(stages[-1], ids(1, 3))
        assert network.fuse is not None
        if name == "multiple prompts":
            prior = network.fuse(stages[-1], ids(0, 1))
        else:
            prior = network.fuse(stages[-1])[ids(0, 1), ids(0, 1)].unsqueeze(1)
        late = prior if name == "meduniseg-t" else None
        inside = [stages[-1], modal, None if late is not None else prior]
        bottleneck = torch.cat([one for one in inside if one is not None], dim=1)
        expected = network.decoder(bottleneck, stages[:-1], 1, late)[0]
    torch.testing.assert_close(flat, expected, rtol=0, atol=1e-9)


def test_fixed_prompts_are_neither_learned_nor_stored() -> None:
    network = network_of(VARIANTS["fixed prompts"])
    assert not [name for name in network.state_dict() if "prompt" in name]
    logits = network(torch.randn(1, 1, 1, 32, 32, dtype=torch.float64), ids(0), ids(0))[0]
    logits.square().mean().backward()
    assert network.fuse is not None
    first = network.fuse.blocks[0].conv.weight
    assert first.grad is not None and float(first.grad[:, :4].abs().max()) == 0 < float(first.grad[:, 4:].abs().max())


def test_every_parameter_of_every_variant_learns() -> None:
    for name, changes in VARIANTS.items():
        network = network_of({**changes, "stems": (1,)}).train()
        images = torch.randn(2, 1, 16, 32, 32, dtype=torch.float64)
        levels = network(images, ids(0, 2), ids(1, 3))
        sum(level.square().mean() for level in levels).backward()
        assert not [weight for weight, own in network.named_parameters() if own.grad is None], name


def test_a_default_network_is_described_as_before_the_variants() -> None:
    assert not set(PriorDesign.model_fields) & set(tiny({}).model_dump(mode="json"))
    for changes in VARIANTS.values():
        config = tiny(changes)
        assert ModelConfig.model_validate_json(config.model_dump_json()) == config
    assert tiny({"fuse_blocks": 1}).model_dump()["fuse_blocks"] == 1


def test_prompts_that_stay_zero_cannot_be_the_tasks_own() -> None:
    with pytest.raises(ValidationError, match="stay zero"):
        tiny({"task_prompts": "each", "learned_prompts": False})


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_can_be_refined_and_the_refinement_merged(name: str) -> None:
    network, image = network_of(VARIANTS[name]), torch.randn(1, 1, 1, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        before = network(image, ids(1), ids(2))[0]
    refinement = Refinement(network, rank=2).double()
    with torch.no_grad():
        torch.testing.assert_close(network(image, ids(1), ids(2))[0], before, rtol=0, atol=1e-9)
        for own in refinement.parameters():
            own.add_(0.1)
        changed = network(image, ids(1), ids(2))[0]
        assert not torch.allclose(changed, before)
        refinement.active = False
        torch.testing.assert_close(network(image, ids(1), ids(2))[0], before, rtol=0, atol=0)
        refinement.active = True
        merge_lora(network)
        torch.testing.assert_close(network(image, ids(1), ids(2))[0], changed, rtol=0, atol=1e-9)
