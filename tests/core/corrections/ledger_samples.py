"""Small images and ledgers for the tests, and a process that accepts in a loop (``python ledger_samples.py ...``)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from meduniseg_core.corrections import Ledger
from meduniseg_core.images import Geometry, Image

SHAPE = (4, 10, 12)


def volume(seed: int, channels: int = 1, shape: tuple[int, int, int] = SHAPE, **geometry: object) -> Image:
    """Noise with 3 x 0.7 x 0.7 mm voxels, as int16."""
    array = np.random.default_rng(seed).integers(-500, 500, (channels, *shape)).astype(np.int16)
    return Image(array, Geometry(shape, (3.0, 0.7, 0.7), origin=(-11.3, 5.2, 100.1), **geometry))


def mask(image: Image, seed: int, highest: int = 1) -> Image:
    """Random labels up to ``highest`` on the image's grid."""
    array = np.random.default_rng(seed).integers(0, highest + 1, (1, *image.geometry.shape))
    return image.with_array(array.astype(np.uint8))


def begun(folder: Path, **changes: object) -> Ledger:
    """A new ledger of CT volumes with a liver."""
    values = {"task": "organ", "modality": "ct", "classes": ("liver",), "channels": ("CT",), **changes}
    return Ledger.create(folder, **values)


def accept_in_a_loop(folder: Path, first: int, count: int, again: int) -> None:
    """Accept ``count`` images, each ``again`` times with other labels; says the sequence number of each acceptance."""
    ledger = Ledger.open(folder)
    for turn in range(again):
        for seed in range(first, first + count):
            image = volume(seed)
            entry = ledger.accept(
                image, mask(image, seed + 1000 * turn), patient=f"P{seed // 2}", predicted=mask(image, seed + 7)
            )
            print(entry.sequence, entry.case, flush=True)


if __name__ == "__main__":
    accept_in_a_loop(Path(sys.argv[1]), *(int(word) for word in sys.argv[2:]))
