"""Every kind of network learns two real images of two tasks, a volume and a picture, by heart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from meduniseg_core.evaluation import dice
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.model import ModelConfig, build_model
from meduniseg_core.training.losses import deep_supervision_loss, deep_supervision_weights

pytestmark = [pytest.mark.real, pytest.mark.slow]

STEPS = 100
SMALL: dict[str, Any] = {
    "features": (8, 16, 32, 32),
    "strides": ((1, 2, 2), (2, 2, 2), (2, 2, 2)),
    "stems": (1, 3),
    "classes": 3,
    "tasks": 2,
    "modalities": 2,
    "task_prompt_channels": 16,
    "modal_prompt_length": 64,
}
NETWORKS: dict[str, dict[str, Any]] = {
    "meduniseg": {},
    "uniseg": {"modalities": 0},
    "multiple prompts": {"task_prompts": "each"},
    "universal prompts": {"modal_prompts": "one"},
    "fixed prompts": {"learned_prompts": False},
    "bottleneck prompts": {"modal_prior_at": "bottleneck"},
    "meduniseg-t": {"task_prior_at": "decoder"},
    "dodnet": {"method": "dodnet", "modalities": 0},
    "universal-model": {"method": "universal-model", "modalities": 0},
    "ccq": {"method": "ccq", "modalities": 0},
    "hermes": {"method": "hermes"},
}


def case(folder: Path, name: str, size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """A training case on a small grid, standardised: (1, C, D, H, W) and (1, D, H, W)."""
    ending = next((folder / "labelsTr").glob(f"{name}.*")).name.removeprefix(name)
    image = torch.as_tensor(np.asarray(read_image(folder / f"imagesTr/{name}_0000{ending}").array, dtype=np.float32))
    labels = torch.as_tensor(np.asarray(read_labels(folder / f"labelsTr/{name}{ending}").array, dtype=np.float32))
    image = F.interpolate(image[None], size=size, mode="trilinear", align_corners=False)
    labels = F.interpolate(labels[None], size=size, mode="nearest")[0].long()
    return (image - image.mean()) / image.std(), labels


@pytest.mark.parametrize("name", NETWORKS)
def test_two_real_images_of_two_tasks_are_learned_by_heart(shared_data: Path, name: str) -> None:
    brain, skin = shared_data / "Dataset101_Hippocampus", shared_data / "Dataset104_SkinLesion"
    tasks = [(*case(brain, first_case(brain), (16, 32, 24)), 3), (*case(skin, first_case(skin), (1, 64, 64)), 2)]
    torch.manual_seed(0)
    network = build_model(ModelConfig(**{**SMALL, **NETWORKS[name]}))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, STEPS)
    weights = deep_supervision_weights(network.levels)
    for _ in range(STEPS):
        for index, (image, labels, classes) in enumerate(tasks):
            which = torch.tensor([index])
            levels = network(image, which, which)
            loss = deep_supervision_loss(levels, labels, classes, weights=weights, binary=network.binary_classes)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
            optimizer.step()
        schedule.step()
    scores = []
    network.eval()
    with torch.inference_mode():
        for index, (image, labels, classes) in enumerate(tasks):
            which = torch.tensor([index])
            found = network(image, which, which, levels=1)[0][:, :classes].argmax(1).numpy()
            scores += [dice(found, labels.numpy(), label) for label in range(1, classes)]
    print(f"\n{name}: Dice {', '.join(f'{score:.3f}' for score in scores)}")
    assert min(scores) > 0.95


def first_case(folder: Path) -> str:
    return sorted(path.name.split(".")[0] for path in (folder / "labelsTr").iterdir())[0]
