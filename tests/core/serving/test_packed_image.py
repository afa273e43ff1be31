"""An image on its way to the server: exactly the same, and nothing else is taken for one."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.images import Geometry, Image
from meduniseg_core.serving.client import Server
from meduniseg_core.serving.packed_image import read_packed, write_packed

GRID = Geometry.from_affine(np.array([[0.5, 0.1, 0, 3], [0, 2, 0, -7], [0, 0, 1.5, 9], [0, 0, 0, 1.0]]), (3, 4, 5))


@pytest.mark.parametrize("code", ["i2", "u1", "f4", ">i2", "i4"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_arrives_as_it_was(tmp_path: Path, code: str, channels: int) -> None:
    array = np.random.default_rng(0).integers(0, 200, (channels, 3, 4, 5)).astype(code)
    meta = {"modality": "CT", "orientation_known": False, "sources": ("/home/me/Müller.nii",), "frames_over_time": True}
    image = Image(array, GRID, physical=False, source=Path("/home/me/Müller.nii"), meta=meta)
    write_packed(image, tmp_path / "a.mseg")
    back = read_packed(tmp_path / "a.mseg", 10_000)
    assert np.array_equal(back.array, array) and np.allclose(back.geometry.affine, GRID.affine, rtol=0, atol=1e-12)
    assert (back.physical, dict(back.meta)) == (
        False,
        {"modality": "CT", "orientation_known": False, "frames_over_time": True},
    )
    assert b"ller" not in (tmp_path / "a.mseg").read_bytes() and back.source is None


def test_what_is_no_such_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mseg"
    write_packed(Image(np.ones((1, 3, 4, 5), np.float32), GRID), path)
    with pytest.raises(BadInputError, match="too large"):
        read_packed(path, 239)
    with zipfile.ZipFile(path) as packed:
        about, voxels = packed.read("image.json"), packed.read("voxels")
    for new_about, new_voxels in (
        (about, voxels[:-4]),
        (about, voxels + b"more"),
        (about.replace(b"[1,3,4,5]", b"[1,3,4,-5]"), voxels),
        (about.replace(b"<f4", b"|O"), voxels),
        (about.replace(b"<f4", b"no type"), voxels),
        (b"[" * 10_000, voxels),
        (about, np.full(60, np.nan, np.float32).tobytes()),
    ):
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("image.json", new_about)
            packed.writestr("voxels", new_voxels)
        with pytest.raises(BadInputError):
            read_packed(path, 10_000)
    path.write_bytes(b"no zip")
    with pytest.raises(BadInputError):
        read_packed(path, 10_000)


def test_images_do_not_cross_a_network_unencrypted() -> None:
    assert Server.at("https://gpu.example:8470/").address == "https://gpu.example:8470"
    for address in ("http://gpu.example:8470", "gpu.example", "https://me:word@gpu.example", "https://[::1", ""):
        with pytest.raises(UsageError):
            Server.at(address)
