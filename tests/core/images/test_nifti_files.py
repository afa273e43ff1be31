"""NIfTI: what is read is what nibabel reads, and nothing that lies or breaks off is read at all."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image, read_image, read_labels, write_image, write_labels

AFFINE = np.array([[-2.0, 0, 0, 30], [0, 1.5, 0, -20.5], [0, 0, 4.0, 7.25], [0, 0, 0, 1]])


def saved(
    path: Path, array: np.ndarray, affine: np.ndarray | None = AFFINE, kind: Any = nib.Nifti1Image, **header: Any
) -> Path:
    image = kind(array, affine, dtype=array.dtype)
    for field, value in header.items():
        image.header[field] = value
    nib.save(image, path)
    return path


def patched(path: Path, **fields: Any) -> Path:
    """Change header fields of a .nii on disk, past nibabel's repairs."""
    raw = path.read_bytes()
    header = nib.Nifti1Header(raw[:348], check=False)
    for field, value in fields.items():
        header[field] = value
    path.write_bytes(header.binaryblock + raw[348:])
    return path


def volume(dtype: str = "int16", shape: tuple[int, ...] = (6, 5, 4)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 100, shape).astype(dtype)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_the_stored_dtype_and_voxels_are_kept(dtype: str, ending: str, kind: Any, tmp_path: Path) -> None:
    data = volume(dtype)
    image = read_image(saved(tmp_path / f"a.b{ending}", kind=kind, array=data))
    assert image.array.dtype == np.dtype(dtype)
    assert np.array_equal(image.array[0], data.T)
    assert image.geometry.shape == (4, 5, 6)
    assert image.geometry.spacing == (4.0, 1.5, 2.0)
    assert image.geometry.origin == (-30.0, 20.5, 7.25)
    assert image.physical


def test_big_endian_files_are_read(tmp_path: Path) -> None:
    data = volume("int16")
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype("int16")
    nib.save(nib.Nifti1Image(data, AFFINE, header), tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == b"\0\0\x01\x5c"
    image = read_image(tmp_path / "a.nii")
    assert image.array.dtype == np.dtype("int16")
    assert np.array_equal(image.array[0], data.T)
    write_labels(image, tmp_path / "b.nii", like=image)
    assert np.array_equal(nib.load(tmp_path / "b.nii").affine, AFFINE)


def test_scaling_gives_float32(tmp_path: Path) -> None:
    path = patched(saved(tmp_path / "a.nii", volume("int16")), scl_slope=0.5, scl_inter=-3.0)
    image = read_image(path)
    assert image.array.dtype == np.float32
    np.testing.assert_array_equal(image.array[0], volume("int16").T * 0.5 - 3)


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_truncated_file_is_refused(ending: str, keep: float, tmp_path: Path) -> None:
    path = saved(tmp_path / f"cut{ending}", np.random.default_rng(0).normal(size=(20, 20, 20)))
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep)])
    with pytest.raises(BadInputError, match=rf"cut{ending} is truncated"):
        read_image(path)


def test_a_gzip_file_without_its_checksum_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "cut.nii.gz", volume())
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(BadInputError, match="truncated"):
        read_image(path)


