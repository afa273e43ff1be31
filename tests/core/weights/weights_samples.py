"""Small models for the tests of weights/."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from meduniseg_core.model import ModelConfig, build_model
from meduniseg_core.preprocessing.plan import IntensityStatistics, TaskPlan
from meduniseg_core.weights import ModelInfo

FIGURES = IntensityStatistics(mean=40.0, std=20.0, percentile_00_5=-100.0, percentile_99_5=200.0)
CONFIG = ModelConfig(
    features=(2, 3, 4, 4, 4, 4),
    stems=(1, 3),
    classes=3,
    modalities=2,
    modal_prompt_length=8,
    tasks=2,
    task_prompt_channels=4,
    task_prompt_size=(2, 2, 2),
)


def small_info(name: str = "small", **changes: Any) -> ModelInfo:
    """A model of two tasks, one 3D CT and one 2D photograph."""
    tasks = (
        TaskPlan(
            task="organ",
            modality="ct",
            dimension=3,
            channels=("ct",),
            classes=("organ", "tumour"),
            spacing=(3.0, 1.5, 1.5),
            patch=(16, 32, 32),
            normalisation=("ct",),
            figures=(FIGURES,),
        ),
        TaskPlan(
            task="polyp",
            modality="endoscopy",
            dimension=2,
            channels=("R", "G", "B"),
            classes=("polyp",),
            longest_side=64,
            patch=(1, 64, 64),
            normalisation=("zscore",) * 3,
            figures=(None,) * 3,
        ),
    )
    values: dict[str, Any] = {
        "name": name,
        "config": CONFIG,
        "tasks": tasks,
        "modalities": ("ct", "endoscopy"),
        "provenance": {"seed": 7},
    }
    return ModelInfo(**(values | changes))


def small_state(seed: int = 0) -> dict[str, Tensor]:
    """Weights that fit `small_info`."""
    torch.manual_seed(seed)
    return dict(build_model(CONFIG).state_dict())
