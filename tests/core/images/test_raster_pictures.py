"""PNG, BMP and JPEG: images as stored, labels by an explicit policy."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Geometry, Image, read_image, read_labels, write_image, write_labels

IDS = np.array([[0, 1, 2, 3], [3, 2, 1, 0], [0, 0, 3, 3]], np.uint8)


def png(path: Path, rows: np.ndarray, depth: int, colour_type: int) -> Path:
    """A PNG of any bit depth and colour type, by hand: ``rows`` are the packed bytes of each line."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    width = rows.shape[1]
    header = struct.pack(">IIBBBBB", width, rows.shape[0], depth, colour_type, 0, 0, 0)
    body = b""
    for row in rows:
        if depth < 8:
            bits = "".join(f"{int(value):0{depth}b}" for value in row)
            bits += "0" * (-len(bits) % 8)
            packed = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
        else:
            packed = row.astype(">u2" if depth == 16 else "u1").tobytes()
        body += b"\0" + packed
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    )
    return path


def save(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    picture = PillowImage.fromarray(array)
    (picture if mode is None else picture.convert(mode)).save(path, **options)
    return path


@pytest.mark.parametrize("ending", [".png", ".bmp", ".jpg", ".JPEG"])
def test_a_photograph_has_three_channels_and_no_size_in_mm(ending: str, tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    path = save(tmp_path / f"p{ending}", rgb)
    image = read_image(path)
    assert image.array.shape == (3, 1, 6, 8)
    assert image.array.dtype == np.uint8
    assert not image.physical
    assert image.geometry.spacing == (1.0, 1.0, 1.0)
    assert image.meta["colour"] == "rgb"
    if ending in (".png", ".bmp"):
        assert np.array_equal(np.moveaxis(image.array[:, 0], 0, -1), rgb)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".jpg"])
def test_a_grey_picture_has_one_channel(ending: str, tmp_path: Path) -> None:
    image = read_image(save(tmp_path / f"g{ending}", np.full((6, 8), 77, np.uint8)))
    assert image.array.shape == (1, 1, 6, 8)
    assert (image.array == 77).all()
    assert image.meta["colour"] == "grey"


def test_16_bits_are_kept_in_grey_and_in_colour(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 65535, (5, 6), dtype=np.uint16)
    assert np.array_equal(read_image(png(tmp_path / "g.png", grey, 16, 0)).array[0, 0], grey)
    rgb = np.random.default_rng(0).integers(0, 65535, (5, 6, 3), dtype=np.uint16)
    image = read_image(png(tmp_path / "c.png", rgb, 16, 2))
    assert image.array.dtype == np.uint16
    assert np.array_equal(np.moveaxis(image.array[:, 0], 0, -1), rgb)


def test_opaque_alpha_is_dropped_and_transparency_refused(tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 255, (5, 6, 4), dtype=np.uint8)
    rgba[..., 3] = 255
    assert np.array_equal(np.moveaxis(read_image(save(tmp_path / "a.png", rgba)).array[:, 0], 0, -1), rgba[..., :3])
    rgba[0, 0, 3] = 254
    with pytest.raises(BadInputError, match=r"a\.png has transparent pixels"):
        read_image(save(tmp_path / "a.png", rgba))
    deep = np.full((5, 6, 4), 65535, np.uint16)
    assert read_image(png(tmp_path / "d.png", deep, 16, 6)).array.shape == (3, 1, 5, 6)
    deep[0, 0, 3] = 0
    with pytest.raises(BadInputError, match="transparent pixels"):
        read_image(png(tmp_path / "d.png", deep, 16, 6))


def test_a_palette_picture_is_its_colours(tmp_path: Path) -> None:
    picture = PillowImage.fromarray(IDS, mode="L").convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").array[:, 0, 0, 1].tolist() == [255, 0, 0]


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("ending", [".png", ".bmp", ".jpg"])
def test_a_truncated_picture_is_refused(ending: str, keep: float, tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"cut{ending}", rgb)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    for read in (read_image, read_labels) if ending != ".jpg" else (read_image,):
        with pytest.raises(BadInputError, match=rf"cut{ending} is truncated"):
            read(path)


