"""Small inputs for the command's tests: volumes, photographs and a model with random weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from meduniseg_core.images import Geometry, Image, write_image, write_labels
from meduniseg_core.model import ModelConfig, build_model
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.weights import ModelInfo, save_model


def plan(task: str, modality: str, dimension: int, classes: tuple[str, ...]) -> TaskPlan:
    """A plan with small windows; volumes of one channel, colour images of three."""
    two = dimension == 2
    channels = ("red", "green", "blue") if two else ("image",)
    return TaskPlan(
        task=task,
        modality=modality,
        dimension=2 if two else 3,
        channels=channels,
        classes=classes,
        spacing=None if two else (2.0, 2.0, 2.0),
        longest_side=64 if two else None,
        patch=(1, 64, 64) if two else (16, 32, 32),
        normalisation=("zscore",) * len(channels),
        figures=(None,) * len(channels),
        crop_to_body=False,
    )


def save_tiny_model(path: Path, name: str = "tiny") -> Path:
    """Always the same random weights: 'organ' and 'vessel' of MR volumes, 'disc_cup' of photographs."""
    torch.manual_seed(0)
    config = ModelConfig(
        features=(4, 4, 4),
        strides=((1, 2, 2), (2, 2, 2)),
        classes=3,
        modalities=2,
        modal_prompt_length=8,
        tasks=3,
        task_prompt_channels=4,
        task_prompt_size=(2, 2, 2),
    )
    plans = (
        plan("organ", "mri", 3, ("liver",)),
        plan("vessel", "mri", 3, ("artery", "vein")),
        plan("disc_cup", "fundus", 2, ("disc", "cup")),
    )
    info = ModelInfo(name=name, config=config, tasks=plans, modalities=("mri", "fundus"))
    save_model(path, info, build_model(config).state_dict())
    return path


def write_volume(path: Path, shape: tuple[int, int, int] = (20, 36, 40), seed: int = 0) -> Path:
    """A volume of noise with 2 mm voxels."""
    array = np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)
    write_image(Image(array, Geometry(shape, (2.0, 2.0, 2.0))), path)
    return path


def write_scans(folder: Path, count: int = 3) -> Path:
    """Write scan0.nii.gz, scan1.nii.gz, ...; returns the folder."""
    folder.mkdir()
    for number in range(count):
        write_volume(folder / f"scan{number}.nii.gz", (8, 32, 32), number)
    return folder


def write_photograph(path: Path, height: int = 48, width: int = 64, seed: int = 0) -> Path:
    """A colour picture of noise."""
    array = np.random.default_rng(seed).integers(0, 255, size=(3, 1, height, width), dtype=np.uint8)
    image = Image(array, Geometry((1, height, width), (1.0, 1.0, 1.0)), physical=False, meta={"colour": "rgb"})
    write_image(image, path)
    return path


def write_dataset(folder: Path, cases: Sequence[str], shape: tuple[int, int, int] = (16, 32, 32)) -> Path:
    """A data set of MR volumes of noise with one block of class "blob" each."""
    for seed, case in enumerate(cases):
        write_volume(_parent_made(folder / "imagesTr" / f"{case}_0000.nii.gz"), shape, seed)
        array = np.zeros((1, *shape), np.uint8)
        array[0, 4:10, 8:20, 8:20] = 1
        labels = Image(array, Geometry(shape, (2.0, 2.0, 2.0)))
        write_labels(labels, _parent_made(folder / "labelsTr" / f"{case}.nii.gz"))
    description = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "blob": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps({**description, "numTraining": len(cases)}))
    return folder


def _parent_made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
