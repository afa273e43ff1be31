"""Several images in one source: series and frames are chosen, never guessed, in every format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its usual name
import tifffile
from dicom_making import dataset_of, enhanced, frame_item, save, write_slice, write_stack
from pydicom.tag import Tag
from pydicom.uid import (
    EnhancedMRImageStorage,
    EnhancedUSVolumeStorage,
    MRImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image, SeveralImagesError, read_image, write_labels

UNPLACED = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
FRAMES = np.arange(6 * 3 * 4 * 5, dtype=np.int16).reshape(6, 3, 4, 5)
"""Six time points of (D, H, W) = 3 x 4 x 5."""


def codes(image: Image) -> list[str]:
    return [finding.code for finding in image.findings]


def write_nifti(path: Path) -> None:
    nib.Nifti1Image(np.transpose(FRAMES, (3, 2, 1, 0)), np.diag([2.0, 2, 3, 1])).to_filename(path)


def write_itk(path: Path) -> None:
    sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(frame) for frame in FRAMES]), str(path))


def write_tiff(path: Path) -> None:
    tifffile.imwrite(path, FRAMES.astype(np.uint16), imagej=True, metadata={"axes": "TZYX"})


def write_numpy(path: Path) -> None:
    np.save(path, FRAMES)


WRITERS = {
    "a.nii": write_nifti,
    "a.nii.gz": write_nifti,
    "a.nrrd": write_itk,
    "a.mha": write_itk,
    "a.tif": write_tiff,
    "a.npy": write_numpy,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_time_series_of_any_format_asks_for_the_frame_and_gives_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    with pytest.raises(SeveralImagesError, match="--frame 1 to 6") as refused:
        read_image(path)
    assert [choice.frame for choice in refused.value.choices] == [1, 2, 3, 4, 5, 6]
    for frame in (1, 2, 6):
        image = read_image(path, frame=frame)
        assert image.array.shape == (1, 3, 4, 5)
        assert np.array_equal(image.array[0], FRAMES[frame - 1])
        assert f"{name}: frame {frame} of 6 is read." in [finding.text for finding in image.findings]
    for frame in (0, 7):
        with pytest.raises(BadInputError, match=f"no frame {frame} in {name}: it holds frames 1 to 6"):
            read_image(path, frame=frame)


def test_one_of_few_volumes_can_be_chosen_and_a_single_image_has_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "two.nii.gz"
    nib.Nifti1Image(np.transpose(FRAMES[:2], (3, 2, 1, 0)), np.eye(4)).to_filename(path)
    assert read_image(path).channels == 2
    assert np.array_equal(read_image(path, frame=2).array[0], FRAMES[1])
    single = tmp_path / "one.nii.gz"
    nib.Nifti1Image(np.transpose(FRAMES[0]), np.eye(4)).to_filename(single)
    assert codes(read_image(single, frame=1)) == codes(read_image(single))
    labels = read_image(path, frame=2).with_array(np.ones((1, 3, 4, 5), np.uint8))
    write_labels(labels, tmp_path / "l.nii.gz", like=labels)
    assert nib.load(tmp_path / "l.nii.gz").shape == (5, 4, 3)
    with pytest.raises(BadInputError, match=r"no frame 2 in one\.nii\.gz: it holds one image"):
        read_image(single, frame=2)


def test_a_header_that_claims_billions_of_frames_costs_nothing(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header["dim"] = [7, 4, 4, 4, 32767, 32767, 32767, 32767]
    header["pixdim"][1:4], header["magic"], header["vox_offset"] = 1, b"n+1", 352
    (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(68))
    with pytest.raises(SeveralImagesError, match="at most 4 channels") as refused:
        read_image(tmp_path / "a.nii")
    assert len(refused.value.choices) == 1000
    with pytest.raises(BadInputError, match="truncated or its header is wrong"):
        read_image(tmp_path / "a.nii", frame=1)


def test_a_truncated_time_series_is_refused_whatever_frame_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    write_nifti(path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(BadInputError, match="truncated"):
        read_image(path, frame=1)


def cine(frames: int = 5, **elements: Any) -> Any:
    planes = np.arange(frames * 30, dtype=np.uint8).reshape(frames, 5, 6)
    own = {"Modality": "US", "NumberOfFrames": frames, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, **UNPLACED}
    own |= {"RescaleSlope": None, "RescaleIntercept": None, "SliceThickness": None, "PixelData": planes.tobytes()}
    return dataset_of(UltrasoundMultiFrameImageStorage, **{**own, **elements})


def test_a_picture_of_a_cine_is_chosen_by_its_number(tmp_path: Path) -> None:
    path = save(cine(FrameTime=40), tmp_path / "us.dcm")
    whole = read_image(path)
    assert whole.geometry.shape[0] == 5 and whole.meta["frames_over_time"]
    picture = read_image(path, frame=4)
    assert picture.is_2d and np.array_equal(picture.array[0, 0], whole.array[0, 3])
    assert not picture.meta["frames_over_time"] and picture.meta["frame"] == 4
    assert [finding.text for finding in picture.findings] == ["us.dcm: frame 4 of 5 is read."]
    with pytest.raises(BadInputError, match="it holds frames 1 to 5"):
        read_image(path, frame=6)


@pytest.mark.parametrize(
    ("elements", "over_time", "warned"),
    [
        ({}, True, "frames_as_stack"),  # an ultrasound multi-frame file that says nothing
        ({"CineRate": 30}, True, "frames_as_stack"),
        ({"FrameIncrementPointer": Tag("FrameTimeVector"), "SliceThickness": 1}, True, "frames_as_stack"),
        ({"FrameIncrementPointer": Tag("SliceLocation")}, False, "frames_as_stack"),
        ({"SpacingBetweenSlices": 0.5}, False, "orientation_unknown"),
        ({"SpacingBetweenSlices": 0.5, "CineRate": 30}, False, "orientation_unknown"),
        ({"SliceThickness": 0.5}, False, "orientation_unknown"),
        ({"SpacingBetweenSlices": 0.5, "PixelSpacing": None}, False, "frames_as_stack"),
    ],
)
def test_ultrasound_frames_with_a_distance_are_a_volume(
    elements: dict[str, Any], over_time: bool, warned: str, tmp_path: Path
) -> None:
    image = read_image(save(cine(**elements), tmp_path / "us.dcm"))
    assert image.meta["frames_over_time"] == over_time
    assert codes(image) == [warned]
    assert ("over time" in image.findings[0].text) == over_time
    if warned == "orientation_unknown":
        assert image.physical and image.geometry.spacing == (0.5, 0.8, 0.6)


def ultrasound_volume(times: int, **elements: Any) -> Any:
    frames = [
        frame_item(
            PlanePositionVolume={"ImagePositionVolume": [0, 0, 1.5 * place]},
            PlaneOrientationVolume={"ImageOrientationVolume": [1, 0, 0, 0, 1, 0]},
            TemporalPosition={"TemporalPositionTimeOffset": 0.04 * time},
        )
        for time in range(times)
        for place in (2, 0, 1)
    ]
    planes = np.arange(3 * times)[:, None, None] * np.ones((5, 6))
    shared = frame_item(PixelMeasures={"PixelSpacing": [0.8, 0.6]})
    own = {"Modality": "US", "SharedFunctionalGroupsSequence": [shared], "FrameTime": 40, **elements}
    dataset = enhanced(frames, planes, **own)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedUSVolumeStorage
    return dataset


def test_an_enhanced_ultrasound_volume_is_a_volume_by_its_frames_places(tmp_path: Path) -> None:
    image = read_image(save(ultrasound_volume(1), tmp_path / "us3d"))
    assert image.geometry.shape == (3, 5, 6) and image.geometry.spacing == (1.5, 0.8, 0.6)
    assert image.array[0, :, 0, 0].tolist() == [1, 2, 0]
    assert not image.meta["frames_over_time"] and not image.meta["orientation_known"]
    assert codes(image) == ["orientation_unknown"]
    path = save(ultrasound_volume(3), tmp_path / "us4d")
    with pytest.raises(SeveralImagesError, match="--frame 1 to 3"):
        read_image(path)
    assert read_image(path, frame=3).array[0, :, 0, 0].tolist() == [7, 8, 6]


def write_phases(folder: Path, jitter: float = 0.0, **elements: Any) -> Path:
    """Three slices at each of four trigger times, in files whose names say nothing of it."""
    for phase in range(4):
        for place in range(3):
            time = round(120.0 * phase + jitter * place, 3)
            name = f"IM{(phase * 5 + place * 7) % 13:02d}{phase}{place}"
            own = {"TriggerTime": time, "Modality": "MR", **elements}
            write_slice(folder, name, (0, 0, 8.0 * place), value=100 * phase + place, **own)
    return folder


@pytest.mark.parametrize("jitter", [0.0, 0.7])
def test_cardiac_phases_in_one_series_are_frames(jitter: float, tmp_path: Path) -> None:
    folder = write_phases(tmp_path / "cine", jitter)
    with pytest.raises(SeveralImagesError, match=r"4 slices at each of 3 places .*TriggerTime 0 to TriggerTime 360"):
        read_image(folder)
    image = read_image(folder, frame=3)
    assert image.geometry.shape == (3, 5, 6) and image.geometry.spacing[0] == 8.0
    assert (image.array[0, :, 0, 0] + 1024).tolist() == [200, 201, 202]
    assert image.findings[0].text == "cine: frame 3 of 4 (TriggerTime 240) is read."
    assert np.array_equal(read_image(folder, series="4", frame=3).array, image.array)


def test_what_nothing_tells_apart_stays_refused(tmp_path: Path) -> None:
    folder = write_phases(tmp_path / "cine", TriggerTime=5)
    with pytest.raises(BadInputError, match="several slices at one place"):
        read_image(folder)
    folder = write_phases(tmp_path / "gone")
    next(iter(sorted(folder.iterdir()))).unlink()
    with pytest.raises(BadInputError, match="several slices at one place"):
        read_image(folder, frame=1)


def test_volumes_that_take_two_marks_to_tell_are_told(tmp_path: Path) -> None:
    number = 0
    for echo in (2.5, 5.0):
        for kind in ("M", "P"):
            for place in range(3):
                own = {"EchoTime": echo, "ImageType": ["ORIGINAL", "PRIMARY", kind]}
                write_slice(tmp_path / "mr", f"s{number}", (0, 0, 4.0 * place), value=number, **own)
                number += 1
    image = read_image(tmp_path / "mr", frame=3)
    assert (image.array[0, :, 0, 0] + 1024).tolist() == [6, 7, 8]
    assert "EchoTime 5, ImageType ORIGINAL" in image.findings[0].text


def test_volumes_of_an_enhanced_file_are_frames_in_the_order_of_their_times(tmp_path: Path) -> None:
    frames, planes = [], []
    for time in (10, 2, 9):
        for height in (6.0, 0.0, 3.0):
            place = {"ImagePositionPatient": [0, 0, height]}
            frames.append(frame_item(PlanePosition=place, FrameContent={"TemporalPositionIndex": time}))
            planes.append(np.full((5, 6), 10 * time + height))
    dataset = enhanced(frames, np.array(planes), Modality="MR")
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    path = save(dataset, tmp_path / "mr.dcm")
    with pytest.raises(SeveralImagesError, match="pick one with --series or --frame 1 to 3"):
        read_image(path)
    assert read_image(path, frame=1).array[0, :, 0, 0].tolist() == [20, 23, 26]
    assert read_image(path, frame=3).array[0, :, 0, 0].tolist() == [100, 103, 106]
    assert "TemporalPositionIndex 10" in read_image(path, frame=3).findings[0].text
    with pytest.raises(BadInputError, match="one by its # or with --frame 1 to 3"):
        read_image(path, series="4")
    assert read_image(path, series="4", frame=2).array[0, 0, 0, 0] == 90


def test_series_of_a_flat_folder_are_listed_and_chosen_and_may_have_frames(tmp_path: Path) -> None:
    folder = write_stack(tmp_path / "study", [0.0, 3.0, 6.0])
    mr = generate_uid()
    write_phases(folder, SeriesInstanceUID=mr, SeriesNumber=7, SeriesDescription="cine sa", SOPClassUID=MRImageStorage)
    with pytest.raises(SeveralImagesError, match=r"number 7 'cine sa', 12 images .*UID.*--series") as refused:
        read_image(folder)
    assert {choice.title for choice in refused.value.choices} == {
        "series 4 'Thorax' (3 images of 5x6)",
        "series 7 'cine sa' (12 images of 5x6)",
    }
    for choice in refused.value.choices:
        if "cine" not in choice.title:
            assert read_image(folder, series=choice.series).geometry.spacing[0] == 3.0
        else:
            with pytest.raises(SeveralImagesError) as frames:
                read_image(folder, series=choice.series)
            assert [(one.series, one.frame) for one in frames.value.choices] == [
                (choice.series, number) for number in (1, 2, 3, 4)
            ]
    for series in ("7", mr, "cine sa"):
        assert (read_image(folder, series=series, frame=2).array[0, :, 0, 0] + 1024).tolist() == [100, 101, 102]
