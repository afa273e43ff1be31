"""Images for models of nnU-Net, the same here and in the peer's environment: drawn from a seed, not kept."""

from __future__ import annotations

from typing import Any

import numpy as np

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
SAGITTAL = ((0.0, 0.0, -1.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0))
CORONAL = ((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0))
"""Columns are the directions (LPS) of the file's axes x, y, z: as ITK has them."""

CASES: dict[str, dict[str, Any]] = {
    "thick": {"shape": (14, 52, 46), "spacing": (4.2, 0.9, 1.0), "directions": AXIAL},
    "fine": {"shape": (40, 30, 44), "spacing": (1.3, 1.7, 0.8), "directions": SAGITTAL},
}
"""Shapes and spacings (mm) along (D, H, W): the array's axes, which are the file's z, y, x."""


def sample_image(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    *,
    channels: int = 1,
    ct: bool = False,
    seed: int = 0,
) -> np.ndarray:
    """An int16 array (C, D, H, W): nested balls in a body; around it zeros, or air for CT."""
    return sample_case(shape, spacing, channels=channels, ct=ct, seed=seed)[0]


def sample_case(
    shape: tuple[int, ...], spacing: tuple[float, ...], *, channels: int = 1, ct: bool = False, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`sample_image`, and its labels (D, H, W): 1 in the outer ball, 2 in the inner one."""
    random = np.random.RandomState(seed)
    places = np.meshgrid(
        *((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij"
    )
    reach = [n * s / 2 for n, s in zip(shape, spacing, strict=True)]
    body = sum((place / (0.85 * r)) ** 2 for place, r in zip(places, reach, strict=True)) < 1
    centre = [random.uniform(-0.2, 0.2) * r for r in reach]
    distance = np.sqrt(sum((place - c) ** 2 for place, c in zip(places, centre, strict=True)))
    radius = 0.55 * min(reach)
    image = np.zeros((channels, *shape), np.float64)
    for index in range(channels):
        inside = 300.0 + 60 * index + 120 * (distance < radius) + (150 - 80 * index) * (distance < radius / 2)
        inside += 40 * random.standard_normal(shape)
        image[index] = np.where(body, np.maximum(inside, 20), 0)
    if ct:
        image = np.where(body, image - 300, -1000 + 10 * random.standard_normal(shape))
    labels = (distance < radius).astype(np.int16) + (distance < radius / 2)
    return np.rint(image).astype(np.int16), labels


def sample_window(shape: tuple[int, ...], channels: int) -> np.ndarray:
    """Random numbers (1, C, *shape), float32: what a network is asked about."""
    return np.random.RandomState(5).standard_normal((1, channels, *shape)).astype(np.float32)
