"""What a segmentation tells and writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from inference_samples import picture, volume

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Geometry, Image, read_image, read_labels
from meduniseg_core.images.palette import class_colour
from meduniseg_core.inference import Segmentation


def result_for(image: Image, labels: np.ndarray, **changes: object) -> Segmentation:
    whole = Segmentation(
        labels=Image(labels[None], image.geometry, image.physical),
        image=image,
        task="organ",
        modality="ct",
        class_names=("one", "two"),
        model="tiny",
        model_sha256="ab" * 32,
        version="0.1.0",
        seconds=1.25,
        execution="cpu, 1 window at a time",
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_the_table_has_millilitres_and_mean_intensities() -> None:
    image = volume((6, 8, 10), 5.0)
    labels = np.zeros((6, 8, 10), dtype=np.uint8)
    labels[2:4, 1:5, 0:8] = 1
    one, two = result_for(image, labels).table()
    assert (one.label, one.name, one.voxels, one.unit) == (1, "one", 64, "ml")
    assert one.size == pytest.approx(64 * 125 / 1000)
    assert one.mean_intensity == pytest.approx((image.array[0][labels == 1].mean(),))
    assert two.voxels == 0 and two.size == 0 and np.isnan(two.mean_intensity[0])


def test_the_table_has_square_millimetres_or_pixels_in_2d() -> None:
    array = np.ones((1, 1, 4, 6), dtype=np.float32)
    labels = np.array([[[0, 1, 1, 0, 0, 2]] * 4], dtype=np.uint8)
    slice_ = Image(array, Geometry((1, 4, 6), (7.0, 0.5, 0.4)))
    row = result_for(slice_, labels).table()[0]
    assert row.unit == "mm2" and row.size == pytest.approx(8 * 0.2)
    row = result_for(picture(4, 6), labels).table()[0]
    assert row.unit == "pixels" and row.size == 8 and len(row.mean_intensity) == 3


def test_colours_are_stable_and_distinct() -> None:
    colours = [class_colour(label) for label in range(1, 118)]
    assert colours[0] == (230, 25, 75)
    assert len(set(colours)) == 117
    assert all(0 <= value <= 255 for colour in colours for value in colour)
    assert result_for(volume((2, 2, 2)), np.zeros((2, 2, 2), dtype=np.uint8)).colours == tuple(colours[:2])


def test_saving_writes_labels_and_their_provenance(tmp_path: Path) -> None:
    image = volume((4, 8, 8))
    labels = np.zeros((4, 8, 8), dtype=np.uint8)
    labels[1, 2:4] = 2
    result = result_for(image, labels, settings={"tta": False})
    path = result.save(tmp_path / "out" / "case.v1.nii.gz")
    assert {entry.name for entry in path.parent.iterdir()} == {"case.v1.nii.gz", "case.v1.json"}
    back = read_labels(path)
    assert np.array_equal(back.array, labels[None]) and back.geometry.is_close(image.geometry)
    said = json.loads((tmp_path / "out" / "case.v1.json").read_text("utf-8"))
    assert said["model"] == "tiny" and said["model_sha256"] == "ab" * 32
    assert said["task"] == "organ" and said["modality"] == "ct" and said["version"] == "0.1.0"
    assert said["classes"] == {"1": "one", "2": "two"}
    assert str(tmp_path) not in json.dumps(said)


def test_a_2d_result_is_saved_as_png_with_its_ids(tmp_path: Path) -> None:
    labels = np.array([[[0, 1, 1, 0, 0, 2]] * 4], dtype=np.uint8)
    path = result_for(picture(4, 6), labels).save(tmp_path / "case.png")
    assert np.array_equal(read_labels(path).array[0], labels)
    assert (tmp_path / "case.json").is_file()


def test_probabilities_are_saved_beside_the_labels(tmp_path: Path) -> None:
    image = volume((4, 8, 8))
    labels = np.zeros((4, 8, 8), dtype=np.uint8)
    shares = np.random.default_rng(0).random((3, 4, 8, 8)).astype(np.float16)
    result = result_for(image, labels, probabilities=Image(shares, image.geometry))
    result.save(tmp_path / "case.nrrd")
    back = read_image(tmp_path / "case_probabilities.nrrd")
    np.testing.assert_allclose(back.array, shares, atol=1e-3)


def test_a_result_that_a_format_cannot_hold_leaves_nothing(tmp_path: Path) -> None:
    result = result_for(volume((4, 8, 8)), np.zeros((4, 8, 8), dtype=np.uint8))
    with pytest.raises(BadInputError):
        result.save(tmp_path / "case.png")
    assert list(tmp_path.iterdir()) == []
