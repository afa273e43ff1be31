"""NumPy files: plain arrays only, and only as large as the file."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Geometry, Image, read_image, read_labels, write_image, write_labels


def saved(path: Path, array: np.ndarray, **options: bool) -> Path:
    np.save(path, array, **options)
    return path


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((6, 7), "uint8", (1, 1, 6, 7)),
        ((6, 7, 1), "uint8", (1, 1, 6, 7)),
        ((6, 7, 3), "uint8", (3, 1, 6, 7)),
        ((6, 7, 3), "int16", (1, 6, 7, 3)),
        ((5, 6, 7), "float32", (1, 5, 6, 7)),
        ((4, 5, 6, 7), "uint16", (4, 5, 6, 7)),
    ],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_shapes_mean_what_is_documented(
    shape: tuple[int, ...], dtype: str, expected: tuple[int, ...], order: str, tmp_path: Path
) -> None:
    data = np.asarray(np.random.default_rng(0).integers(0, 99, shape).astype(dtype), order=order)  # type: ignore[call-overload]
    image = read_image(saved(tmp_path / "a.npy", data))
    assert image.array.shape == expected
    assert image.array.dtype == np.dtype(dtype)
    assert not image.physical
    back = np.moveaxis(image.array[:, 0], 0, -1) if expected[0] == 3 else image.array.reshape(shape)
    assert np.array_equal(back, data)


def test_one_array_of_an_npz_is_read_and_several_refused(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(4, 5, 6))
    np.savez_compressed(tmp_path / "a.npz", volume=data)
    assert np.array_equal(read_image(tmp_path / "a.npz").array[0], data)
    np.savez(tmp_path / "b.npz", first=data, second=data)
    with pytest.raises(BadInputError, match=r"b\.npz holds 2 arrays"):
        read_image(tmp_path / "b.npz")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path(str(tmp_path / "sprung")).write_text, ("x",))

    path = saved(tmp_path / "o.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "o.npz", np.array([Trap()], dtype=object))
    for name in (path, tmp_path / "o.npz"):
        with pytest.raises(BadInputError, match="object values"):
            read_image(name)
    assert not (tmp_path / "sprung").exists()


def test_truncated_and_lying_files_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "cut.npy", np.ones((10, 10, 10)))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(BadInputError, match=r"cut\.npy is truncated"):
        read_image(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (30000,) * 3})
    (tmp_path / "big.npy").write_bytes(header.getvalue() + bytes(100))
    with pytest.raises(BadInputError, match="claims 27,000,000,000,000 bytes"):
        read_image(tmp_path / "big.npy")
    with zipfile.ZipFile(tmp_path / "big.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(100))
    with pytest.raises(BadInputError, match="claims 27,000,000,000,000 bytes"):
        read_image(tmp_path / "big.npz")
    (tmp_path / "x.npy").write_text("hello")
    (tmp_path / "x.npz").write_text("hello")
    for name in ("x.npy", "x.npz"):
        with pytest.raises(BadInputError, match=rf"{name} is"):
            read_image(tmp_path / name)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.ones(5), "shape"),
        (np.ones((5, 2, 3, 4)), "5 volumes"),
        (np.ones((2, 3), complex), "complex128"),
        (np.zeros((0, 3)), "empty"),
        (np.full((2, 3), np.inf), "6 voxels that are NaN or infinite"),
    ],
)
def test_arrays_that_are_no_image_are_refused(array: np.ndarray, reason: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=rf"a\.npy .*{reason}"):
        read_image(saved(tmp_path / "a.npy", array))


def test_label_values_are_checked_and_floats_with_whole_numbers_accepted(tmp_path: Path) -> None:
    whole = read_labels(saved(tmp_path / "f.npy", np.array([[0.0, 3.0], [300.0, 1.0]])))
    assert whole.array.dtype == np.uint16
    assert read_labels(saved(tmp_path / "b.npy", np.array([[True, False]]))).array.dtype == np.uint8
    assert read_labels(saved(tmp_path / "i.npy", np.array([[1, 2]], np.int32))).array.dtype == np.int32
    for array, reason in (
        (np.array([[0.5, 1]]), "fractional"),
        (np.array([[-1, 1]]), "between 0 and 65535"),
        (np.array([[0, 70000]]), "between 0 and 65535"),
        (np.ones((2, 3, 4, 5), np.uint8), "2 channels"),
    ):
        with pytest.raises(BadInputError, match=reason):
            read_labels(saved(tmp_path / "l.npy", array))


@pytest.mark.parametrize("bad", [-1.0, 0.5, 70000.0, np.nan])
def test_impossible_ids_are_not_written(bad: float, tmp_path: Path) -> None:
    labels = Image(np.full((1, 2, 3, 4), bad), Geometry((2, 3, 4), (1, 1, 1)))
    with pytest.raises(BadInputError, match=r"l\.nii\.gz"):
        write_labels(labels, tmp_path / "l.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_arrays_are_written_as_they_are_read(tmp_path: Path) -> None:
    for shape in ((1, 1, 6, 7), (1, 5, 6, 7), (2, 5, 6, 7)):
        image = Image(np.random.default_rng(0).normal(size=shape).astype(np.float16), Geometry(shape[1:], (1, 1, 1)))
        write_image(image, tmp_path / "a.npy")
        again = read_image(tmp_path / "a.npy")
        assert again.array.dtype == np.float16
        assert np.array_equal(again.array, image.array)


def test_what_may_be_a_picture_with_its_colours_last_is_said(tmp_path: Path) -> None:
    for shape, said in (((40, 60, 3), True), ((40, 60, 4), True), ((40, 60, 5), False), ((4, 5, 3), False)):
        image = read_image(saved(tmp_path / "p.npy", np.zeros(shape, np.float32)))
        assert image.geometry.shape == shape
        assert [finding.code for finding in image.findings] == (["axes_doubtful"] if said else [])


def test_what_may_be_a_picture_with_its_colours_first_is_said(tmp_path: Path) -> None:
    for shape, dtype, said in (
        ((3, 40, 60), np.uint8, True),
        ((3, 40, 60), np.float32, False),
        ((5, 40, 60), np.uint8, False),
    ):
        image = read_image(saved(tmp_path / "p.npy", np.zeros(shape, dtype)))
        assert image.geometry.shape == shape
        found = [finding.text for finding in image.findings if finding.code == "axes_doubtful"]
        assert len(found) == said and all("3 values a pixel" in text for text in found)


def test_ids_that_a_slope_made_inexact_are_ids(tmp_path: Path) -> None:
    """nibabel writes 0, 1.00002, 2 where floats are saved with the header of an integer image."""
    ids = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.float64)
    header = nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)).header
    nib.save(nib.Nifti1Image(ids, np.eye(4), header), tmp_path / "label.nii.gz")
    assert not np.array_equal(nib.load(tmp_path / "label.nii.gz").get_fdata(), ids)
    labels = read_labels(tmp_path / "label.nii.gz")
    assert labels.array.dtype == np.uint8 and np.array_equal(labels.array[0], ids.T)
