"""Cases of noise and a tiny predictor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from meduniseg_core.images import Geometry, Image, write_image
from meduniseg_core.inference import Predictor
from meduniseg_core.model import ModelConfig, build_model
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.weights import ModelInfo, load_model, save_model

SHAPE = (8, 16, 18)


def made_cases(folder: Path, count: int, *, first: int = 0, names: Sequence[str] = ()) -> None:
    """Write volumes of noise, scan0.nii.gz, scan1.nii.gz, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        array = np.random.default_rng(first + number).normal(size=(1, *SHAPE)).astype(np.float32) * (1 + number)
        name = names[number] if names else f"scan{number}"
        write_image(Image(array, Geometry(SHAPE, (2.0, 2.0, 2.0))), folder / f"{name}.nii.gz")


def tiny_predictor(folder: Path) -> Predictor:
    """A network with random weights: 'vessel' and 'organ' of MR volumes."""
    torch.manual_seed(0)
    config = ModelConfig(
        features=(4, 4, 4),
        strides=((1, 2, 2), (2, 2, 2)),
        classes=3,
        modalities=1,
        modal_prompt_length=8,
        tasks=2,
        task_prompt_channels=4,
        task_prompt_size=(2, 2, 2),
    )
    plans = tuple(
        TaskPlan(
            task=task,
            modality="mri",
            dimension=3,
            channels=("MR",),
            classes=classes,
            spacing=(2.0, 2.0, 2.0),
            patch=(8, 16, 16),
            normalisation=("zscore",),
            figures=(None,),
            crop_to_body=False,
        )
        for task, classes in (("vessel", ("artery", "vein")), ("organ", ("liver",)))
    )
    info = ModelInfo(name="tiny", config=config, tasks=plans, modalities=("mri",))
    path = folder / "tiny.safetensors"
    save_model(path, info, build_model(config).state_dict())
    return Predictor(load_model(str(path)), "cpu", "fp32")
