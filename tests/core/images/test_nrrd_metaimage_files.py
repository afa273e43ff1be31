"""NRRD and MetaImage: what SimpleITK writes is read the same; what SimpleITK would be fooled by is refused."""

from __future__ import annotations

import bz2
import gzip
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Geometry, Image, SeveralImagesError, read_image, write_image

DIRECTION = [0.0, -1.0, 0.0, 0.8, 0.0, -0.6, 0.6, 0.0, 0.8]


def volume(dtype: str = "int16", shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 100, shape).astype(dtype)


def itk_image(array: np.ndarray, vector: bool = False) -> sitk.Image:
    image = sitk.GetImageFromArray(array, isVector=vector)
    image.SetSpacing((0.7, 1.3, 2.5))
    image.SetOrigin((-12.5, 1 / 3, 1234.56789))
    image.SetDirection(DIRECTION)
    return image


def same_as_itk(image: Image, path: Path) -> None:
    """Every corner of our grid lies where SimpleITK puts it."""
    reference = sitk.ReadImage(str(path))
    depth, height, width = image.geometry.shape
    for d, h, w in ((0, 0, 0), (depth - 1, 0, 0), (0, height - 1, 0), (0, 0, width - 1)):
        place = reference.TransformIndexToPhysicalPoint((w, h, d))
        np.testing.assert_allclose((image.geometry.affine @ [d, h, w, 1])[:3], place, atol=1e-9)


@pytest.mark.parametrize("ending", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]
)
def test_files_written_by_itk_are_read_the_same(ending: str, packed: bool, dtype: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.1{ending}"
    sitk.WriteImage(itk_image(volume(dtype)), str(path), packed)
    image = read_image(path)
    assert image.array.dtype == np.dtype(dtype)
    assert np.array_equal(image.array[0], volume(dtype))
    assert image.physical
    same_as_itk(image, path)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_vector_voxels_are_channels(ending: str, channels: int, tmp_path: Path) -> None:
    data = volume("uint8", (4, 5, 6, channels))
    path = tmp_path / f"v{ending}"
    sitk.WriteImage(itk_image(data, vector=True), str(path))
    image = read_image(path)
    assert np.array_equal(image.array, np.moveaxis(data, -1, 0))
    same_as_itk(image, path)
    write_image(image, tmp_path / f"w{ending}")
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"w{ending}"))), data)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_fourth_axis_is_channels_up_to_four(ending: str, tmp_path: Path) -> None:
    data = volume("uint8", (3, 4, 5, 6))
    sitk.WriteImage(sitk.GetImageFromArray(data, isVector=False), str(tmp_path / f"t{ending}"))
    assert np.array_equal(read_image(tmp_path / f"t{ending}").array, data)
    long = volume("uint8", (5, 4, 5, 6))
    sitk.WriteImage(sitk.GetImageFromArray(long, isVector=False), str(tmp_path / f"l{ending}"))
    with pytest.raises(BadInputError, match="holds 5 volumes"):
        read_image(tmp_path / f"l{ending}")


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_2d_file_has_depth_1(ending: str, tmp_path: Path) -> None:
    flat = sitk.GetImageFromArray(volume("uint8", (5, 6)))
    flat.SetSpacing((0.5, 0.25))
    sitk.WriteImage(flat, str(tmp_path / f"s{ending}"))
    image = read_image(tmp_path / f"s{ending}")
    assert image.array.shape == (1, 1, 5, 6)
    assert image.geometry.spacing == (1.0, 0.25, 0.5)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_sheared_grid_survives_writing_and_reading(ending: str, tmp_path: Path) -> None:
    affine = np.diag([2.0, 1.5, 1.0, 1.0])[[2, 1, 0, 3]]
    affine[0, 0] = 0.9
    image = Image(volume()[None], Geometry.from_affine(affine, (4, 5, 6)))
    assert image.geometry.shear > 0.1
    write_image(image, tmp_path / f"t{ending}")
    np.testing.assert_allclose(read_image(tmp_path / f"t{ending}").geometry.affine, affine, atol=1e-9)
    same_as_itk(image, tmp_path / f"t{ending}")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
@pytest.mark.parametrize("keep", [0.6, 0.97])
def test_a_truncated_file_is_refused(ending: str, packed: bool, keep: float, tmp_path: Path) -> None:
    path = tmp_path / f"cut{ending}"
    noise = np.random.default_rng(0).normal(size=(12, 12, 12)).astype(np.float32)
    sitk.WriteImage(itk_image(noise), str(path), packed)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(BadInputError, match=r"cut.* is truncated"):
        read_image(path)


