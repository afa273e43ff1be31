"""Measurement reports: what they measure, and what an independent reader finds in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from series_making import PATIENT, blobs, labelled, oblique, write_volume

from meduniseg_core.dicom_objects import dicom_writers
from meduniseg_core.dicom_objects.measures import longest_diameter, measure_class
from meduniseg_core.images import Image, read_image

hd = pytest.importorskip("highdicom")

ROWS = [[0.1, 0.25, 1], [-0.3, 1, 0.2], [1, 0.1, -0.15]]
SHAPE, SPACING = (9, 21, 26), (3.3, 0.9, 0.75)


def test_the_longest_diameter_is_that_of_all_pairs_of_surface_points() -> None:
    random = np.random.default_rng(3)
    affine = oblique(SHAPE, SPACING, ROWS).geometry.affine
    for _ in range(5):
        inside = np.zeros(SHAPE, bool)
        inside[2:6, 3:12, 5:15] = random.random((4, 9, 10)) < 0.3
        faces = [place + step * sign / 2 for place in np.argwhere(inside) for step in np.eye(3) for sign in (-1, 1)]
        points = np.array(faces) @ affine[:3, :3].T
        brute = max(np.linalg.norm(points - point, axis=1).max() for point in points)
        assert longest_diameter(inside, affine) == pytest.approx(brute)


def test_a_single_voxel_and_a_single_plane() -> None:
    volume = oblique(SHAPE, SPACING, ROWS)
    inside = np.zeros(SHAPE, bool)
    assert measure_class(inside, volume) is None
    inside[4, 5, 6] = True
    assert longest_diameter(inside, volume.geometry.affine) == pytest.approx(max(SPACING))
    flat = oblique((1, 21, 26), SPACING, ROWS)
    plane = np.zeros((1, 21, 26), bool)
    plane[0, 5, 6:10] = True
    measured = measure_class(plane, flat)
    assert measured is not None
    assert measured.size == pytest.approx(4 * 0.9 * 0.75)
    assert measured.longest == pytest.approx(4 * 0.75)


def test_a_report_says_what_was_measured_and_refers_to_its_segmentation(tmp_path: Path) -> None:
    volume = oblique(SHAPE, SPACING, ROWS)
    values = np.random.default_rng(0).integers(-1000, 1000, (1, *SHAPE)).astype(np.int16)
    image = read_image(write_volume(tmp_path / "series", Image(values, volume.geometry)))
    labels = blobs(SHAPE)
    labels[labels == 2] = 0
    for name, write in dicom_writers([labelled(image, labels)], tmp_path / "case.sr.dcm").items():
        write(tmp_path / name)
    made = hd.sr.srread(tmp_path / "case.sr.dcm")
    segmentation = pydicom.dcmread(tmp_path / "case.seg.dcm")
    groups = made.content.get_volumetric_roi_measurement_groups()
    assert [group.finding_type.meaning for group in groups] == ["Liver", "Kidney", "Neoplasm"]
    assert [(item.name.meaning, item.value) for item in groups[1].get_measurements()] == [("Volume", 0)]  # none found
    for group, label in zip(groups[::2], (1, 3), strict=True):
        inside = labels == label
        got = {item.name.meaning: (item.value, item.unit.value) for item in group.get_measurements()}
        assert got["Volume"] == (pytest.approx(inside.sum() * np.prod(SPACING), rel=1e-6), "mm3")
        expected = longest_diameter(inside, image.geometry.affine)
        assert got["Maximum 3D Diameter of a Mesh"] == (pytest.approx(expected, rel=1e-6), "mm")
        mean = image.array[0][inside].mean(dtype=float)
        assert got["Attenuation Coefficient"] == (pytest.approx(mean, rel=1e-6), "[hnsf'U]")
        assert group.referenced_segment.referenced_sop_instance_uid == segmentation.SOPInstanceUID
        assert group.tracking_uid == segmentation.SegmentSequence[label - 1].TrackingUID
    assert all(str(made.get(keyword)) == value for keyword, value in PATIENT.items())
    assert made.StudyInstanceUID == segmentation.StudyInstanceUID
