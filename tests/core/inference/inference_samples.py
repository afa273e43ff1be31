"""Tiny random networks and images for the tests of inference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from meduniseg_core.images import Geometry, Image
from meduniseg_core.model import ModelConfig, build_model
from meduniseg_core.preprocessing import IntensityStatistics, TaskPlan
from meduniseg_core.weights import Model, ModelInfo

FIGURES = IntensityStatistics(mean=0.0, std=200.0, percentile_00_5=-800.0, percentile_99_5=800.0)


def volume_plan(task: str = "organ", **changes: object) -> TaskPlan:
    """A 3D CT task with three classes on 2 mm voxels."""
    fields: dict[str, object] = {
        "task": task,
        "modality": "ct",
        "dimension": 3,
        "channels": ("CT",),
        "classes": ("one", "two"),
        "spacing": (2.0, 2.0, 2.0),
        "patch": (16, 64, 64),
        "normalisation": ("ct",),
        "figures": (FIGURES,),
        "mirror_axes": (0, 1, 2),
        "crop_to_body": False,
    }
    return TaskPlan.model_validate({**fields, **changes})


def picture_plan(task: str = "spot", **changes: object) -> TaskPlan:
    """A 2D colour task, scaled to 64 pixels."""
    fields: dict[str, object] = {
        "task": task,
        "modality": "fundus",
        "dimension": 2,
        "channels": ("R", "G", "B"),
        "classes": ("spot",),
        "longest_side": 64,
        "patch": (1, 64, 64),
        "normalisation": ("zscore", "zscore", "zscore"),
        "figures": (None, None, None),
        "mirror_axes": (1, 2),
    }
    return TaskPlan.model_validate({**fields, **changes})


def tiny_model(plans: Sequence[TaskPlan], seed: int = 0, **changes: object) -> Model:
    """A random network for ``plans``, whose logits differ clearly between voxels."""
    torch.manual_seed(seed)
    modalities = tuple(dict.fromkeys(plan.modality for plan in plans))
    settings: dict[str, object] = {
        "features": (4, 8, 8, 8, 8, 8),
        "classes": max(plan.class_count for plan in plans),
        "modalities": len(modalities),
        "modal_prompt_length": 8,
        "tasks": len(plans),
        "task_prompt_channels": 4,
    }
    config = ModelConfig.model_validate({**settings, **changes})
    info = ModelInfo(name="tiny", config=config, tasks=tuple(plans), modalities=modalities)
    return Model(info=info, network=build_model(config).eval(), sha256=f"{seed:064}")


def volume(shape: tuple[int, int, int], spacing: float = 2.0, seed: int = 0, **changes: object) -> Image:
    """A smooth random CT without air."""
    generator = np.random.default_rng(seed)
    coarse = torch.from_numpy(generator.normal(0, 300, (1, 1, 4, 5, 5)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear")[0].numpy()
    noise = generator.normal(0, 40, shape).astype(np.float32)
    geometry = Geometry(shape, (spacing, spacing, spacing), origin=(-10.0, 5.0, 30.0))
    array = np.clip(smooth + noise, -700, 700).astype(np.int16)
    return Image(array, geometry, **changes)  # type: ignore[arg-type]


def picture(height: int, width: int, seed: int = 0) -> Image:
    """A random colour photograph."""
    generator = np.random.default_rng(seed)
    array = generator.integers(1, 255, (3, 1, height, width), dtype=np.uint8)
    geometry = Geometry((1, height, width), (1.0, 1.0, 1.0))
    return Image(array, geometry, physical=False, meta={"colour": "rgb"})