def nrrd(path: Path, body: bytes = b"", **fields: str) -> Path:
    known = {"type": "uint8", "dimension": "3", "sizes": "2 3 4", "encoding": "raw", "spacings": "1 1 1"}
    lines = [f"{key.replace('_', ' ')}: {value}" for key, value in {**known, **fields}.items()]
    path.write_bytes("\n".join(["NRRD0004", "# comment", "key:=value", *lines]).encode() + b"\n\n" + body)
    return path


def meta(path: Path, body: bytes = b"", **fields: str) -> Path:
    known = {
        "ObjectType": "Image",
        "NDims": "3",
        "ElementSpacing": "1 1 1",
        "DimSize": "2 3 4",
        "ElementType": "MET_UCHAR",
    }
    last = fields.pop("ElementDataFile", "LOCAL")
    lines = [f"{key} = {value}" for key, value in {**known, **fields}.items()]
    path.write_bytes("\n".join([*lines, f"ElementDataFile = {last}"]).encode() + b"\n" + body)
    return path


@pytest.mark.parametrize(
    "name", ["../secret.raw", "/etc/passwd", "sub/secret.raw", "..\\secret.raw", "C:\\secret.raw", ".."]
)
def test_a_data_file_outside_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    (inner / "sub").mkdir(parents=True)
    for place in (tmp_path, inner / "sub"):
        (place / "secret.raw").write_bytes(bytes(24))
    with pytest.raises(BadInputError, match=r"a\.nhdr keeps its voxels in .* outside its folder"):
        read_image(nrrd(inner / "a.nhdr", data_file=name))
    with pytest.raises(BadInputError, match=r"a\.mhd keeps its voxels in .* outside its folder"):
        read_image(meta(inner / "a.mhd", ElementDataFile=name))
    with pytest.raises(BadInputError, match="outside its folder"):
        read_image(nrrd(inner / "a.nrrd", data_file=name))
    with pytest.raises(BadInputError, match="outside its folder"):
        read_image(meta(inner / "a.mha", ElementDataFile=name))


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.raw").write_bytes(bytes(24))
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "a.raw").symlink_to(tmp_path / "secret.raw")
    with pytest.raises(BadInputError, match="a link out of its folder"):
        read_image(meta(inner / "a.mhd", ElementDataFile="a.raw"))


def test_data_files_beside_the_header_are_read_and_missing_or_several_ones_refused(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(range(24)))
    expected = np.arange(24, dtype=np.uint8).reshape(1, 4, 3, 2)
    assert np.array_equal(read_image(nrrd(tmp_path / "a.nhdr", data_file="./a.raw")).array, expected)
    assert np.array_equal(read_image(meta(tmp_path / "a.mhd", ElementDataFile="a.raw")).array, expected)
    with pytest.raises(BadInputError, match="which is missing"):
        read_image(meta(tmp_path / "b.mhd", ElementDataFile="b.raw"))
    for several in ("LIST", "slice%02d.raw 1 4 1"):
        with pytest.raises(BadInputError, match="several files"):
            read_image(meta(tmp_path / "c.mhd", ElementDataFile=several))
        with pytest.raises(BadInputError, match="several files"):
            read_image(nrrd(tmp_path / "c.nhdr", data_file=several))


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_a_header_that_claims_an_absurd_size_is_refused_before_allocation(encoding: str, tmp_path: Path) -> None:
    body = gzip.compress(bytes(24)) if encoding == "gzip" else bytes(24)
    with pytest.raises(BadInputError, match="claims 27,000,000,000,000 bytes"):
        read_image(nrrd(tmp_path / "big.nrrd", body, sizes="30000 30000 30000", encoding=encoding))
    packed = {"CompressedData": "True"} if encoding == "gzip" else {}
    with pytest.raises(BadInputError, match="claims 27,000,000,000,000 bytes"):
        read_image(meta(tmp_path / "big.mha", body, DimSize="30000 30000 30000", **packed))


def test_every_encoding_that_is_read_gives_the_same_voxels(tmp_path: Path) -> None:
    data = bytes(range(24))
    expected = np.frombuffer(data, np.uint8).reshape(1, 4, 3, 2)
    bodies = {"raw": data, "gzip": gzip.compress(data), "gz": gzip.compress(data), "bzip2": bz2.compress(data)}
    for encoding, body in bodies.items():
        assert np.array_equal(read_image(nrrd(tmp_path / "a.nrrd", body, encoding=encoding)).array, expected)
    assert np.array_equal(
        read_image(meta(tmp_path / "a.mha", zlib.compress(data), CompressedData="True")).array, expected
    )
    with pytest.raises(BadInputError, match="encoding raw or gzip"):
        read_image(nrrd(tmp_path / "a.nrrd", b"0 1 2", encoding="ascii"))
    with pytest.raises(BadInputError, match="text"):
        read_image(meta(tmp_path / "a.mha", b"0 1 2", BinaryData="False"))


