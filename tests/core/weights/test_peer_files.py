"""Other papers' networks for one task in model files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from weights_samples import small_info

from meduniseg_core.model import UniversalNetwork, build_model
from meduniseg_core.weights import ModelInfo, load_model, save_model
from tests.small_peers import FORMS, small_peer


@pytest.mark.parametrize(("name", "dimension"), FORMS)
def test_a_file_gives_its_network_s_logits_bit_for_bit(tmp_path: Path, name: str, dimension: int) -> None:
    plan = next(plan for plan in small_info().tasks if plan.dimension == dimension)
    config = small_peer(name, dimension=dimension, stems=(len(plan.channels),))
    torch.manual_seed(0)
    network = build_model(config).eval()
    path = tmp_path / "peer.safetensors"
    save_model(path, ModelInfo(name="peer", config=config, tasks=(plan,)), network.state_dict())
    found = load_model(path)
    assert found.info.config == config
    assert isinstance(found.network, UniversalNetwork)
    image = torch.randn(1, len(plan.channels), 1 if dimension == 2 else 32, 64, 32)
    with torch.inference_mode():
        for ours, expected in zip(found.network(image), network(image), strict=True):
            assert torch.equal(ours, expected)