def test_a_flipped_bit_in_a_gzip_file_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path / "bad.nii.gz", np.random.default_rng(0).normal(size=(20, 20, 20)))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    path.write_bytes(raw)
    with pytest.raises(BadInputError, match=r"bad\.nii\.gz"):
        read_image(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_header_that_claims_an_absurd_size_is_refused_before_allocation(ending: str, tmp_path: Path) -> None:
    path = patched(saved(tmp_path / "big.nii", volume()), dim=[3, 30000, 30000, 30000, 1, 1, 1, 1])
    if ending == ".nii.gz":
        packed = tmp_path / "big.nii.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path = packed
    with pytest.raises(BadInputError, match=r"big\.nii.* claims 54,000,000,000,352 bytes"):
        read_image(path)


@pytest.mark.parametrize(("values", "count"), [([np.nan], 1), ([np.nan, np.inf, -np.inf], 3)])
def test_nan_and_infinity_are_counted_and_refused(values: list[float], count: int, tmp_path: Path) -> None:
    data = volume("float32")
    data.ravel()[: len(values)] = values
    with pytest.raises(BadInputError, match=rf"holes\.nii holds {count} voxels that are NaN or infinite; replace"):
        read_image(saved(tmp_path / "holes.nii", data))


@pytest.mark.parametrize("size", [0.0, np.nan, np.inf, -1.0])
def test_an_impossible_voxel_size_is_refused(size: float, tmp_path: Path) -> None:
    path = patched(
        saved(tmp_path / "zero.nii", volume()), pixdim=[1, 1, size, 1, 0, 0, 0, 0], sform_code=0, qform_code=1
    )
    with pytest.raises(BadInputError, match=r"zero\.nii gives a voxel size"):
        read_image(path)


def test_a_zero_voxel_size_is_refused_beside_a_good_sform_too(tmp_path: Path) -> None:
    path = patched(saved(tmp_path / "zero.nii", volume()), pixdim=[1, 1, 0, 1, 0, 0, 0, 0], sform_code=1)
    with pytest.raises(BadInputError, match="voxel size"):
        read_image(path)


@pytest.mark.parametrize("row", [[0, 0, 0, 0], [np.nan, 0, 0, 0], [2, 1.5, 0, 0]])
def test_a_degenerate_sform_is_refused(row: list[float], tmp_path: Path) -> None:
    path = patched(
        saved(tmp_path / "flat.nii", volume()), sform_code=1, srow_x=row, srow_y=[0, 0, 0, 0], srow_z=[0, 0, 4, 0]
    )
    with pytest.raises(BadInputError, match=r"flat\.nii"):
        read_image(path)


def test_the_sform_goes_before_the_qform_and_the_qform_is_used_without_one(tmp_path: Path) -> None:
    nifti = nib.Nifti1Image(volume(), None)
    turned = AFFINE.copy()
    turned[:3, 3] = (1, 2, 3)
    nifti.header.set_qform(turned, code=1)
    nifti.header.set_sform(AFFINE, code=2)
    nib.save(nifti, tmp_path / "both.nii")
    assert read_image(tmp_path / "both.nii").geometry.origin == (-30.0, 20.5, 7.25)
    patched(tmp_path / "both.nii", sform_code=0)
    image = read_image(tmp_path / "both.nii")
    np.testing.assert_allclose(image.geometry.origin, (-1, -2, 3), atol=1e-6)
    assert image.meta["orientation_known"]
    patched(tmp_path / "both.nii", qform_code=0)
    assert not read_image(tmp_path / "both.nii").meta["orientation_known"]


@pytest.mark.parametrize(("code", "scale"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001)])
def test_units_become_millimetres_and_labels_keep_the_header(code: int, scale: float, tmp_path: Path) -> None:
    affine = AFFINE if code != 1 else AFFINE / [[1024], [1024], [1024], [1]]  # voxels of metres are refused
    path = patched(saved(tmp_path / "u.nii", volume("uint8"), affine), xyzt_units=code)
    image = read_image(path)
    np.testing.assert_allclose(image.geometry.spacing, np.linalg.norm(affine[:3, :3], axis=0)[::-1] * scale)
    np.testing.assert_allclose(image.geometry.origin, affine[:3, 3] * [-scale, -scale, scale])
    write_labels(image, tmp_path / "l.nii.gz", like=image)
    written = nib.load(tmp_path / "l.nii.gz")
    assert int(written.header["xyzt_units"]) == code
    assert np.array_equal(written.affine, affine)


@pytest.mark.parametrize(("sform", "qform"), [(0, 0), (0, 1), (1, 0), (2, 1), (4, 3)])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_labels_keep_the_images_header_geometry_to_the_bit(sform: int, qform: int, kind: Any, tmp_path: Path) -> None:
    nifti = kind(volume("float32"), None)
    nifti.header.set_qform(AFFINE, code=qform)
    nifti.header.set_sform(AFFINE, code=sform)
    nib.save(nifti, tmp_path / "in.nii.gz")
    image = read_image(tmp_path / "in.nii.gz")
    write_labels(image.with_array((image.array > 50) * 300), tmp_path / "out.nii.gz", like=image)
    source, written = nib.load(tmp_path / "in.nii.gz").header, nib.load(tmp_path / "out.nii.gz").header
    assert type(written) is type(source)
    for field in ("pixdim", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "srow_x"):
        assert np.array_equal(written[field], source[field]), field
    for field in ("sform_code", "qform_code", "xyzt_units"):
        assert int(written[field]) == int(source[field])
    assert written.get_data_dtype() == np.uint16


def test_up_to_four_volumes_are_channels_and_more_are_refused(tmp_path: Path) -> None:
    data = volume("float32", (6, 5, 4, 4))
    image = read_image(saved(tmp_path / "brats.nii.gz", data))
    assert image.array.shape == (4, 4, 5, 6)
    for channel in range(4):
        assert np.array_equal(image.array[channel], data[..., channel].T)
    write_labels(image.with_array(np.ones((1, 4, 5, 6), np.uint8)), tmp_path / "l.nii.gz", like=image)
    assert nib.load(tmp_path / "l.nii.gz").shape == (6, 5, 4)
    with pytest.raises(BadInputError, match=r"bold\.nii\.gz holds 5 volumes .* save the wanted one as a 3D file"):
        read_image(saved(tmp_path / "bold.nii.gz", volume("int16", (6, 5, 4, 5))))