def test_byte_order_and_skips_are_honoured(tmp_path: Path) -> None:
    data = np.arange(24, dtype=">i2")
    swapped = nrrd(tmp_path / "a.nrrd", b"junk" + data.tobytes(), type="short", endian="big", byte_skip="4")
    assert np.array_equal(read_image(swapped).array.ravel(), np.arange(24))
    last = nrrd(tmp_path / "b.nrrd", b"junk!" + data.tobytes(), type="short", endian="big", byte_skip="-1")
    assert np.array_equal(read_image(last).array.ravel(), np.arange(24))
    big = meta(tmp_path / "a.mha", data.tobytes(), ElementType="MET_SHORT", BinaryDataByteOrderMSB="True")
    assert np.array_equal(read_image(big).array.ravel(), np.arange(24))


@pytest.mark.parametrize(
    ("space", "signs"),
    [("left-posterior-superior", (1, 1, 1)), ("RAS", (-1, -1, 1)), ("left-anterior-superior", (1, -1, 1))],
)
def test_nrrd_spaces_become_lps_and_units_mm(space: str, signs: tuple[int, ...], tmp_path: Path) -> None:
    path = nrrd(
        tmp_path / "a.nrrd",
        bytes(24),
        space=space,
        space_directions="(1,0,0) (0,2,0) (0,0,3)",
        space_origin="(10,20,30)",
        space_units='"um" "um" "um"',
    )
    geometry = read_image(path).geometry
    np.testing.assert_allclose(geometry.spacing, (0.003, 0.002, 0.001))
    np.testing.assert_allclose(geometry.origin, np.array([0.01, 0.02, 0.03]) * signs)
    np.testing.assert_allclose(np.diag(np.asarray(geometry.direction)[:, ::-1]), signs)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1.0), ("cm", 10.0), ("um", 0.001), ("?", 1.0)])
def test_units_of_bare_spacings_and_of_metaimages_become_mm(unit: str, factor: float, tmp_path: Path) -> None:
    sizes = np.array([3.0, 2.0, 1.0]) * factor
    image = read_image(
        meta(tmp_path / "a.mha", bytes(24), ElementSpacing="1 2 3", Offset="10 20 30", DistanceUnits=unit)
    )
    np.testing.assert_allclose(image.geometry.spacing, sizes)
    np.testing.assert_allclose(image.geometry.origin, np.array([10, 20, 30]) * factor)
    if unit != "?":
        path = nrrd(tmp_path / "a.nrrd", bytes(24), spacings="1 2 3", units=f'"{unit}" "{unit}" "{unit}"')
        np.testing.assert_allclose(read_image(path).geometry.spacing, sizes)


def test_units_that_are_not_known_are_refused(tmp_path: Path) -> None:
    for path in (
        meta(tmp_path / "a.mha", bytes(24), DistanceUnits="inch"),
        nrrd(tmp_path / "a.nrrd", bytes(24), units='"mm" "mm" "cm"'),
        nrrd(tmp_path / "b.nrrd", bytes(24), units='"furlong" "furlong" "furlong"'),
    ):
        with pytest.raises(BadInputError, match=r"measures space in .*mm"):
            read_image(path)


def test_a_metaimages_scaling_is_applied_and_said(tmp_path: Path) -> None:
    scaling = {"ElementToIntensityFunctionSlope": "2", "ElementToIntensityFunctionOffset": "-1024"}
    image = read_image(meta(tmp_path / "a.mha", bytes(range(24)), **scaling))
    assert image.array.ravel().tolist() == [2.0 * value - 1024 for value in range(24)]
    assert [finding.code for finding in image.findings][1:] == ["intensity_scaled"]
    none = {"ElementToIntensityFunctionSlope": "1", "ElementToIntensityFunctionOffset": "0"}
    assert read_image(meta(tmp_path / "b.mha", bytes(24), **none)).findings[1:] == ()
    with pytest.raises(BadInputError, match="ElementToIntensityFunction"):
        read_image(meta(tmp_path / "c.mha", bytes(24), ElementToIntensityFunctionSlope="0"))


def test_time_points_are_no_channels(tmp_path: Path) -> None:
    fields = {"dimension": "4", "sizes": "2 3 4 2", "spacings": "1 1 1 1", "kinds": "domain domain domain time"}
    path = nrrd(tmp_path / "a.nrrd", bytes(range(48)), **fields)
    with pytest.raises(SeveralImagesError, match=r"time series.*--frame 1 to 2"):
        read_image(path)
    assert read_image(path, frame=2).array.ravel().tolist() == list(range(24, 48))
    listed = nrrd(tmp_path / "b.nrrd", bytes(48), **{**fields, "kinds": "domain domain domain list"})
    assert read_image(listed).channels == 2


