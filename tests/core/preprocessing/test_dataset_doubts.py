"""What can be read and looks wrong all the same: `dataset check` says it, before it is learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from meduniseg_core.events import Event, Message
from meduniseg_core.images import Image
from meduniseg_core.preprocessing import RawDataset, check_dataset

MakeDataset = Callable[..., Path]
CtCase = Callable[..., tuple[list[Image], Image]]


def warnings_of(folder: Path) -> list[str]:
    heard: list[Event] = []
    assert check_dataset(RawDataset.open(folder), events=heard.append) == []
    return [event.text for event in heard if isinstance(event, Message) and event.level == "warning"]


def without_orientation(path: Path) -> None:
    image = nib.load(path)
    image.header["sform_code"] = image.header["qform_code"] = 0
    data = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(data, None, image.header), path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda array: array + 1024, "stored 1024 too high"),
        (lambda array: ((array + 1000) / 4000).astype(np.float32), "air near -1000"),
    ],
)
def test_a_ct_in_another_scale_than_the_rest_is_named(
    make_dataset: MakeDataset, ct_case: CtCase, changed: Any, said: str
) -> None:
    (image,), labels = ct_case(2)
    other = replace(image, array=changed(image.array))
    (text,) = warnings_of(make_dataset({"a": ct_case(0), "b": ct_case(1), "c": ([other], labels)}))
    assert text.startswith("c_0000.nii.gz does not look like CT, as the other images do") and said in text


def test_ct_that_is_nowhere_in_hounsfield_units_is_one_sentence(make_dataset: MakeDataset, ct_case: CtCase) -> None:
    cases = {}
    for seed, name in enumerate("abcdef"):
        (image,), labels = ct_case(seed)
        cases[name] = ([replace(image, array=image.array + 1024)], labels)
    (text,) = warnings_of(make_dataset(cases))
    assert text.startswith("No image of channel CT looks like CT (a_0000.nii.gz: ")


def test_orientations_that_are_known_of_some_images_only_are_said(make_dataset: MakeDataset, ct_case: CtCase) -> None:
    folder = make_dataset({"a": ct_case(0), "b": ct_case(1), "c": ct_case(2)})
    without_orientation(folder / "imagesTr" / "b_0000.nii.gz")
    without_orientation(folder / "labelsTr" / "b.nii.gz")
    found = warnings_of(folder)
    assert found[0].startswith("b_0000.nii.gz does not say how it lies in the patient, and others do")


def test_labels_without_orientation_are_not_taken_in_silence(make_dataset: MakeDataset, ct_case: CtCase) -> None:
    folder = make_dataset({"a": ct_case(0), "b": ct_case(1)})
    without_orientation(folder / "labelsTr" / "b.nii.gz")
    (text,) = warnings_of(folder)
    assert text.startswith("b.nii.gz does not say its orientation") and "voxel by voxel" in text


def test_a_task_with_sides_needs_orientations_and_another_does_not(make_dataset: MakeDataset, ct_case: CtCase) -> None:
    for labels, said in (
        ({"background": 0, "left lung": 1, "right lung": 2}, True),
        ({"background": 0, "liver": 1, "tumour": 2}, False),
    ):
        folder = make_dataset({"a": ct_case(0), "b": ct_case(1)}, labels=labels)
        for path in folder.glob("*Tr/*.nii.gz"):
            without_orientation(path)
        found = warnings_of(folder)
        assert any("a_0000.nii.gz, b_0000.nii.gz do not say how" in text for text in found) is said


def test_two_patients_taken_for_the_channels_of_one_are_said_once(make_dataset: MakeDataset, ct_case: CtCase) -> None:
    cases = {
        name: ([ct_case(2 * seed)[0][0], ct_case(2 * seed + 1)[0][0]], ct_case(2 * seed)[1])
        for seed, name in enumerate("abc")
    }
    found = warnings_of(make_dataset(cases, channel_names={"0": "CT", "1": "PET"}))
    (pair,) = (text for text in found if "taken as CT and PET of one case" in text)
    assert pair.endswith("The same holds of b_0000.nii.gz, c_0000.nii.gz.")


def test_a_ct_among_magnetic_resonance_images_is_named(
    make_dataset: MakeDataset, ct_case: CtCase, make_volume: Callable[..., Image]
) -> None:
    (ct,), labels = ct_case(0)
    mri = make_volume(np.random.default_rng(0).gamma(2.0, 100.0, ct.array.shape[1:]).astype(np.int16), (3.0, 1.0, 1.0))
    (text,) = warnings_of(make_dataset({"a": ([mri], labels), "b": ([ct], labels)}, channel_names={"0": "T1"}))
    assert text.startswith("b_0000.nii.gz looks like CT (Hounsfield units) and is taken for T1")


def test_one_image_for_training_and_test_is_said(make_dataset: MakeDataset, ct_case: CtCase) -> None:
    folder = make_dataset({"a": ct_case(0), "b": ct_case(1)})
    make_dataset({"z": ct_case(1)}, split="Ts", numTraining=2)
    (text,) = warnings_of(folder)
    assert text.startswith("imagesTr/b_0000.nii.gz, imagesTs/z_0000.nii.gz are one and the same image")
    assert "no test" in text


def test_one_image_under_two_names_is_said(make_dataset: MakeDataset, ct_case: CtCase) -> None:
    image, labels = ct_case(0)
    (text,) = warnings_of(make_dataset({"a": (image, labels), "b": (image, labels), "c": ct_case(1)}))
    assert "imagesTr/a_0000.nii.gz, imagesTr/b_0000.nii.gz are one and the same image: keep it once." in text


def test_an_image_that_shows_nothing_is_said(
    make_dataset: MakeDataset, ct_case: CtCase, make_volume: Callable[..., Image]
) -> None:
    (image,), labels = ct_case(0)
    blank = make_volume(np.full(image.array.shape[1:], 40, np.int16), (3.0, 1.0, 1.0))
    found = warnings_of(make_dataset({"a": ([image], labels), "b": ([blank], labels)}))
    assert any(text.startswith("b_0000.nii.gz has the same value (40) everywhere") for text in found)


@pytest.mark.parametrize("scaled", [1, 127])
def test_a_label_map_in_the_place_of_its_image_is_said(make_dataset: MakeDataset, ct_case: CtCase, scaled: int) -> None:
    (image,), labels = ct_case(0)
    mask = replace(image, array=(labels.array * scaled).astype(np.int16))
    found = warnings_of(make_dataset({"a": ([mask], labels), "b": ct_case(1)}))
    assert any(text.startswith("a_0000.nii.gz is its own label map and no image") for text in found)


def test_what_is_wrong_with_one_image_is_not_said_of_another(
    make_dataset: MakeDataset, ct_case: CtCase, make_volume: Callable[..., Image]
) -> None:
    (image,), labels = ct_case(0)
    blank = make_volume(np.full(image.array.shape[1:], 40, np.int16), (3.0, 1.0, 1.0))
    mask = replace(image, array=labels.array.astype(np.int16))
    found = warnings_of(
        make_dataset({"a": ([blank], labels), "b": ([mask], labels), "c": ([blank], labels), "d": ct_case(1)})
    )
    (of_blank,) = (text for text in found if "shows nothing" in text)
    (of_mask,) = (text for text in found if "is its own label map" in text)
    assert of_blank.startswith("a_0000") and of_blank.endswith("The same holds of c_0000.nii.gz.")
    assert of_mask.startswith("b_0000") and "The same holds" not in of_mask
