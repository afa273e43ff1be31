"""The real images: every file of the shared data is read, and agrees with nibabel, SimpleITK and Pillow."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
from PIL import Image as PillowImage

from meduniseg_core.images import canonical_orientation, find_cases, read_image, read_labels, write_image, write_labels

pytestmark = pytest.mark.real


def dataset_folders(data: Path) -> list[Path]:
    return sorted(path for path in data.glob("Dataset[12]*") if path.is_dir())


def test_the_geometry_set_agrees_with_nibabel_and_simpleitk(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "Dataset301_Geometry"
    for path in sorted(folder.glob("*.nii.gz")):
        image, reference, itk = read_image(path), nib.load(path), sitk.ReadImage(str(path))
        assert image.array.dtype == reference.get_data_dtype()
        assert np.array_equal(image.array[0], np.asarray(reference.dataobj).T)
        far = [size - 1 for size in image.geometry.shape]
        place = itk.TransformIndexToPhysicalPoint(far[::-1])
        np.testing.assert_allclose((image.geometry.affine @ [*far, 1])[:3], place, atol=1e-3)
        canonical, _ = canonical_orientation(image)
        labels = canonical.with_array((canonical.array > canonical.array.mean()).astype(np.uint8))
        write_labels(labels, tmp_path / "l.nii.gz", like=image)
        written = nib.load(tmp_path / "l.nii.gz")
        assert np.array_equal(written.affine, reference.affine)
        data = np.asarray(reference.dataobj)
        assert np.array_equal(np.asarray(written.dataobj), data > data.mean())


def test_the_dicom_series_agrees_with_gdcm(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "Dataset301_Geometry" / "ct_dicom_series"
    image = read_image(folder)
    # its series UID is empty, so GDCM's own sorting finds nothing: positions give the order
    files = sorted(folder.iterdir(), key=lambda path: sitk.ReadImage(str(path)).GetOrigin()[2])
    reference = sitk.ReadImage([str(path) for path in files])
    assert image.array.dtype == np.int16
    assert np.array_equal(image.array[0], sitk.GetArrayFromImage(reference))
    for ending in (".nii.gz", ".nrrd", ".mha"):
        write_image(image, tmp_path / f"ct{ending}")
        copy = sitk.ReadImage(str(tmp_path / f"ct{ending}"))
        np.testing.assert_allclose(copy.GetOrigin(), reference.GetOrigin(), atol=1e-5)
        np.testing.assert_allclose(copy.GetSpacing(), reference.GetSpacing(), atol=1e-5)
        np.testing.assert_allclose(copy.GetDirection(), reference.GetDirection(), atol=1e-5)
        assert np.array_equal(sitk.GetArrayFromImage(copy), image.array[0])
        assert np.array_equal(read_image(tmp_path / f"ct{ending}").array, image.array)
    assert list(find_cases(folder)) == ["ct_dicom_series"]


def test_a_slice_missing_from_the_real_series_is_noticed(shared_data: Path, tmp_path: Path) -> None:
    from meduniseg_core.errors import BadInputError

    files = sorted((shared_data / "Dataset301_Geometry" / "ct_dicom_series").iterdir())
    for path in files[:8] + files[9:]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(BadInputError, match=r"misses about 1 slice"):
        read_image(tmp_path)
    damaged = files[8].read_bytes()
    (tmp_path / files[8].name).write_bytes(damaged[: len(damaged) // 2])
    with pytest.raises(BadInputError, match=rf"{files[8].name} is truncated"):
        read_image(tmp_path)


def test_every_case_of_every_data_set_is_read_with_its_labels(shared_data: Path) -> None:
    folders = dataset_folders(shared_data)
    assert len(folders) == 21
    for folder in folders:
        description = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        cases = find_cases(folder / "imagesTr", description["file_ending"])
        assert len(cases) == description["numTraining"]
        for case, paths in list(cases.items())[:3]:
            image = read_image(paths)
            labels = read_labels(folder / "labelsTr" / f"{case}{description['file_ending']}")
            assert image.channels == len(description["channel_names"])
            assert labels.geometry.shape == image.geometry.shape
            assert labels.physical == image.physical
            assert labels.geometry.is_close(image.geometry, 1e-3)
            assert set(np.unique(labels.array)) <= set(description["labels"].values())
            if paths[0].suffix == ".png":
                with PillowImage.open(paths[0]) as picture:
                    pixels = np.asarray(picture)
                assert np.array_equal(np.moveaxis(image.array[:, 0], 0, -1).squeeze(), pixels)