@pytest.mark.parametrize("kind", ["complex", "quaternion", "3D-matrix", "2D-masked-matrix"])
def test_what_is_no_channel_is_not_taken_for_one(kind: str, tmp_path: Path) -> None:
    fields = {"dimension": "4", "sizes": "2 2 3 4", "spacings": "1 1 1 1", "kinds": f"{kind} domain domain domain"}
    with pytest.raises(BadInputError, match="a voxel; save the wanted part"):
        read_image(nrrd(tmp_path / "a.nrrd", bytes(48), **fields))


def test_impossible_headers_are_refused(tmp_path: Path) -> None:
    nan = np.full(24, np.nan, np.float32).tobytes()
    cases = [
        (nrrd(tmp_path / "1.nrrd", bytes(24), spacings="1 0 1"), "voxel size"),
        (nrrd(tmp_path / "2.nrrd", bytes(24), spacings="1 nan 1"), "NaN"),
        (nrrd(tmp_path / "3.nrrd", bytes(24), space="LPS", space_directions="(1,0,0) (1,0,0) (0,0,1)"), "one plane"),
        (nrrd(tmp_path / "4.nrrd", bytes(24), sizes="2 -3 4"), "impossible sizes"),
        (nrrd(tmp_path / "5.nrrd", bytes(24), sizes="2 3"), "another dimension"),
        (nrrd(tmp_path / "6.nrrd", nan, type="float"), "24 voxels that are NaN"),
        (nrrd(tmp_path / "7.nrrd", bytes(24), type="block"), "type 'block'"),
        (meta(tmp_path / "1.mha", bytes(24), ElementSpacing="1 0 1"), "voxel size"),
        (meta(tmp_path / "2.mha", bytes(24), TransformMatrix="1 0 0 1 0 0 0 0 1"), "one plane"),
        (meta(tmp_path / "3.mha", bytes(24), DimSize="2 3"), "do not fit its NDims"),
        (meta(tmp_path / "4.mha", nan, ElementType="MET_FLOAT"), "24 voxels that are NaN"),
        (meta(tmp_path / "5.mha", bytes(24), ElementType="MET_STRING"), "MET_STRING"),
        (meta(tmp_path / "6.mha", bytes(24), Offset="a b c"), "unreadable 'Offset'"),
    ]
    for path, reason in cases:
        with pytest.raises(BadInputError, match=reason):
            read_image(path)
    for name in ("x.nrrd", "x.mha"):
        (tmp_path / name).write_bytes(os.urandom(64))
        with pytest.raises(BadInputError, match="is not a"):
            read_image(tmp_path / name)


def test_the_axis_of_colours_needs_no_distance(tmp_path: Path) -> None:
    """Teem writes NaN for it, and SimpleITK reads that."""
    path = tmp_path / "colours.nrrd"
    fields = "dimension: 3\nsizes: 3 4 2\nencoding: raw\nkinds: RGB-color domain domain\n"
    path.write_bytes(f"NRRD0004\ntype: uint8\n{fields}spacings: NaN 0.5 2\n\n".encode() + bytes(range(24)))
    image = read_image(path)
    assert image.array.shape == (3, 1, 2, 4) and image.geometry.spacing == (1.0, 2.0, 0.5)
    assert sitk.ReadImage(str(path)).GetNumberOfComponentsPerPixel() == 3
    path.write_bytes(path.read_bytes().replace(b"RGB-color domain", b"domain RGB-color"))
    with pytest.raises(BadInputError, match="NaN or infinity in its 'spacings'"):
        read_image(path)


@pytest.mark.parametrize(("ending", "key"), [(".nrrd", "sizes: "), (".mha", "DimSize = ")])
def test_a_field_that_is_there_twice_and_differently_is_refused(ending: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(itk_image(volume("uint8")), str(path))
    content = path.read_bytes()
    path.write_bytes(content.replace(key.encode(), f"{key}6  5 4\n{key}".encode(), 1))
    read_image(path)  # the same numbers
    path.write_bytes(content.replace(key.encode(), f"{key}4 5 6\n{key}".encode(), 1))
    with pytest.raises(BadInputError, match=rf"a\{ending} says '\w+' twice and differently \(4 5 6; 6 5 4\)"):
        read_image(path)


def test_a_list_of_data_files_and_an_unknown_origin_are_called_that(tmp_path: Path) -> None:
    path = tmp_path / "a.nhdr"
    sitk.WriteImage(itk_image(volume("uint8")), str(path))
    content = path.read_text()
    at = content.index("data file:")
    path.write_text(content[:at] + "data file: LIST\none.raw\ntwo.raw\n")
    with pytest.raises(BadInputError, match="spreads its voxels over several files"):
        read_image(path)
    line = next(line for line in content.splitlines() if line.startswith("space origin"))
    path.write_text(content.replace(line, "space origin: (nan,nan,nan)"))
    with pytest.raises(BadInputError, match="NaN or infinity in its 'space origin'"):
        read_image(path)
