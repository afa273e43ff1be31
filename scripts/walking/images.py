"""The images of the walk: two eyes, two scans of one size that lie obliquely, a folder for the batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skimage.data import retina
from skimage.io import imsave

from meduniseg_core.images import Geometry, Image, write_image

_SHAPE = (24, 48, 40)
RADIUS_MM = 8.0
"""Of the bright ball in the middle of every scan."""


@dataclass(frozen=True)
class Images:
    """Where they lie; ``home`` is the program's folder."""

    home: Path

    @property
    def folder(self) -> Path:
        """Of the images."""
        return self.home / "images"

    @property
    def batch(self) -> Path:
        """The folder of many, one of which is broken."""
        return self.home / "many"

    @property
    def right_eye(self) -> Path:
        """A photograph."""
        return self.folder / "right_eye.png"

    @property
    def left_eye(self) -> Path:
        """Another one of the same size."""
        return self.folder / "left_eye.png"

    def scan(self, number: int) -> Path:
        """A volume with a bright ball in its middle, 2 mm between slices."""
        return self.folder / f"scan{number}.nii.gz"

    def write(self) -> None:
        """Make them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.batch.mkdir(exist_ok=True)
        eye = np.asarray(retina())[::2, ::2]
        imsave(self.right_eye, eye, check_contrast=False)
        imsave(self.left_eye, eye[:, ::-1], check_contrast=False)
        for number, tilt in enumerate((0.3, -0.2)):
            write_image(_scan(number, tilt), self.scan(number))
        for number in range(2):
            imsave(self.batch / f"eye{number}.png", np.rot90(eye[::2, ::2], number), check_contrast=False)
        (self.batch / "eye_half.png").write_bytes(self.right_eye.read_bytes()[:5000])


def _scan(number: int, tilt: float) -> Image:
    centre = [size / 2 for size in _SHAPE]
    offsets = np.indices(_SHAPE) - np.reshape(centre, (3, 1, 1, 1))
    ball = (offsets * np.reshape((2.0, 1.0, 1.0), (3, 1, 1, 1))) ** 2
    array = np.random.default_rng(number).normal(300, 40, _SHAPE) + 400 * (ball.sum(axis=0) < RADIUS_MM**2)
    c, s = np.cos(tilt), np.sin(tilt)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])[:, ::-1] * (2.0, 1.0, 1.0)
    affine[:3, 3] = (10 * number, -20, 5)
    return Image(array.astype(np.float32)[None], Geometry.from_affine(affine, _SHAPE))