def test_a_vector_axis_and_colour_voxels_are_channels(tmp_path: Path) -> None:
    vector = read_image(saved(tmp_path / "v.nii", volume("float32", (6, 5, 4, 1, 3))))
    assert vector.array.shape == (3, 4, 5, 6)
    rgb = np.zeros((6, 5, 4), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    rgb["G"] = volume("uint8")
    colour = read_image(saved(tmp_path / "rgb.nii", rgb))
    assert colour.array.shape == (3, 4, 5, 6)
    assert np.array_equal(colour.array[1], volume("uint8").T)
    assert colour.meta["colour"] == "rgb"


def test_a_2d_file_has_depth_1_and_its_labels_are_2d_again(tmp_path: Path) -> None:
    path = patched(saved(tmp_path / "s.nii", volume("uint8", (6, 5))), pixdim=[1, 2, 1.5, 0, 0, 0, 0, 0])
    image = read_image(path)
    assert image.array.shape == (1, 1, 5, 6)
    assert image.is_2d
    write_labels(image, tmp_path / "l.nii", like=image)
    assert nib.load(tmp_path / "l.nii").shape == (6, 5)
    assert np.array_equal(read_labels(tmp_path / "l.nii").array, image.array)


def test_a_sheared_affine_is_kept_and_written_without_loss(tmp_path: Path) -> None:
    affine = AFFINE.copy()
    affine[0, 2] = 0.8
    image = read_image(saved(tmp_path / "tilt.nii", volume("uint8"), affine))
    assert not image.geometry.is_orthonormal()
    write_labels(image, tmp_path / "a.nii.gz", like=image)
    write_image(Image(image.array, image.geometry), tmp_path / "b.nii.gz")
    for name in ("a.nii.gz", "b.nii.gz"):
        np.testing.assert_allclose(nib.load(tmp_path / name).affine, affine, atol=1e-5)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_types_no_network_takes_are_refused(dtype: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="integer or float"):
        read_image(saved(tmp_path / "c.nii", volume("uint8").astype(dtype)))


def test_other_files_under_a_nifti_name_are_refused(tmp_path: Path) -> None:
    for content, reason in ((b"\x89PNG" + b"\0" * 400, "not a NIfTI"), (b"", "is empty"), (b"abc", "truncated")):
        (tmp_path / "x.nii").write_bytes(content)
        with pytest.raises(BadInputError, match=reason):
            read_image(tmp_path / "x.nii")
    patched(saved(tmp_path / "half.nii", volume()), magic=b"ni1")
    with pytest.raises(BadInputError, match=r"\.hdr/\.img"):
        read_image(tmp_path / "half.nii")


def test_a_gzip_file_under_a_plain_name_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.nii", volume())
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert np.array_equal(read_image(path).array[0], volume().T)


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    for content in (b"", gzip.compress(b"")):
        (tmp_path / "a.nii.gz").write_bytes(content)
        with pytest.raises(BadInputError, match=r"a\.nii\.gz is empty; copy"):
            read_image(tmp_path / "a.nii.gz")


def test_a_missing_file_and_an_unknown_ending_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"gone\.nii does not exist"):
        read_image(tmp_path / "gone.nii")
    (tmp_path / "x.docx").write_bytes(b"")
    with pytest.raises(BadInputError, match=r"x\.docx has an ending that is not read"):
        read_image(tmp_path / "x.docx")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = read_image(saved(tmp_path / "a.nii", volume("uint8")))
    write_labels(image, tmp_path / "l.nii.gz", like=image)
    before = (tmp_path / "l.nii.gz").read_bytes()

    def fail(self: nib.Nifti1Image, *_: object) -> None:
        self.file_map["image"].fileobj.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(nib.Nifti1Image, "to_file_map", fail)
    with pytest.raises(OSError, match="disk full"):
        write_labels(image, tmp_path / "l.nii.gz", like=image)
    assert (tmp_path / "l.nii.gz").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii", "l.nii.gz"]


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("field", "value", "times"), [("datatype", 4, "2"), ("datatype", 2, "4"), ("dim", (3, 6, 5, 2, 1, 1, 1, 1), "2")]
)
def test_a_header_that_says_less_than_the_file_holds_is_no_image_without_a_word(
    field: str, value: Any, times: str, ending: str, tmp_path: Path
) -> None:
    image = nib.Nifti1Image(np.random.default_rng(0).normal(size=(6, 5, 4)).astype(np.float32), np.eye(4))
    nib.save(image, tmp_path / "a.nii")
    whole = (tmp_path / "a.nii").read_bytes()
    header = nib.Nifti1Header(whole[:348], check=False)
    header[field] = value
    wrong = header.binaryblock + whole[348:]
    path = tmp_path / f"b{ending}"
    path.write_bytes(gzip.compress(wrong) if ending == ".nii.gz" else wrong)
    (finding,) = read_image(path).findings
    assert finding.code == "more_than_said" and finding.level == "warning"
    assert f"holds {times} times the bytes that its header says" in finding.text
    path.write_bytes(whole + bytes(100))  # padding is no doubt
    assert read_image(path).findings == ()
