"""TIFF: pictures and stacks, with the voxel size only where it is really stated."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Geometry, Image, read_image, read_labels, write_image, write_labels


def noise(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(3).integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_pages_are_depth_and_the_dtype_is_kept(dtype: str, compression: str | None, tmp_path: Path) -> None:
    data = noise((5, 16, 17), dtype)
    tifffile.imwrite(tmp_path / "s.tif", data, compression=compression, photometric="minisblack")
    image = read_image(tmp_path / "s.tif")
    assert image.array.dtype == np.dtype(dtype)
    assert np.array_equal(image.array[0], data)
    assert not image.physical


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", None])
@pytest.mark.parametrize("shape", [(16, 17), (16, 17, 3)])
def test_pictures_of_other_programs_are_read(compression: str | None, shape: tuple[int, ...], tmp_path: Path) -> None:
    data = noise(shape)
    PillowImage.fromarray(data).save(tmp_path / "p.tif", compression=compression, dpi=(300, 300))
    image = read_image(tmp_path / "p.tif")
    expected = data[None] if data.ndim == 2 else np.moveaxis(data, -1, 0)
    assert np.array_equal(image.array[:, 0], expected)
    assert image.meta["colour"] == ("grey" if data.ndim == 2 else "rgb")
    assert not image.physical  # dots per inch say nothing about the patient


def test_an_lzw_stack_of_several_pages_is_read(tmp_path: Path) -> None:
    data = noise((3, 16, 17))
    pages = [PillowImage.fromarray(page) for page in data]
    pages[0].save(tmp_path / "s.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    assert np.array_equal(read_image(tmp_path / "s.tif").array[0], data)


def test_imagej_states_the_voxel_size_and_channels(tmp_path: Path) -> None:
    data = noise((5, 2, 16, 17), "uint16")
    tifffile.imwrite(
        tmp_path / "ij.tif",
        data,
        imagej=True,
        resolution=(1 / 0.3, 1 / 0.7),
        metadata={"axes": "ZCYX", "spacing": 2.5, "unit": "um"},
    )
    image = read_image(tmp_path / "ij.tif")
    assert np.array_equal(image.array, np.moveaxis(data, 1, 0))
    assert image.physical
    np.testing.assert_allclose(image.geometry.spacing, (0.0025, 0.0007, 0.0003), rtol=1e-6)


def test_ome_states_the_voxel_size(tmp_path: Path) -> None:
    data = noise((2, 5, 16, 17), "int16")
    metadata: dict[str, Any] = {"axes": "CZYX"}
    for axis, size in zip("ZYX", (2.5, 0.7, 0.3), strict=True):
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "mm"}
    tifffile.imwrite(tmp_path / "o.ome.tif", data, ome=True, metadata=metadata)
    image = read_image(tmp_path / "o.ome.tif")
    assert np.array_equal(image.array, data)
    np.testing.assert_allclose(image.geometry.spacing, (2.5, 0.7, 0.3))
    for unit, width in (("in", 7.62), ("thou", 0.00762), ("\u00c5", 3e-8), ("pixel", None)):
        tifffile.imwrite(tmp_path / "u.ome.tif", data, ome=True, metadata={**metadata, "PhysicalSizeXUnit": unit})
        if width is not None and width > 1e-6:
            assert read_image(tmp_path / "u.ome.tif").geometry.spacing[2] == pytest.approx(width)
        elif width is not None:
            with pytest.raises(BadInputError, match="3e-08 mm, which no microscope"):
                read_image(tmp_path / "u.ome.tif")
        else:
            assert not read_image(tmp_path / "u.ome.tif").physical
    metadata["PhysicalSizeX"] = 0
    tifffile.imwrite(tmp_path / "z.ome.tif", data, ome=True, metadata=metadata)
    with pytest.raises(BadInputError, match=r"z\.ome\.tif gives a voxel size"):
        read_image(tmp_path / "z.ome.tif")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int16", "float64"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("depth", [1, 5])
def test_written_images_keep_voxels_and_voxel_size(dtype: str, channels: int, depth: int, tmp_path: Path) -> None:
    image = Image(noise((channels, depth, 16, 17), dtype), Geometry((depth, 16, 17), (2.5, 0.7, 0.3)))
    write_image(image, tmp_path / "w.tif")
    again = read_image(tmp_path / "w.tif")
    assert again.array.dtype == np.dtype(dtype)
    assert np.array_equal(again.array, image.array)
    assert again.physical
    np.testing.assert_allclose(again.geometry.spacing, image.geometry.spacing, rtol=1e-6)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_truncated_file_is_refused(compression: str | None, keep: float, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "cut.tif", noise((5, 64, 64)), compression=compression, photometric="minisblack")
    raw = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(raw[: int(len(raw) * keep)])
    with pytest.raises(BadInputError, match=r"cut\.tif is truncated"):
        read_image(tmp_path / "cut.tif")


def test_an_absurd_size_is_refused_before_allocation(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "big.tif", noise((16, 16)), metadata=None)
    with tifffile.TiffFile(tmp_path / "big.tif", mode="r+") as tiff:
        tiff.pages.first.tags["ImageWidth"].overwrite(60000)
        tiff.pages.first.tags["ImageLength"].overwrite(60000)
        tiff.pages.first.tags["RowsPerStrip"].overwrite(60000)
    with pytest.raises(BadInputError, match=r"big\.tif .*claims 3,600,000,000 bytes"):
        read_image(tmp_path / "big.tif")


def test_time_series_several_series_and_other_files_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "t.tif", noise((6, 16, 17)), imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(BadInputError, match="time series"):
        read_image(tmp_path / "t.tif")
    with tifffile.TiffWriter(tmp_path / "m.tif") as writer:
        writer.write(noise((16, 17)), metadata=None)
        writer.write(noise((8, 9)), metadata=None)
    with pytest.raises(BadInputError, match="holds images of different sizes"):
        read_image(tmp_path / "m.tif")
    (tmp_path / "x.tif").write_text("hello")
    with pytest.raises(BadInputError, match=r"x\.tif is not a TIFF file"):
        read_image(tmp_path / "x.tif")
    data = noise((2, 16, 17)).astype(np.float32)
    data[0, 0, :3] = np.nan
    tifffile.imwrite(tmp_path / "n.tif", data, photometric="minisblack")
    with pytest.raises(BadInputError, match="holds 3 voxels that are NaN"):
        read_image(tmp_path / "n.tif")


def test_an_ome_file_does_not_pull_in_other_files(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    tifffile.imwrite(tmp_path / "secret.ome.tif", noise((3, 16, 17)), ome=True, metadata={"axes": "ZYX"})
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="17" SizeY="16" SizeZ="3" SizeC="1" SizeT="1">'
        '<TiffData IFD="0" FirstZ="0" PlaneCount="3"><UUID FileName="../secret.ome.tif">urn:uuid:1</UUID></TiffData>'
        "</Pixels></Image></OME>"
    )
    tifffile.imwrite(inner / "a.ome.tif", np.zeros((16, 17), np.uint8), description=xml, metadata=None)
    try:
        array = read_image(inner / "a.ome.tif").array
    except BadInputError:
        return
    assert not array.any()


def test_label_policy(tmp_path: Path) -> None:
    ids = (noise((16, 17)) % 5).astype(np.uint8)
    colours = np.zeros((3, 256), np.uint16)
    colours[:, 1:5] = np.arange(12).reshape(3, 4) * 5000
    tifffile.imwrite(tmp_path / "p.tif", ids, photometric="palette", colormap=colours)
    assert np.array_equal(read_labels(tmp_path / "p.tif").array[0, 0], ids)
    assert read_image(tmp_path / "p.tif").array.shape == (3, 1, 16, 17)
    tifffile.imwrite(tmp_path / "rgb.tif", np.repeat(ids[..., None], 3, -1), photometric="rgb")
    assert np.array_equal(read_labels(tmp_path / "rgb.tif").array[0, 0], ids)
    tifffile.imwrite(tmp_path / "c.tif", noise((16, 17, 3)), photometric="rgb")
    with pytest.raises(BadInputError, match="colour picture"):
        read_labels(tmp_path / "c.tif")
    tifffile.imwrite(tmp_path / "a.tif", noise((16, 17, 4)), photometric="rgb", extrasamples=["unassalpha"])
    with pytest.raises(BadInputError, match="alpha channel"):
        read_labels(tmp_path / "a.tif")
    with pytest.raises(BadInputError, match="transparent"):
        read_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "w.tif", ids, photometric="miniswhite")
    with pytest.raises(BadInputError, match="MinIsWhite"):
        read_labels(tmp_path / "w.tif")
    assert np.array_equal(read_image(tmp_path / "w.tif").array[0, 0], 255 - ids)
    PillowImage.fromarray(ids).save(tmp_path / "j.tif", compression="jpeg")
    with pytest.raises(BadInputError, match="JPEG"):
        read_labels(tmp_path / "j.tif")
    assert read_image(tmp_path / "j.tif").array.shape == (1, 1, 16, 17)
    volume = Image((noise((1, 5, 16, 17), "int64") * 3), Geometry((5, 16, 17), (2.5, 0.7, 0.3)))
    write_labels(volume, tmp_path / "v.tif")
    assert read_labels(tmp_path / "v.tif").array.dtype == np.uint16
    assert np.array_equal(read_labels(tmp_path / "v.tif").array, volume.array)


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg"])
def test_damaged_pixels_are_one_sentence_without_the_library_s_remarks(
    compression: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.tif"
    PillowImage.fromarray(noise((40, 50, 3))).save(path, compression=compression)
    with tifffile.TiffFile(path) as tiff:
        start, length = tiff.pages.first.dataoffsets[0], tiff.pages.first.databytecounts[0]
    content = bytearray(path.read_bytes())
    content[start : start + length] = bytes(length)
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"a\.tif has compressed pixels that are damaged; export it again\."):
        read_image(path)
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


@pytest.mark.parametrize(("mode", "said"), [("YCbCr", "YCbCr"), ("LAB", "CIELab"), ("CMYK", "CMYK")])
def test_colours_that_are_not_converted_are_refused_by_name(mode: str, said: str, tmp_path: Path) -> None:
    if mode == "CMYK":
        PillowImage.fromarray(noise((16, 17, 3))).convert("CMYK").save(tmp_path / "p.tif")
    else:
        tifffile.imwrite(tmp_path / "p.tif", noise((16, 17, 3)), photometric={"YCbCr": 6, "LAB": 8}[mode])
    with pytest.raises(BadInputError, match=f"p.tif stores its colours as {said}, which is not read; save it as RGB"):
        read_image(tmp_path / "p.tif")


def test_inverted_values_without_a_white_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "p.tif", noise((16, 17), "int16"), photometric="miniswhite")
    with pytest.raises(BadInputError, match="save it as MinIsBlack"):
        read_image(tmp_path / "p.tif")


@pytest.mark.parametrize("frame", [1, 2, 9])
def test_pages_are_slices_and_no_frames_to_choose(tmp_path: Path, frame: int) -> None:
    tifffile.imwrite(tmp_path / "p.tif", noise((2, 16, 17, 3)), photometric="rgb")
    with pytest.raises(BadInputError, match=f"has 2 pages, which are slices .* save page {frame}"):
        read_image(tmp_path / "p.tif", frame=frame)
    tifffile.imwrite(tmp_path / "t.tif", noise((3, 2, 16, 17)), imagej=True, metadata={"axes": "TZYX"})
    assert read_image(tmp_path / "t.tif", frame=1).geometry.shape == (2, 16, 17)
