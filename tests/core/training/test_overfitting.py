"""Every kind of network learns two real images of two tasks by heart: universal ones a volume and a picture at once,
those for one task each of two volumes or pictures."""

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
from meduniseg_core.model import ModelConfig, UniversalNetwork, build_model
from meduniseg_core.training.losses import deep_supervision_loss, deep_supervision_weights
from tests.small_peers import FORMS, SIZES, small_peer

pytestmark = [pytest.mark.real, pytest.mark.slow]

STEPS, MEASURED_EVERY, ENOUGH = 200, 25, 0.95
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

# by dimension: data sets and their numbers of classes
ONE_TASK = {
    2: (("Dataset104_SkinLesion", 2), ("Dataset115_FetalHead", 2)),
    3: (("Dataset101_Hippocampus", 3), ("Dataset113_LeftAtrium", 2)),
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
    assert_learned(name, ModelConfig(**{**SMALL, **NETWORKS[name]}), tasks)


@pytest.mark.parametrize("image", [0, 1])
@pytest.mark.parametrize(("name", "dimension"), FORMS)
def test_networks_for_one_task_learn_either_of_two_by_heart(
    shared_data: Path, name: str, dimension: int, image: int
) -> None:
    dataset, classes = ONE_TASK[dimension][image]
    folder, size = shared_data / dataset, (16, 32, 32) if dimension == 3 else (1, 64, 64)
    task = (*case(folder, first_case(folder), size), classes)
    wider = 2 if name == "u-mamba-bot" else 4  # its recurrence is slow on CPUs
    features = [wider * width for width in SIZES[name]["features"]]
    config = small_peer(name, dimension=dimension, features=features, stems=(task[0].shape[1],), classes=classes)
    assert_learned(f"{name} {dimension}D", config, [task])


def assert_learned(name: str, config: ModelConfig, tasks: list[tuple[Tensor, Tensor, int]]) -> None:
    """Train on (image, labels, number of classes) of every task until the Dice of all classes is above 0.95."""
    torch.manual_seed(0)
    network = build_model(config)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, STEPS)
    weights = deep_supervision_weights(network.levels)
    scores: list[float] = []
    for step in range(1, STEPS + 1):
        for index, (image, labels, classes) in enumerate(tasks):
            which = torch.tensor([index])
            levels = network(image, which, which)
            loss = deep_supervision_loss(levels, labels, classes, weights=weights, binary=network.binary_classes)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
            optimizer.step()
        schedule.step()
        if step % MEASURED_EVERY == 0:
            scores = dice_of(network, tasks)
            print(f"\n{name}, {step} steps: Dice {', '.join(f'{score:.3f}' for score in scores)}", end="")
            if min(scores) > ENOUGH:
                break
    assert min(scores) > ENOUGH


def dice_of(network: UniversalNetwork, tasks: list[tuple[Tensor, Tensor, int]]) -> list[float]:
    """The Dice of all foreground classes of all tasks."""
    scores = []
    network.eval()
    with torch.inference_mode():
        for index, (image, labels, classes) in enumerate(tasks):
            which = torch.tensor([index])
            found = network(image, which, which, levels=1)[0][:, :classes].argmax(1).numpy()
            scores += [dice(found, labels.numpy(), label) for label in range(1, classes)]
    network.train()
    return scores


def first_case(folder: Path) -> str:
    return sorted(path.name.split(".")[0] for path in (folder / "labelsTr").iterdir())[0]
