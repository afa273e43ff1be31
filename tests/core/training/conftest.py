"""Two small data sets in nnU-Net raw layout: bright discs in noise (2D PNG) and bright balls (3D NIfTI)."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as PillowImage

from meduniseg_core.training import NetworkSettings, PlanSettings, TrainingConfig


def blob(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Noise with one bright ellipsoid, and its mask."""
    centre = [rng.uniform(0.35, 0.65) * size for size in shape]
    radius = [rng.uniform(0.2, 0.3) * size for size in shape]
    grid = np.meshgrid(*[np.arange(size) for size in shape], indexing="ij")
    mask = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radius, strict=True)) < 1
    return rng.normal(60, 10, shape) + 80 * mask, mask


def describe(folder: Path, ending: str, modality: str, task: str, **extra: object) -> None:
    content = {
        "channel_names": {"0": modality},
        "labels": {"background": 0, "blob": 1},
        "file_ending": ending,
        "modality": modality,
        "task": task,
        **extra,
    }
    (folder / "dataset.json").write_text(json.dumps(content))


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    folder = tmp_path / "Dataset001_Discs"
    rng = np.random.default_rng(1)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for index in range(6):
        image, mask = blob((48, 56), rng)
        PillowImage.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / "imagesTr" / f"disc_{index}_0000.png")
        PillowImage.fromarray(mask.astype(np.uint8)).save(folder / "labelsTr" / f"disc_{index}.png")
    describe(folder, ".png", "ultrasound", "disc", patient_of={f"disc_{i}": f"p{i // 2}" for i in range(6)})
    return folder


@pytest.fixture
def balls(tmp_path: Path) -> Path:
    folder = tmp_path / "Dataset002_Balls"
    rng = np.random.default_rng(2)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for index in range(4):
        image, mask = blob((20, 36, 34), rng)
        for array, path in (
            (image.astype(np.float32), f"imagesTr/ball_{index}_0000.nii.gz"),
            (mask.astype(np.uint8), f"labelsTr/ball_{index}.nii.gz"),
        ):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 1.0, 1.0])), folder / path)
    describe(folder, ".nii.gz", "mri", "ball")
    return folder


@pytest.fixture
def config(tmp_path: Path, discs: Path, balls: Path) -> TrainingConfig:
    """A run of seconds."""
    return TrainingConfig(
        name="tiny",
        datasets=(discs, balls),
        output=tmp_path / "run",
        cache=tmp_path / "cache",
        network=NetworkSettings(features=(4, 6, 8, 8, 8, 8), task_prompt_channels=4, modal_prompt_length=16),
        plan_2d=PlanSettings(patch=(1, 32, 32), batch=3, longest_side=56),
        plan_3d=PlanSettings(patch=(16, 32, 32), batch=2),
        epochs=3,
        iterations_per_dataset=2,
        validation_every=2,
        validation_fraction=0.3,
        precision="fp32",
        device="cpu",
        select="last",
        seed=3,
    )
