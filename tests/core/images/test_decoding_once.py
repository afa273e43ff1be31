"""A file of many frames is decoded once for all frames that are read together, and anew once it has changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
import tifffile

from meduniseg_core.images import SeveralImagesError, read_image
from meduniseg_core.images.formats import decoding, nrrd, numpy_file
from meduniseg_core.images.formats.decoding import decoding_once

FRAMES = np.arange(6 * 3 * 4 * 5, dtype=np.int16).reshape(6, 3, 4, 5)


def write_itk(path: Path, frames: np.ndarray) -> None:
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(frame) for frame in frames]), str(path))


def write_tiff(path: Path, frames: np.ndarray) -> None:
    tifffile.imwrite(path, frames.astype(np.uint16), imagej=True, metadata={"axes": "TZYX"})


WRITERS: dict[str, Callable[[Path, np.ndarray], Any]] = {
    "a.nrrd": write_itk,
    "a.mha": write_itk,
    "a.tif": write_tiff,
    "a.npy": lambda path, frames: np.save(path, frames),
    "a.npz": lambda path, frames: np.savez(path, frames),
}


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are decoded from now on."""
    found: list[str] = []
    for module in (nrrd, numpy_file, __import__("meduniseg_core.images.formats.metaimage", fromlist=["x"])):
        real = module.decoded  # type: ignore[attr-defined]

        def counting(path: Path, decode: Callable[[], np.ndarray], real: Any = real) -> np.ndarray:
            return np.asarray(real(path, lambda: (found.append(path.name), decode())[1]))

        monkeypatch.setattr(module, "decoded", counting)
    real_tiff = tifffile.TiffPageSeries.asarray

    def asarray(self: Any, **options: Any) -> Any:
        found.append("a.tif")
        return real_tiff(self, **options)

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", asarray)
    return found


@pytest.mark.parametrize("name", WRITERS)
def test_frames_that_are_read_together_are_decoded_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    WRITERS[name](path, FRAMES)
    os.utime(path, (1e9, 1e9))
    found = counted(monkeypatch)
    with decoding_once():
        with pytest.raises(SeveralImagesError):
            read_image(path)
        images = [read_image(path, frame=frame) for frame in (1, 4, 6)]
        assert found == [name]
        for image, frame in zip(images, (1, 4, 6), strict=True):
            assert np.array_equal(image.array[0], FRAMES[frame - 1])
            assert image.array.base is None or image.array.base.nbytes <= 2 * image.array.nbytes  # not all of them
        WRITERS[name](path, FRAMES + np.int16(1))
        assert np.array_equal(read_image(path, frame=2).array[0], FRAMES[1] + 1)
        assert found == [name, name]
    read_image(path, frame=2)
    assert found == [name] * 3


def test_a_file_that_was_changed_just_now_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, FRAMES)
    assert decoding.stamp_of([path]) is None
    os.utime(path, (1e9, 1e9))
    assert decoding.stamp_of([path]) == decoding.stamp_of([path])
