"""The DICOM situations of users (``shared/cases``): each gives the value that its ``case.md`` states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image, find_cases, read_image

pytestmark = pytest.mark.real


def codes(image: Image) -> list[str]:
    return [finding.code for finding in image.findings]


@pytest.mark.parametrize("beside", ["seg", "rtdose", "screenshot"])
def test_06_other_objects_beside_a_ct(beside: str, cases: Path) -> None:
    folder = cases / "06-dicom-folder-with-other-objects" / f"ct_and_{beside}"
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), "1.2.3.4.5"))
    expected = sitk.GetArrayFromImage(reader.Execute())
    for series in (None, "1.2.3.4.5", "HEAD"):
        image = read_image(folder, series=series)
        assert np.array_equal(image.array[0], expected)
        assert codes(image) == ([] if series else ["slices_chosen"])


def test_07_orientation_noise_is_one_series(cases: Path) -> None:
    image = read_image(cases / "07-dicom-orientation-noise" / "series")
    assert image.geometry.shape[0] == 12
    assert image.geometry.spacing[0] == pytest.approx(5.0, abs=1e-3)


def test_09_radiographs_are_cases_of_their_own(cases: Path) -> None:
    folder = cases / "09-folder-of-radiographs" / "xrays"
    assert list(find_cases(folder)) == ["patient0", "patient1", "patient2"]


def test_19_enhanced_ct_and_ultrasound_cine(cases: Path) -> None:
    folder = cases / "19-multi-frame-dicom"
    image = read_image(folder / "enhanced_ct.dcm")
    reference = sitk.ReadImage(str(folder / "enhanced_ct.dcm"))
    assert np.array_equal(image.array[0], sitk.GetArrayFromImage(reference))
    assert image.geometry.spacing == (5.0, 4.0, 4.0)
    np.testing.assert_allclose(image.geometry.origin, reference.GetOrigin(), atol=1e-6)
    cine = read_image(folder / "us_cine.dcm")
    assert cine.geometry.shape == (3, 64, 80) and codes(cine) == ["frames_as_stack"]


def test_20_a_cd_and_a_cohort(cases: Path) -> None:
    folder = cases / "20-dicom-in-subfolders"
    assert list(find_cases(folder / "cd")) == ["cd"]
    assert list(find_cases(folder / "cohort")) == ["P001", "P002"]
    assert read_image(folder / "cd").geometry.shape[0] == 12


def test_23_two_slice_distances_are_called_that(cases: Path) -> None:
    with pytest.raises(BadInputError, match=r"two slice distances \(2\.5 mm .*, 5 mm"):
        read_image(cases / "23-variable-slice-distance" / "head_ct")
