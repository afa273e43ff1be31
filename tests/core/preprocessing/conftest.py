"""Plans, images and data sets that the preprocessing tests share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meduniseg_core.images import Geometry, Image, write_image, write_labels
from meduniseg_core.preprocessing import TaskPlan


def plan_with(**changes: Any) -> TaskPlan:
    """A small valid 3D plan with ``changes``."""
    values: dict[str, Any] = {
        "task": "organ",
        "modality": "mri",
        "dimension": 3,
        "channels": ("MRI",),
        "classes": ("organ",),
        "spacing": (1.0, 1.0, 1.0),
        "patch": (16, 32, 32),
        "normalisation": ("none",),
        "figures": (None,),
    }
    if "longest_side" in changes:
        values["spacing"] = None
    return TaskPlan.model_validate({**values, **changes})


def volume_with(array: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), **geometry: Any) -> Image:
    """An image from an array (D, H, W) or (C, D, H, W)."""
    channels = array[None] if array.ndim == 3 else array
    return Image(channels, Geometry(channels.shape[1:], spacing, **geometry))


def photograph_with(array: np.ndarray) -> Image:
    """A photograph from an array (H, W) or (C, H, W)."""
    channels = array[None] if array.ndim == 2 else array
    colour = "rgb" if channels.shape[0] == 3 else "grey"
    shape = (1, channels.shape[1], channels.shape[2])
    return Image(channels[:, None], Geometry(shape, (1.0, 1.0, 1.0)), physical=False, meta={"colour": colour})


@pytest.fixture
def make_plan_of() -> Callable[..., TaskPlan]:
    return plan_with


@pytest.fixture
def make_volume() -> Callable[..., Image]:
    return volume_with


@pytest.fixture
def make_photograph() -> Callable[..., Image]:
    return photograph_with


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Writes a data-set folder from ``{case: ([channel images], labels or None)}``."""

    def make(
        cases: dict[str, tuple[list[Image], Image | None]],
        *,
        name: str = "Dataset900_Liver_Test",
        ending: str = ".nii.gz",
        split: str = "Tr",
        **description: Any,
    ) -> Path:
        folder = tmp_path / name
        content: dict[str, Any] = {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "liver": 1, "tumour": 2},
            "file_ending": ending,
            "numTraining": len(cases),
            **description,
        }
        (folder / f"images{split}").mkdir(parents=True, exist_ok=True)
        (folder / f"labels{split}").mkdir(parents=True, exist_ok=True)
        (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
        for case, (images, labels) in cases.items():
            for channel, image in enumerate(images):
                write_image(image, folder / f"images{split}" / f"{case}_{channel:04d}{ending}")
            if labels is not None:
                write_labels(labels, folder / f"labels{split}" / f"{case}{ending}")
        return folder

    return make


@pytest.fixture
def ct_case() -> Callable[..., tuple[list[Image], Image]]:
    """A CT of a body in air with a liver and a tumour in it, and its labels."""

    def make(seed: int = 0, shape: tuple[int, int, int] = (12, 40, 44)) -> tuple[list[Image], Image]:
        generator = np.random.default_rng(seed)
        array = np.full(shape, -1000, dtype=np.int16)
        body = (slice(None), slice(8, 32), slice(6, 38))
        array[body] = generator.normal(40, 10, array[body].shape).astype(np.int16)
        labels = np.zeros(shape, dtype=np.uint8)
        labels[3:9, 12:22, 10:20] = 1
        labels[5:7, 15:18, 13:17] = 2
        array[labels > 0] += 60
        return [volume_with(array, (3.0, 1.0, 1.0))], volume_with(labels, (3.0, 1.0, 1.0))

    return make
