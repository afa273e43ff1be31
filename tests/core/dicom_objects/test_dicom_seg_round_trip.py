"""Labels -> DICOM object -> labels: the same voxels, for every way in which a series can lie and be stored."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from series_making import PATIENT, blobs, labelled, oblique, write_volume

from meduniseg_core.dicom_objects import DICOM_FORMATS, LabelledSeries, dicom_writers
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Geometry, Image, canonical_orientation, place_labels, read_image, read_labels

hd = pytest.importorskip("highdicom")

AXIAL = [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
CORONAL = [[0, 0, 1], [1, 0, 0], [0, -1, 0]]
SAGITTAL = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
OBLIQUE = [[0.1, 0.25, 1], [-0.3, 1, 0.2], [1, 0.1, -0.15]]
SHAPE, SPACING = (9, 21, 26), (3.3, 0.9, 0.75)


def save(labels: LabelledSeries, path: Path) -> Path:
    for name, write in dicom_writers([labels], path).items():
        write(path.with_name(name))
    return path


@pytest.fixture
def volume() -> Image:
    return oblique(SHAPE, SPACING, OBLIQUE)


@pytest.mark.parametrize("rows", [AXIAL, CORONAL, SAGITTAL, OBLIQUE], ids=["axial", "coronal", "sagittal", "oblique"])
@pytest.mark.parametrize("kind", ["files", "reversed", "frames"])
@pytest.mark.parametrize("ending", [".seg.dcm", ".rtstruct.dcm"])
def test_labels_come_back_as_they_went(tmp_path: Path, rows: list[list[float]], kind: str, ending: str) -> None:
    image = read_image(write_volume(tmp_path / "series", oblique(SHAPE, SPACING, rows), kind))
    labels = blobs(image.geometry.shape)
    back = read_labels(save(labelled(image, labels), tmp_path / f"case{ending}"), like=image)
    assert np.array_equal(place_labels(back, image).array[0], labels)
    assert back.meta["class_names"] == {1: "liver", 2: "left kidney", 3: "tumour"}
    assert back.meta["class_colours"] == {1: (230, 25, 75), 2: (60, 180, 75), 3: (0, 130, 200)}
    assert not [finding for finding in back.findings if finding.level == "warning"]


def test_a_tilted_gantry_comes_back(tmp_path: Path) -> None:
    affine = oblique(SHAPE, SPACING, AXIAL).geometry.affine.copy()
    affine[1, 0] += 0.8
    image = read_image(
        write_volume(tmp_path / "s", Image(np.ones((1, *SHAPE), np.int16), Geometry.from_affine(affine, SHAPE)))
    )
    assert image.meta["sheared"]
    labels = blobs(image.geometry.shape)
    for ending in (".seg.dcm", ".rtstruct.dcm"):
        back = read_labels(save(labelled(image, labels), tmp_path / f"c{ending}"), like=image)
        assert np.array_equal(place_labels(back, image).array[0], labels)


def test_a_segmentation_alone_lies_where_it_was(tmp_path: Path, volume: Image) -> None:
    """Without its series, planes that were left out are found by the distance that the header gives."""
    image = read_image(write_volume(tmp_path / "series", volume))
    labels = np.zeros(SHAPE, np.uint8)
    labels[2, 3:6, 4:9], labels[6, 2:4, 2:4] = 1, 2
    back = read_labels(save(labelled(image, labels), tmp_path / "case.seg.dcm"))
    assert back.geometry.shape == (5, *SHAPE[1:])
    assert np.array_equal(place_labels(back, image).array[0], labels)


def test_one_plane_and_no_voxel(tmp_path: Path, volume: Image) -> None:
    image = read_image(write_volume(tmp_path / "series", volume))
    one = np.zeros(SHAPE, np.uint8)
    one[4, 5:9, 6:12] = 3
    for number, labels in enumerate((one, np.zeros_like(one))):
        for ending in (".seg.dcm", ".rtstruct.dcm"):
            back = read_labels(save(labelled(image, labels), tmp_path / f"case{number}{ending}"), like=image)
            assert np.array_equal(place_labels(back, image).array[0], labels)
            assert set(back.meta["class_names"].values()) == {"liver", "left kidney", "tumour"}


def test_an_independent_reader_sees_the_same(tmp_path: Path, volume: Image) -> None:
    """highdicom's own reader gives the same masks for the same source images, and the codes and the algorithm."""
    image = read_image(write_volume(tmp_path / "series", volume, "reversed"))
    labels = blobs(SHAPE)
    read = hd.seg.segread(save(labelled(image, labels), tmp_path / "case.seg.dcm"))
    uids = [frame.instance_uid for frame in image.meta["dicom_origin"].frames]
    pixels = read.get_pixels_by_source_instance(
        uids, combine_segments=True, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(pixels, labels)
    liver, kidney, tumour = (read.get_segment_description(number) for number in (1, 2, 3))
    assert (liver.segmented_property_type.value, liver.segmented_property_type.scheme_designator) == ("10200004", "SCT")
    assert (
        kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    )
    assert tumour.segmented_property_category.value == "49755003"
    (algorithm,) = liver.algorithm_identification
    assert algorithm.AlgorithmName == "starter" and f"sha256={'ab' * 32}" in str(algorithm.AlgorithmParameters)


@pytest.mark.parametrize("ending", [".seg.dcm", ".rtstruct.dcm"])
def test_identity_is_carried_over_and_nothing_is_invented(tmp_path: Path, volume: Image, ending: str) -> None:
    odd = {"PatientSex": "unknown", "StudyDate": "2020.01.02", "InstitutionName": "a hospital"}
    image = read_image(write_volume(tmp_path / "series", volume, **odd))
    warnings.simplefilter("ignore")  # the values below are no valid ones
    source = pydicom.dcmread(tmp_path / "series" / "IM0000.dcm")
    made = [pydicom.dcmread(save(labelled(image, blobs(SHAPE)), tmp_path / f"{name}{ending}")) for name in "ab"]
    for keyword in (*PATIENT, "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"):
        assert str(made[0].get(keyword)) == str(source.get(keyword)), keyword
    assert made[0].FrameOfReferenceUID == source.FrameOfReferenceUID
    assert "InstitutionName" not in made[0] and "OperatorName" not in made[0]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        uids = {made[0].get(keyword), made[1].get(keyword), source.get(keyword)}
        assert len(uids) == 3, keyword
    assert made[0].SeriesNumber in (401, 402)


def test_headers_without_a_patient_stay_without_one(tmp_path: Path, volume: Image) -> None:
    image = read_image(write_volume(tmp_path / "series", volume, **dict.fromkeys([*PATIENT, "StudyID", "StudyDate"])))
    for ending in (".seg.dcm", ".rtstruct.dcm"):
        made = pydicom.dcmread(save(labelled(image, blobs(SHAPE)), tmp_path / f"a{ending}"))
        assert all(not made[keyword].value for keyword in (*PATIENT, "StudyID", "StudyDate"))


def test_ids_with_gaps_are_numbered_in_their_order(tmp_path: Path, volume: Image) -> None:
    image = read_image(write_volume(tmp_path / "series", volume))
    wide = blobs(SHAPE).astype(np.uint16)
    wide[wide == 2] = 300
    path = save(labelled(image, wide, classes={1: "liver", 300: "cyst"}), tmp_path / "c.seg.dcm")
    back = read_labels(path, like=image)
    assert back.meta["class_names"] == {1: "liver", 2: "label 3", 3: "cyst"}
    assert np.array_equal(place_labels(back, image).array[0] == 3, wide == 300)


@pytest.mark.parametrize("ending", [".seg.dcm", ".rtstruct.dcm"])
def test_another_patients_series_is_refused(tmp_path: Path, volume: Image, ending: str) -> None:
    image = read_image(write_volume(tmp_path / "series", volume))
    other = read_image(write_volume(tmp_path / "other", volume))
    path = save(labelled(image, blobs(SHAPE)), tmp_path / f"case{ending}")
    with pytest.raises(BadInputError, match=r"was drawn on another series .* give the series that it belongs to"):
        read_labels(path, like=other)


def test_another_series_of_the_same_frame_of_reference_is_said(tmp_path: Path, volume: Image) -> None:
    shared = {"FrameOfReferenceUID": "1.2.3.4", "StudyInstanceUID": "1.2.3.5"}
    image = read_image(write_volume(tmp_path / "series", volume, **shared))
    other = read_image(write_volume(tmp_path / "other", volume, **shared))
    for ending in (".seg.dcm", ".rtstruct.dcm"):
        back = read_labels(save(labelled(image, blobs(SHAPE)), tmp_path / f"case{ending}"), like=other)
        assert [finding.code for finding in back.findings] == ["labels_of_other_series"]
        assert back.findings[0].level == "warning"
        assert np.array_equal(place_labels(back, other).array[0], blobs(SHAPE))


def test_what_is_no_dicom_series_is_refused_in_one_sentence(tmp_path: Path, volume: Image) -> None:
    for kind in DICOM_FORMATS.values():
        with pytest.raises(BadInputError, match="was not read from DICOM, so no DICOM object can refer to it"):
            dicom_writers([labelled(volume, blobs(SHAPE))], tmp_path / f"case{kind.ending}")
    image = read_image(write_volume(tmp_path / "bare", volume, FrameOfReferenceUID=None))
    for kind in DICOM_FORMATS.values():
        with pytest.raises(BadInputError, match="does not say where it lies in the patient"):
            dicom_writers([labelled(image, blobs(SHAPE))], tmp_path / f"case{kind.ending}")
    gone = read_image(write_volume(tmp_path / "gone", volume))
    (tmp_path / "gone" / "IM0003.dcm").unlink()
    with pytest.raises(BadInputError, match=r"IM0003.dcm cannot be read"):
        dicom_writers([labelled(gone, blobs(SHAPE))], tmp_path / "case.seg.dcm")


def test_all_that_an_anonymous_series_lacks_is_named_at_once(tmp_path: Path, volume: Image) -> None:
    image = read_image(write_volume(tmp_path / "bare", volume, StudyInstanceUID="", SeriesInstanceUID=""))
    with pytest.raises(BadInputError, match="lacks StudyInstanceUID, SeriesInstanceUID "):
        dicom_writers([labelled(image, blobs(SHAPE))], tmp_path / "case.seg.dcm")


@pytest.mark.parametrize("ending", [".seg.dcm", ".sr.dcm"])
def test_a_class_that_only_the_meta_group_names_is_enough(tmp_path: Path, volume: Image, ending: str) -> None:
    folder = write_volume(tmp_path / "series", volume)
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.SOPClassUID = ""
        header.save_as(path, enforce_file_format=False)
    result = labelled(read_image(folder), blobs(SHAPE))
    for name, write in dicom_writers([result], tmp_path / f"case{ending}").items():
        write(tmp_path / name)
    assert (tmp_path / f"case{ending}").is_file()


@pytest.fixture(scope="module")
def real_ct(shared_data: Path) -> tuple[Image, np.ndarray]:
    """A real CT in its canonical orientation, and the organs that another model found."""
    folder = shared_data / "Dataset301_Geometry"
    axial = canonical_orientation(read_image(folder / "ct.nii.gz"))[0]
    organs = place_labels(read_labels(folder / "ct_organs_reference.nii.gz"), axial)
    return axial, organs.array[0]


@pytest.mark.parametrize(
    ("axes", "kind"),
    [
        ((0, 1, 2), "reversed"),
        ((0, 1, 2), "frames"),
        ((1, 0, 2), "files"),
        ((2, 0, 1), "reversed"),
        ("oblique", "frames"),
    ],
    ids=["axial-reversed", "axial-frames", "coronal", "sagittal-reversed", "oblique-frames"],
)
def test_real_ct_slices_come_back(
    tmp_path: Path, real_ct: tuple[Image, np.ndarray], axes: tuple[int, int, int] | str, kind: str
) -> None:
    """Planes of a real CT with made-up headers: voxel for voxel, also through contours."""
    ct, organs = real_ct
    order = (0, 1, 2) if isinstance(axes, str) else axes
    values, labels = ct.array[0].transpose(order), organs.transpose(order)
    affine = ct.geometry.affine[:, [*order, 3]].copy()
    if isinstance(axes, str):
        turn, _ = np.linalg.qr(np.array(OBLIQUE).T)
        affine[:3, :3] = turn @ affine[:3, :3]
    middle = int(np.argmax(np.count_nonzero(labels, axis=(1, 2))))
    first = max(0, min(middle - 5, labels.shape[0] - 10))
    planes = slice(first, first + 10)
    affine[:3, 3] += affine[:3, 0] * planes.start
    values, labels = np.ascontiguousarray(values[planes]), np.ascontiguousarray(labels[planes])
    grid = Geometry.from_affine(affine, values.shape)
    image = read_image(write_volume(tmp_path / "series", Image(values[None], grid), kind))
    aligned = place_labels(Image(labels[None], grid), image).array[0]
    found = [int(label) for label in np.unique(labels) if label]
    assert len(found) > 5
    whole = labelled(image, aligned, classes={label: f"organ {label}" for label in found}, colours={})
    for ending in (".seg.dcm", ".rtstruct.dcm"):
        back = place_labels(read_labels(save(whole, tmp_path / f"case{ending}"), like=image), image)
        names = back.meta["class_names"]
        assert len(names) == len(found)
        for label, name in names.items():
            assert np.array_equal(back.array[0] == label, aligned == int(name.split()[1])), (ending, name)
