"""Several tasks of one series: one segmentation, one structure set, one report, and each task's voxels come back."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from series_making import blobs, labelled, oblique, write_picture, write_volume

from meduniseg_core.dicom_objects import LabelledSeries, dicom_writers
from meduniseg_core.dicom_objects.labelled import PlacedLabels
from meduniseg_core.images import Image, place_labels, read_image, read_labels

hd = pytest.importorskip("highdicom")
ROWS = [[0.1, 0.25, 1], [-0.3, 1, 0.2], [1, 0.1, -0.15]]
SHAPE = (9, 21, 25)  # 525 pixels a plane: frames do not begin at whole bytes


def two_tasks(image: Image, shape: tuple[int, int, int], *, apart: bool = False) -> list[LabelledSeries]:
    organs = blobs(shape)
    lesions = np.where(organs == 1, 0, blobs(shape, seed=1) == 3).astype(np.uint8) * 2
    if apart:
        lesions[organs > 0] = 0
    lesions[[1, -1]] = 0  # planes that only the first task has
    changes = {"classes": {1: "cyst", 2: "tumour"}, "task": "lesions", "algorithm": "other", "colours": {}}
    return [labelled(image, organs), labelled(image, lesions, algorithm_sha256="cd" * 32, **changes)]


@pytest.mark.parametrize("kind", ["files", "reversed", "frames"])
@pytest.mark.parametrize("shape", [SHAPE, (9, 16, 24)], ids=["bits", "bytes"])
def test_an_independent_reader_finds_every_segment(tmp_path: Path, kind: str, shape: tuple[int, int, int]) -> None:
    image = read_image(write_volume(tmp_path / "s", oblique(shape, (3.3, 0.9, 0.75), ROWS), kind))
    parts = two_tasks(image, shape)
    path = tmp_path / "case.seg.dcm"
    dicom_writers(parts, path)[path.name](path)
    read = hd.seg.segread(path)
    assert read.number_of_segments == 5 and read.SegmentsOverlap == "YES"
    frames = image.meta["dicom_origin"].frames
    if kind == "frames":
        pixels = read.get_pixels_by_source_frame(
            frames[0].instance_uid,
            [frame.frame + 1 for frame in frames],
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
    else:
        pixels = read.get_pixels_by_source_instance(
            [frame.instance_uid for frame in frames],
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
    labels = PlacedLabels.of(parts)
    for segment in labels.segments:
        assert np.array_equal(pixels[..., segment.number - 1] > 0, labels.mask(segment)), segment
    names = [item.SegmentLabel for item in read.SegmentSequence]
    assert names == ["liver", "left kidney", "tumour (abdomen)", "cyst", "tumour (lesions)"]
    makers = [item.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName for item in read.SegmentSequence]
    assert makers == ["starter"] * 3 + ["other"] * 2
    parameters = str(read.SegmentSequence[4].SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters)
    assert "sha256=" + "cd" * 32 in parameters and "task=lesions" in parameters
    colours = {tuple(item.RecommendedDisplayCIELabValue) for item in read.SegmentSequence}
    assert len(colours) == 5
    indices = [
        tuple(frame.FrameContentSequence[0].DimensionIndexValues) for frame in read.PerFrameFunctionalGroupsSequence
    ]
    assert len(set(indices)) == len(indices) and max(index[1] for index in indices) == len({i[1] for i in indices})


@pytest.mark.parametrize("width", [15, 16], ids=["bits", "bytes"])
def test_tasks_of_a_picture_without_a_place_are_joined(tmp_path: Path, width: int) -> None:
    image = read_image(write_picture(tmp_path / "film.dcm", (21, width)))
    organs = blobs((5, 21, width))[1:2]
    lesions = np.roll(organs, 1, axis=2)
    parts = [labelled(image, organs), labelled(image, lesions, task="lesions")]
    path = tmp_path / "film.seg.dcm"
    dicom_writers(parts, path)[path.name](path)
    read = hd.seg.segread(path)
    assert read.SegmentsOverlap == "YES" and read.number_of_segments == 6
    uid = image.meta["dicom_origin"].frames[0].instance_uid
    pixels = read.get_pixels_by_source_instance([uid], ignore_spatial_locations=True)
    labels = PlacedLabels.of(parts)
    for segment in labels.segments:
        assert np.array_equal(pixels[..., segment.number - 1] > 0, labels.mask(segment)), segment


@pytest.mark.parametrize("ending", [".seg.dcm", ".rtstruct.dcm"])
def test_tasks_without_overlap_come_back_voxel_for_voxel(tmp_path: Path, ending: str) -> None:
    image = read_image(write_volume(tmp_path / "s", oblique(SHAPE, (3.3, 0.9, 0.75), ROWS)))
    parts = two_tasks(image, SHAPE, apart=True)
    path = tmp_path / f"case{ending}"
    dicom_writers(parts, path)[path.name](path)
    back = read_labels(path, like=image)
    placed, labels = place_labels(back, image).array[0], PlacedLabels.of(parts)
    names = {name: label for label, name in back.meta["class_names"].items()}
    for segment in labels.segments:
        assert np.array_equal(placed == names[segment.name], labels.mask(segment)), segment
    assert not [finding for finding in back.findings if finding.level == "warning"]
    if ending == ".seg.dcm":
        assert pydicom.dcmread(path).SegmentsOverlap == "NO"


def test_overlaps_are_reported_when_read(tmp_path: Path) -> None:
    image = read_image(write_volume(tmp_path / "s", oblique(SHAPE, (3.3, 0.9, 0.75), ROWS)))
    path = tmp_path / "case.seg.dcm"
    dicom_writers(two_tasks(image, SHAPE), path)[path.name](path)
    (finding,) = [finding for finding in read_labels(path, like=image).findings if finding.level == "warning"]
    assert "overlap" in finding.text and "tumour (lesions)" in finding.text


def test_a_task_without_a_voxel_is_described(tmp_path: Path) -> None:
    image = read_image(write_volume(tmp_path / "s", oblique(SHAPE, (3.3, 0.9, 0.75), ROWS)))
    full, empty = two_tasks(image, SHAPE)
    nothing = labelled(image, np.zeros(SHAPE, np.uint8), classes=empty.classes, task="lesions")
    for number, parts in enumerate(([full, nothing], [nothing, full], [nothing, nothing])):
        path = tmp_path / f"case{number}.seg.dcm"
        dicom_writers(parts, path)[path.name](path)
        read = hd.seg.segread(path)
        assert read.number_of_segments == sum(len(part.classes) for part in parts)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed (Debian package dicom3tools)")
def test_dciodvfy_finds_no_error_in_joint_objects(tmp_path: Path) -> None:
    shape = (5, 12, 15)
    image = read_image(write_volume(tmp_path / "s", oblique(shape, (2, 1, 1), [[0, 0, 1], [0, 1, 0], [1, 0, 0]])))
    for ending in (".sr.dcm", ".rtstruct.dcm"):
        for name, write in dicom_writers(two_tasks(image, shape), tmp_path / f"case{ending}").items():
            write(tmp_path / name)
            judged = subprocess.run(["dciodvfy", tmp_path / name], capture_output=True, text=True, timeout=60)
            assert "Error" not in judged.stdout + judged.stderr, judged.stderr
