"""Damage of every kind, in every format: a file is read, or refused by a BadInputError that names it - nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Geometry, Image, read_image, read_labels, write_image

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".bmp", ".jpg", ".tif", ".npy")


def healthy(path: Path) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (1, 1, 16, 16), dtype=np.uint8)
    if path.suffix == ".jpg":
        PillowImage.fromarray(pixels[0, 0]).save(path)
    else:
        write_image(Image(pixels, Geometry((1, 16, 16), (2, 1, 1))), path)
    return path.read_bytes()


@pytest.mark.parametrize("ending", ENDINGS)
def test_flipped_bytes_and_cuts_never_raise_anything_else(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{ending}"
    raw = healthy(path)
    random = np.random.default_rng(len(ending))
    refused = 0
    for trial in range(150):
        damaged = bytearray(raw)
        # mostly in the header, where a byte means something
        reach = len(raw) if trial % 3 == 0 else min(len(raw), 400)
        for place in random.integers(0, reach, 1 + trial % 4):
            damaged[place] = int(random.integers(0, 256))
        if trial % 5 == 0:
            damaged = damaged[: int(random.integers(0, len(raw)))]
        path.write_bytes(damaged)
        for read in (read_image, read_labels):
            try:
                image = read(path)
            except BadInputError as error:
                refused += 1
                assert "x." in str(error)
            else:
                assert np.isfinite(image.geometry.affine).all()
                assert image.array.nbytes <= 2100 * len(raw)
    assert refused > 20
