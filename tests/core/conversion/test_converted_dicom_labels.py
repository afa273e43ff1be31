"""DICOM labels of a download: read by the readers of `images`, refused where they do not fit their image."""

from __future__ import annotations

from pathlib import Path

import miniature_files
import miniatures
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import MRImageStorage

from meduniseg_core.conversion.contours import structure_labels
from meduniseg_core.conversion.pet_ct import segmentation_labels
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image, read_image

Contours = dict[str, list[list[tuple[float, float, float]]]]

SQUARE = [(*point, 4.0) for point in miniatures.SQUARE]  # of slice 2
HOLE = [(*point, 4.0) for point in miniatures.HOLE]  # inside it


@pytest.fixture
def image(tmp_path: Path) -> Image:
    miniature_files.series(tmp_path / "mr", MRImageStorage, miniatures.mr(), uid="1.2.3.4", Modality="MR")
    return read_image(tmp_path / "mr")


def drawn(image: Image, folder: Path, contours: Contours, pattern: str = "TV") -> Image:
    miniature_files.structures(folder / "rtss.dcm", "1.2.3.4", contours)
    return structure_labels(folder / "rtss.dcm", pattern, image)


def square() -> np.ndarray:
    expected = np.zeros(miniature_files.SHAPE, bool)
    expected[2, 2:6, 2:7] = True
    return expected


def test_a_structure_keeps_what_another_one_overlaps(tmp_path: Path, image: Image) -> None:
    labels = drawn(image, tmp_path, {"TV": [SQUARE], "Cochlea": [HOLE]})
    assert np.array_equal(labels.array[0] == 1, square())


def test_structures_of_one_kind_are_joined(tmp_path: Path, image: Image) -> None:
    labels = drawn(image, tmp_path, {"TV left": [SQUARE], "TV right": [HOLE], "Cochlea": []}, "TV.*")
    assert np.array_equal(labels.array[0] == 1, square())


def test_what_other_structures_hold_does_not_matter(tmp_path: Path, image: Image) -> None:
    outside = [(x, y, 400.0) for x, y, _ in SQUARE]
    assert drawn(image, tmp_path, {"TV": [SQUARE], "Body": [outside]}).array.any()
    with pytest.raises(BadInputError, match=r"rtss\.dcm has contours outside mr"):
        drawn(image, tmp_path, {"TV": [outside], "Body": [SQUARE]})


def test_contours_between_two_slices_are_refused(tmp_path: Path, image: Image) -> None:
    between = [(x, y, 4.8) for x, y, _ in SQUARE]  # slices lie at 4 and 6 mm
    with pytest.raises(BadInputError, match=r"rtss\.dcm has contours that lie in no slice of its image"):
        drawn(image, tmp_path, {"TV": [SQUARE, between]})


def test_contours_of_one_or_two_points_mark_nothing_and_it_is_said(tmp_path: Path, image: Image) -> None:
    labels = drawn(image, tmp_path, {"TV": [SQUARE, SQUARE[:1], SQUARE[:2]]})
    assert np.array_equal(labels.array[0] == 1, square())
    assert "2 contours of fewer than three points" in labels.findings[0].text


def test_a_structure_that_is_not_there_is_named(tmp_path: Path, image: Image) -> None:
    with pytest.raises(BadInputError, match=r"no contours of the wanted structure \(there are: Cochlea, Body\)"):
        drawn(image, tmp_path, {"Cochlea": [SQUARE], "Body": [SQUARE]})


@pytest.mark.parametrize(
    ("element", "value", "reason"),
    [
        ("SegmentationType", "FRACTIONAL", "is not a binary DICOM segmentation"),
        ("ReferencedSeriesSequence", "9.9", "was drawn on another series"),
        ("ImagePositionPatient", [0.3, 0.0, 2.0], "0.3 mm beside the planes of mr"),
    ],
)
def test_segmentations_that_do_not_fit_are_refused(
    tmp_path: Path, image: Image, element: str, value: object, reason: str
) -> None:
    path = tmp_path / "seg.dcm"
    marked = miniature_files.blocks(1) > 0
    miniature_files.segmentation(path, marked, (2.0, 1.0, 1.0))
    assert np.array_equal(segmentation_labels(path, image).array[0] == 1, marked)
    dataset = dcmread(path)
    if element == "ImagePositionPatient":
        dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = value
    else:
        setattr(dataset, element, [miniature_files.item(SeriesInstanceUID=value)] if "Sequence" in element else value)
    dataset.save_as(path)
    with pytest.raises(BadInputError, match=reason):
        segmentation_labels(path, image)
