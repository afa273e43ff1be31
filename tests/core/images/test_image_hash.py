"""Which image it is: by its voxels and their place, however it is stored and whatever lies beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from dicom_making import write_stack

from meduniseg_core.images import Geometry, Image, read_image, write_image


def volume(seed: int = 0, channels: int = 1) -> Image:
    array = np.random.default_rng(seed).integers(-900, 900, size=(channels, 4, 5, 6), dtype=np.int16)
    return Image(array, Geometry((4, 5, 6), (2.0, 1.0, 1.5), (3.0, -4.0, 5.5)))


def test_views_and_byte_orders_change_nothing() -> None:
    image = volume(channels=2)
    backwards = np.ascontiguousarray(image.array[:, ::-1])[:, ::-1]
    assert image.sha256 == image.with_array(backwards).sha256
    assert image.with_array(image.array.astype(">i2")).sha256 == image.sha256
    assert image.with_array(image.array.astype(np.int32)).sha256 != image.sha256


def test_every_voxel_and_the_place_count() -> None:
    image = volume()
    seen = {image.sha256}
    for place in np.ndindex(image.array.shape):
        array = image.array.copy()
        array[place] += 1
        seen.add(image.with_array(array).sha256)
    moved = replace(image.geometry, origin=(3.0, -4.0, 6.5))
    seen |= {replace(image, geometry=moved).sha256, replace(image, physical=False).sha256}
    assert len(seen) == image.array.size + 3


def test_channels_in_files_of_their_own_are_the_image_they_make(tmp_path: Path) -> None:
    image = volume(channels=3)
    paths = [tmp_path / f"case_{channel:04d}.nii.gz" for channel in range(3)]
    for channel, path in enumerate(paths):
        write_image(image.with_array(image.array[channel : channel + 1]), path)
    stacked = read_image(paths)
    assert stacked.sha256 == read_image(paths).sha256 == image.sha256
    assert len({stacked.sha256, read_image(paths[::-1]).sha256, read_image(paths[:2]).sha256}) == 3


def test_a_folder_of_dicom_is_the_series_in_it(tmp_path: Path) -> None:
    folder = write_stack(tmp_path / "ct", [0, 3, 6, 9])
    known = read_image(folder).sha256
    (folder / "notes.txt").write_text("seen")
    for number, path in enumerate(sorted(folder.glob("IM*"))):
        path.rename(folder / f"renamed{3 - number}.dcm")
    assert read_image(folder).sha256 == known
    assert read_image(write_stack(tmp_path / "longer", [0, 3, 6, 9, 12])).sha256 != known
