"""Segmentations and structure sets of other programs: overlaps, fractions, missing frames, holes, damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from series_making import blobs, labelled, oblique, write_volume

from meduniseg_core.dicom_objects import dicom_writers
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image, place_labels, read_image, read_labels

hd = pytest.importorskip("highdicom")

SHAPE, SPACING = (6, 12, 15), (2.5, 0.9, 0.7)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return read_image(write_volume(tmp_path / "series", oblique(SHAPE, SPACING, [[0, 0, 1], [0, 1, 0], [1, 0, 0]])))


def foreign(image: Image, pixels: np.ndarray, kind: str, path: Path, names: tuple[str, ...], **more: Any) -> Path:
    """A segmentation as highdicom writes it: ``pixels`` (D, H, W, segments)."""
    frames = image.meta["dicom_origin"].frames
    algorithm = hd.AlgorithmIdentificationSequence("other", codes.DCM.ArtificialIntelligence, "1")
    made = hd.seg.Segmentation(
        source_images=[pydicom.dcmread(frame.path) for frame in frames],
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=[
            hd.seg.SegmentDescription(number, name, codes.SCT.Tissue, codes.SCT.Liver, "AUTOMATIC", algorithm)
            for number, name in enumerate(names, start=1)
        ],
        series_instance_uid=hd.UID(),
        series_number=9,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="n",
        software_versions="1",
        device_serial_number="2",
        **more,
    )
    made.save_as(path)
    return path


def test_the_smaller_of_two_overlapping_segments_keeps_the_voxels_and_it_is_said(tmp_path: Path, image: Image) -> None:
    pixels = np.zeros((*SHAPE, 2), np.uint8)
    pixels[1:5, 2:10, 2:12, 1] = 1  # the organ comes second
    pixels[2:4, 4:6, 4:7, 0] = 1
    back = read_labels(foreign(image, pixels, "BINARY", tmp_path / "o.dcm", ("tumour", "liver")), like=image)
    expected = np.where(pixels[..., 0], 1, np.where(pixels[..., 1], 2, 0))
    assert np.array_equal(place_labels(back, image).array[0], expected)
    (finding,) = [item for item in back.findings if item.code == "labels_overlap"]
    assert "tumour over liver: 12 voxels" in finding.text and finding.level == "warning"


@pytest.mark.parametrize("syntax", [pydicom.uid.ExplicitVRLittleEndian, pydicom.uid.RLELossless])
def test_fractions_count_from_one_half(tmp_path: Path, image: Image, syntax: str) -> None:
    pixels = np.zeros((*SHAPE, 1), np.float32)
    pixels[1, 2, 3:6, 0] = 0.3, 0.6, 1.0
    path = foreign(image, pixels, "FRACTIONAL", tmp_path / "f.dcm", ("liver",), transfer_syntax_uid=syntax)
    back = place_labels(read_labels(path, like=image), image)
    assert np.argwhere(back.array[0]).tolist() == [[1, 2, 4], [1, 2, 5]]
    assert any("at least half" in finding.text for finding in back.findings)


def test_label_maps_of_the_standard_itself(tmp_path: Path, image: Image) -> None:
    labels = blobs(SHAPE)
    path = foreign(image, labels, "LABELMAP", tmp_path / "l.dcm", ("a", "b", "c"))
    back = read_labels(path, like=image)
    assert np.array_equal(place_labels(back, image).array[0], labels)
    assert back.meta["class_names"] == {1: "a", 2: "b", 3: "c"}


def test_frames_in_any_order_and_the_distance_that_no_header_gives(tmp_path: Path, image: Image) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 2:5, 2:5], labels[5, 3:8, 3:9] = 1, 1
    path = foreign(image, labels, "BINARY", tmp_path / "s.dcm", ("liver",))
    made = pydicom.dcmread(path)
    first, second = made.PerFrameFunctionalGroupsSequence
    made.PerFrameFunctionalGroupsSequence = [second, first]
    bits = np.unpackbits(np.frombuffer(made.PixelData, np.uint8), bitorder="little")[: 2 * 12 * 15].reshape(2, -1)
    made.PixelData = np.packbits(bits[::-1].ravel(), bitorder="little").tobytes() + b"\0"
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.pop("SpacingBetweenSlices", None)
    measures.SliceThickness = 7
    made.save_as(path)
    assert np.array_equal(place_labels(read_labels(path, like=image), image).array[0], labels)
    with pytest.raises(BadInputError, match="lies on another grid"):  # four planes apart: nothing else is known
        place_labels(read_labels(path), image)


def test_contours_inside_contours_are_holes_and_open_ones_are_left_out(tmp_path: Path, image: Image) -> None:
    for name, write in dicom_writers([labelled(image, np.ones(SHAPE, np.uint8))], tmp_path / "r.rtstruct.dcm").items():
        write(tmp_path / name)
    made = pydicom.dcmread(tmp_path / "r.rtstruct.dcm")
    made.StructureSetROISequence = made.StructureSetROISequence[:1]
    made.RTROIObservationsSequence = made.RTROIObservationsSequence[:1]
    region = made.ROIContourSequence[0]
    made.ROIContourSequence = [region]

    def contour(plane: int, corners: list[tuple[float, float]], kind: str = "CLOSED_PLANAR") -> pydicom.Dataset:
        index = np.array([(plane, row, column, 1) for row, column in corners])
        item = pydicom.Dataset()
        item.ContourGeometricType, item.NumberOfContourPoints = kind, len(corners)
        item.ContourData = [f"{value:.8g}" for value in (index @ image.geometry.affine.T)[:, :3].ravel()]
        return item

    outer = [(1.5, 1.5), (1.5, 9.5), (8.5, 9.5), (8.5, 1.5)]
    inner = [(3.5, 3.5), (3.5, 6.5), (5.5, 6.5), (5.5, 3.5)]
    region.ContourSequence = [contour(2, outer), contour(2, inner[::-1]), contour(3, outer[:3], "OPEN_PLANAR")]
    made.save_as(tmp_path / "x.dcm")
    back = read_labels(tmp_path / "x.dcm", like=image)
    expected = np.zeros(SHAPE, bool)
    expected[2, 2:9, 2:10] = True
    expected[2, 4:6, 4:7] = False
    assert np.array_equal(back.array[0] > 0, expected)
    assert [finding.code for finding in back.findings] == ["labels_left_out"]
    region.ContourSequence = [contour(9, outer)]
    made.save_as(tmp_path / "x.dcm")
    with pytest.raises(BadInputError, match=r"contours outside series \(at plane 9.0 of 6\)"):
        read_labels(tmp_path / "x.dcm", like=image)
    with pytest.raises(BadInputError, match=r"holds contours, .*; open both in napari and save the labels"):
        read_labels(tmp_path / "x.dcm")


def test_damaged_objects_are_refused_in_one_sentence(tmp_path: Path, image: Image) -> None:
    path = foreign(image, blobs(SHAPE), "BINARY", tmp_path / "d.dcm", ("a", "b", "c"))

    def broken(**elements: Any) -> Path:
        made = pydicom.dcmread(path)
        for keyword, value in elements.items():
            setattr(made, keyword, value)
        made.save_as(tmp_path / "broken.dcm")
        return tmp_path / "broken.dcm"

    made = pydicom.dcmread(path)
    far = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    far[0].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 1e9]
    for case in (
        {"PixelData": made.PixelData[:4]},
        {"NumberOfFrames": 4000},
        {"PerFrameFunctionalGroupsSequence": far},
        {"SegmentationType": "OTHER"},
        {"Rows": 0},
    ):
        with pytest.raises(BadInputError, match=r"^broken\.dcm .*[.]$") as caught:
            read_labels(broken(**case), like=image)
        assert "\n" not in str(caught.value)
    (tmp_path / "cut.dcm").write_bytes(path.read_bytes()[:1500])
    with pytest.raises(BadInputError, match=r"cut\.dcm"):
        read_labels(tmp_path / "cut.dcm", like=image)


def test_a_nifti_of_the_same_scan_takes_them_by_position(tmp_path: Path, image: Image) -> None:
    from meduniseg_core.images import write_image

    labels = blobs(SHAPE)
    path = foreign(image, labels, "BINARY", tmp_path / "n.dcm", ("a", "b", "c"))
    write_image(image, tmp_path / "scan.nii.gz")
    scan = read_image(tmp_path / "scan.nii.gz")
    back = read_labels(path, like=scan)
    assert [finding.code for finding in back.findings] == ["labels_of_other_series"]
    assert np.count_nonzero(place_labels(back, scan).array) == np.count_nonzero(labels)
