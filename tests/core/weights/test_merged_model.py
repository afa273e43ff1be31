"""A pack folded into a model of its tasks alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from weights_samples import CONFIG, small_info, small_state

from meduniseg_core.errors import UsageError
from meduniseg_core.model import build_model
from meduniseg_core.model.lora import Refinement
from meduniseg_core.weights import Model, Pack, PackInfo, load_model, save_model
from meduniseg_core.weights.merged import merged_model


@pytest.fixture
def base(tmp_path: Path) -> Model:
    save_model(tmp_path / "base.safetensors", small_info("base"), small_state())
    return load_model(tmp_path / "base.safetensors")


@pytest.fixture
def pack(base: Model) -> Pack:
    torch.manual_seed(1)
    state = Refinement(build_model(CONFIG), 2).state_dict()
    info = PackInfo(
        name="better",
        base="base",
        base_sha256=base.sha256,
        config=base.info.config,
        tasks=("organ", "polyp"),
        rank=2,
        alpha=4.0,
        provenance={"seed": 3},
    )
    return Pack(info, {key: torch.randn_like(value) * 0.1 for key, value in state.items()}, "9" * 64)


def reference(base: Model, pack: Pack, image: torch.Tensor, task: str) -> torch.Tensor:
    """The logits of the base with the refinement beside it."""
    refinement = Refinement(base.network, 2, 4.0)
    refinement.load_state_dict(dict(pack.tensors))
    plan = base.info.plan_of(task)
    index = torch.tensor([base.info.task_index(task)])
    modality = torch.tensor([base.info.modality_index(plan.modality)])
    with torch.no_grad():
        logits = base.network(image, index, modality, 1)[0][:, : plan.class_count]
    refinement.active = False
    return logits


@pytest.mark.parametrize(("task", "shape"), [("organ", (1, 1, 16, 32, 32)), ("polyp", (1, 3, 1, 64, 64))])
def test_the_single_task_model_computes_what_base_and_pack_do(
    base: Model, pack: Pack, tmp_path: Path, task: str, shape: tuple[int, ...]
) -> None:
    image = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    expected = reference(base, pack, image, task)
    info, state = merged_model(base, pack, [task])
    save_model(tmp_path / "merged.safetensors", info, state)
    merged = load_model(tmp_path / "merged.safetensors")
    assert [plan.task for plan in merged.info.tasks] == [task]
    assert (merged.info.config.tasks, merged.info.config.modalities) == (1, 1)
    assert merged.info.config.stems == (shape[1],) and merged.info.config.classes == expected.shape[1]
    zero = torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        found = merged.network(image, zero, zero, 1)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert merged.info.provenance == {"seed": 3, "kind": "merged refinement", "pack_sha256": "9" * 64}


def test_by_default_it_has_all_tasks_of_the_pack(base: Model, pack: Pack) -> None:
    info, state = merged_model(base, pack)
    assert [plan.task for plan in info.tasks] == ["organ", "polyp"] and info.modalities == ("ct", "endoscopy")
    assert set(state) == set(base.network.state_dict())


def test_other_tasks_of_the_base_are_not_to_be_had(base: Model, pack: Pack) -> None:
    with pytest.raises(UsageError, match="does not refine the task 'brain'; it is for: organ, polyp"):
        merged_model(base, pack, ["brain"])


@pytest.mark.parametrize(
    "changes",
    [
        {"task_prompts": "each"},
        {"modal_prompts": "one"},
        {"learned_prompts": False},
        {"modal_prior_at": "bottleneck", "fuse_blocks": 2},
        {"task_prior_at": "decoder"},
    ],
)
def test_a_variant_of_the_paper_is_merged_as_well(tmp_path: Path, changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = CONFIG.model_copy(update=changes)
    save_model(tmp_path / "base.safetensors", small_info("base", config=config), build_model(config).state_dict())
    base = load_model(tmp_path / "base.safetensors")
    info = PackInfo(
        name="better", base="base", base_sha256=base.sha256, config=config, tasks=("polyp",), rank=2, alpha=4.0
    )
    state = Refinement(build_model(config), 2).state_dict()
    pack = Pack(info, {key: torch.randn_like(value) * 0.1 for key, value in state.items()}, "9" * 64)
    image = torch.randn(1, 3, 1, 64, 64)
    expected = reference(base, pack, image, "polyp")
    merged, weights = merged_model(load_model(tmp_path / "base.safetensors"), pack)
    save_model(tmp_path / "merged.safetensors", merged, weights)
    zero = torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        found = load_model(tmp_path / "merged.safetensors").network(image, zero, zero, 1)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