def test_absurd_sizes_animations_and_other_files_are_refused(tmp_path: Path) -> None:
    raw = bytearray(png(tmp_path / "b.png", IDS, 8, 0).read_bytes())
    for size in (12_000, 200_000):
        raw[16:24] = struct.pack(">II", size, size)
        raw[29:33] = struct.pack(">I", zlib.crc32(bytes(raw[12:29])))
        (tmp_path / "b.png").write_bytes(raw)
        with pytest.raises(BadInputError, match=r"b\.png (is truncated or its header is wrong|has )"):
            read_image(tmp_path / "b.png")
    frames = [PillowImage.fromarray(IDS * value) for value in (10, 20)]
    frames[0].save(tmp_path / "anim.png", save_all=True, append_images=frames[1:])
    with pytest.raises(BadInputError, match="animation"):
        read_image(tmp_path / "anim.png")
    PillowImage.fromarray(IDS).save(tmp_path / "x.gif")
    (tmp_path / "x.gif").rename(tmp_path / "x.png")
    with pytest.raises(BadInputError, match="really a GIF"):
        read_image(tmp_path / "x.png")
    (tmp_path / "t.png").write_text("hello")
    with pytest.raises(BadInputError, match="not a picture"):
        read_image(tmp_path / "t.png")


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_labels_keep_their_stored_numbers_at_every_bit_depth(depth: int, tmp_path: Path) -> None:
    ids = IDS.astype(np.uint16) & np.uint16(2**depth - 1)
    if depth == 16:
        ids = ids * 1000
    labels = read_labels(png(tmp_path / "l.png", ids, depth, 0))
    assert np.array_equal(labels.array[0, 0], ids)


def test_palette_labels_are_their_indices(tmp_path: Path) -> None:
    picture = PillowImage.fromarray(IDS, mode="L").convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    for ending in (".png", ".bmp"):
        picture.save(tmp_path / f"p{ending}")
        assert np.array_equal(read_labels(tmp_path / f"p{ending}").array[0, 0], IDS)


def test_rgb_labels_need_equal_channels(tmp_path: Path) -> None:
    rgb = np.repeat(IDS[..., None], 3, axis=-1)
    assert np.array_equal(read_labels(save(tmp_path / "l.png", rgb)).array[0, 0], IDS)
    rgb[0, 0, 1] = 9
    with pytest.raises(BadInputError, match=r"l\.png is a colour picture, so its label ids are unknown"):
        read_labels(save(tmp_path / "l.png", rgb))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_labels_with_alpha_are_refused(mode: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"l\.png has an alpha channel"):
        read_labels(save(tmp_path / "l.png", IDS, mode))


def test_labels_with_a_transparent_grey_value_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="alpha channel"):
        read_labels(save(tmp_path / "l.png", IDS, transparency=0))


def test_lossy_labels_are_refused_whatever_their_name(tmp_path: Path) -> None:
    path = save(tmp_path / "l.jpg", IDS)
    with pytest.raises(BadInputError, match=r"l\.jpg is a JPEG"):
        read_labels(path)
    with pytest.raises(BadInputError, match=r"l\.png is really a JPEG"):
        read_labels(path.rename(tmp_path / "l.png"))


@pytest.mark.parametrize(("highest", "dtype"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16)])
def test_written_labels_have_as_many_bits_as_their_ids_need(highest: int, dtype: type, tmp_path: Path) -> None:
    array = np.zeros((1, 1, 4, 5), np.int64)
    array[0, 0, 1, 2] = highest
    labels = Image(array, Geometry((1, 4, 5), (1, 1, 1)), physical=False)
    write_labels(labels, tmp_path / "l.png")
    again = read_labels(tmp_path / "l.png")
    assert again.array.dtype == dtype
    assert np.array_equal(again.array, array)


def test_what_a_png_cannot_hold_is_refused(tmp_path: Path) -> None:
    volume = Image(np.zeros((1, 2, 4, 5), np.uint8), Geometry((2, 4, 5), (1, 1, 1)))
    with pytest.raises(BadInputError, match="cannot hold 2 slices"):
        write_labels(volume, tmp_path / "l.png")
    floats = Image(np.zeros((1, 1, 4, 5), np.float32), Geometry((1, 4, 5), (1, 1, 1)))
    with pytest.raises(BadInputError, match="cannot hold values of type float32"):
        write_image(floats, tmp_path / "l.png")
    with pytest.raises(BadInputError, match="not written here"):
        write_labels(floats, tmp_path / "l.jpg")
    assert list(tmp_path.iterdir()) == []


def test_colour_pictures_are_written_without_loss(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (3, 1, 5, 6), dtype=np.uint8)
    for name in ("c.png", "c.bmp", "c.tif"):
        write_image(Image(array, Geometry((1, 5, 6), (1, 1, 1)), physical=False), tmp_path / name)
        assert np.array_equal(read_image(tmp_path / name).array, array)


def test_a_gzipped_volume_named_png_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "volume.png"
    path.write_bytes(gzip.compress(b"\0" * 2000))
    with pytest.raises(BadInputError, match=r"volume\.png is not a picture that can be read; export it again as PNG"):
        read_image(path)
