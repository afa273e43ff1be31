"""A base with random weights, and a data set of discs, for tests of fine-tuning and refinement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage

from meduniseg_core.model import ModelConfig, build_model
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.weights import Model, ModelInfo, load_model, save_model


def plan(task: str, modality: str, classes: tuple[str, ...]) -> TaskPlan:
    """Pictures of one channel, 32 pixels long."""
    return TaskPlan(
        task=task,
        modality=modality,
        dimension=2,
        channels=("grey",),
        classes=classes,
        longest_side=32,
        patch=(1, 32, 32),
        batch=2,
        normalisation=("zscore",),
        figures=(None,),
        mirror_axes=(1, 2),
    )


def save_base(folder: Path, *tasks: TaskPlan) -> Model:
    """Always the same weights, for x-rays and ultrasound."""
    torch.manual_seed(0)
    config = ModelConfig(
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
    info = ModelInfo(name="base", config=config, tasks=tasks, modalities=("xray", "ultrasound"))
    save_model(folder / "base.safetensors", info, build_model(config).state_dict())
    return load_model(folder / "base.safetensors")


def write_discs(folder: Path) -> Path:
    """Six pictures of a bright disc in noise and their labels; dataset.json is left to the caller."""
    rng = np.random.default_rng(1)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    y, x = np.mgrid[:40, :40]
    for index in range(6):
        mask = (y - rng.uniform(14, 26)) ** 2 + (x - rng.uniform(14, 26)) ** 2 < rng.uniform(6, 10) ** 2
        image = rng.normal(60, 10, mask.shape) + 80 * mask
        PillowImage.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / "imagesTr" / f"disc_{index}_0000.png")
        PillowImage.fromarray(mask.astype(np.uint8)).save(folder / "labelsTr" / f"disc_{index}.png")
    return folder
