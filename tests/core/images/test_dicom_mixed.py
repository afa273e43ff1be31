"""DICOM series whose slices do not say the same things: what cannot be known of one slice is never guessed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_making import dataset_of, enhanced, frame_item, save, write_slice
from pydicom.dataset import Dataset

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import read_image

HEIGHTS = (0.0, 3.0, 6.0, 9.0, 12.0)
UNSCALED = {"RescaleSlope": None, "RescaleIntercept": None}


def test_a_slice_without_a_scaling_is_not_taken_for_hounsfield_units(tmp_path: Path) -> None:
    for number, height in enumerate(HEIGHTS):
        write_slice(tmp_path / "ct", f"{number}.dcm", (0, 0, height), **(UNSCALED if number == 2 else {}))
    with pytest.raises(BadInputError, match=r"ct: 2\.dcm does not say how its values are scaled .* other slices do"):
        read_image(tmp_path / "ct")
    # where the others' scaling changes nothing, or none has one, nothing is missing
    for number, height in enumerate(HEIGHTS):
        scaling = UNSCALED if number % 2 else {"RescaleSlope": 1, "RescaleIntercept": 0}
        write_slice(tmp_path / "mr", f"{number}.dcm", (0, 0, height), **scaling)
    assert read_image(tmp_path / "mr").array.max() == 29


def test_a_frame_without_a_scaling_is_not_either(tmp_path: Path) -> None:
    frames = [
        frame_item(
            PlanePosition={"ImagePositionPatient": [0, 0, height]},
            **({} if height == 3 else {"PixelValueTransformation": {"RescaleSlope": 1, "RescaleIntercept": -1024}}),
        )
        for height in (0, 3, 6)
    ]
    path = save(enhanced(frames, np.zeros((3, 5, 6))), tmp_path / "e.dcm")
    with pytest.raises(BadInputError, match=r"e\.dcm \(frame 2\) does not say how its values are scaled"):
        read_image(path)


def test_positions_of_some_frames_are_not_dropped_for_those_without(tmp_path: Path) -> None:
    frames = [frame_item(PlanePosition={"ImagePositionPatient": [0, 0, height]}) for height in (4, 0)]
    path = save(enhanced([*frames, frame_item()], np.zeros((3, 5, 6))), tmp_path / "e.dcm")
    with pytest.raises(BadInputError, match=r"of some frames where they lie and not of others \(e\.dcm \(frame 3\)\)"):
        read_image(path)


def test_a_slice_beside_the_others_is_not_called_uneven(tmp_path: Path) -> None:
    for number, height in enumerate(HEIGHTS):
        write_slice(tmp_path / "ct", f"{number}.dcm", (1.0 if number == 2 else 0.0, 0, height))
    with pytest.raises(BadInputError, match=r"even distances .* \(2\.dcm lies 1 mm beside its place\)"):
        read_image(tmp_path / "ct")


def test_several_coordinate_systems_are_said(tmp_path: Path) -> None:
    for number, height in enumerate(HEIGHTS):
        write_slice(tmp_path / "ct", f"{number}.dcm", (0, 0, height), FrameOfReferenceUID=f"1.2.{number}")
    found = read_image(tmp_path / "ct").findings
    assert [finding.code for finding in found] == ["places_differ"]
    assert "5 coordinate systems" in found[0].text


def test_frames_at_one_place_are_no_files_to_be_moved(tmp_path: Path) -> None:
    frames = [frame_item(PlanePosition={"ImagePositionPatient": [0, 0, 0]}) for _ in range(2)]
    path = save(enhanced(frames, np.zeros((2, 5, 6))), tmp_path / "e.dcm")
    with pytest.raises(BadInputError, match=r"several slices at one place .*; export one volume alone"):
        read_image(path)


def _table(values: np.ndarray, first: int, bits: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(values) % (1 << 16), first, bits]
    item.LUTData = values.astype("<u2").tobytes()
    item.ModalityLUTType = "US"
    return item


def test_a_table_stands_in_place_of_slope_and_intercept(tmp_path: Path) -> None:
    """A digitised film: its table turns what is stored into optical density, here the other way round."""
    inverse = {"ModalityLUTSequence": [_table(np.arange(20)[::-1] * 100, first=5, bits=12)], **UNSCALED}
    image = read_image(save(dataset_of(Modality="CR", **inverse), tmp_path / "film.dcm"))
    stored = np.arange(30).reshape(5, 6)
    assert image.array[0, 0].tolist() == (1900 - 100 * np.clip(stored - 5, 0, 19)).tolist()
    negative = dataset_of(Modality="CR", PhotometricInterpretation="MONOCHROME1", **inverse)
    assert np.array_equal(read_image(save(negative, tmp_path / "negative.dcm")).array, 4095 - image.array)
    short = _table(np.arange(20), first=0, bits=12)
    short.LUTData = b"\0" * 10
    broken = dataset_of(Modality="CR", **UNSCALED, ModalityLUTSequence=[short])
    with pytest.raises(BadInputError, match=r"short\.dcm has an invalid table of values"):
        read_image(save(broken, tmp_path / "short.dcm"))
