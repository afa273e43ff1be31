"""Accepting corrections: what is kept, what is refused, and that the folder is a data set."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from ledger_samples import begun, mask, volume

from meduniseg_core.corrections import Ledger, ModelReference, channels_for, ending_for
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.images import Geometry, Image, read_image, read_labels, write_image
from meduniseg_core.preprocessing import RawDataset, check_dataset


def photograph(seed: int, channels: int = 3) -> Image:
    array = np.random.default_rng(seed).integers(0, 255, (channels, 1, 20, 30), dtype=np.uint8)
    meta = {"colour": "rgb" if channels == 3 else "grey"}
    return Image(array, Geometry((1, 20, 30), (1.0, 1.0, 1.0)), physical=False, meta=meta)


def test_an_accepted_case_is_recorded_and_is_a_case_of_a_data_set(tmp_path: Path) -> None:
    ledger = begun(tmp_path / "ledger")
    image = volume(1)
    labels = mask(image, 1)
    model = ModelReference(name="starter", sha256="ab" * 32)
    entry = ledger.accept(image, labels, patient=" Müller ", model=model, seconds=12.5, who="Ada")
    assert (entry.sequence, entry.patient, entry.subset, entry.who, entry.seconds) == (
        1,
        "Müller",
        "training",
        "Ada",
        12.5,
    )
    assert entry.when.utcoffset() == timedelta(0)
    assert entry.image_sha256 == image.sha256
    assert Ledger.open(ledger.folder).entries() == (entry,)
    assert ledger.find(image) == entry and ledger.find(volume(2)) is None

    dataset = RawDataset.open(ledger.folder)
    assert check_dataset(dataset) == []
    assert (dataset.task, dataset.modality, dataset.classes, dataset.dimension) == ("organ", "ct", ("liver",), 3)
    (case,) = dataset.cases()
    assert (case.case, case.patient) == (entry.case, "Müller")
    assert np.array_equal(read_image(case.images).array, image.array)
    assert read_image(case.images).sha256 == entry.image_sha256
    assert case.label is not None and np.array_equal(read_labels(case.label).array, labels.array)
    assert json.loads((ledger.folder / "dataset.json").read_text("utf-8"))["numTraining"] == 1


def test_changes_are_counted_by_class(tmp_path: Path) -> None:
    ledger = begun(tmp_path, classes=("liver", "tumour"))
    image = volume(1)
    predicted, corrected = np.zeros((2, 1, *image.geometry.shape), np.uint8)
    predicted[0, 0, 0, :5] = 1
    corrected[0, 0, 0, 1:5] = 1
    corrected[0, 0, 0, 4:7] = 2
    entry = ledger.accept(image, image.with_array(corrected), predicted=image.with_array(predicted))
    liver, tumour = entry.classes
    assert (liver.name, liver.predicted, liver.corrected, liver.added, liver.removed) == ("liver", 5, 3, 0, 2)
    assert (tumour.name, tumour.predicted, tumour.corrected, tumour.added, tumour.removed) == ("tumour", 0, 3, 3, 0)
    kept = read_labels(ledger.files.prediction(entry.case, entry.sequence))
    assert np.array_equal(kept.array, predicted)
    again = ledger.accept(image, image.with_array(corrected))
    assert not again.has_prediction and again.classes[1].corrected == 3 and again.classes[1].added is None


def test_the_same_image_again_replaces_its_labels_and_keeps_the_former(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    image, other = volume(1), volume(2)
    maps = [mask(image, seed) for seed in range(3)]
    first = ledger.accept(image, maps[0], patient="A")
    ledger.accept(other, mask(other, 5))
    second = ledger.accept(image, maps[1])
    # what lies in the ledger is the same image too
    stored = read_image(ledger.files.images(first.case, ("CT",)))
    third = ledger.accept(stored, maps[2])
    assert {first.case, second.case, third.case} == {first.case}
    assert [entry.sequence for entry in ledger.entries()] == [1, 2, 3, 4]
    assert third.patient == "A"
    assert np.array_equal(read_labels(ledger.files.labels(first.case)).array, maps[2].array)
    for entry, labels in ((first, maps[0]), (second, maps[1])):
        former = read_labels(ledger.files.history(first.case, entry.sequence))
        assert np.array_equal(former.array, labels.array) and former.sha256 == entry.labels_sha256
    assert len(RawDataset.open(tmp_path).cases()) == 2
    assert ledger.cases()[first.case] == third


def test_the_split_is_by_patient_and_has_a_validation_case_early(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    for seed in range(20):
        image = volume(seed)
        ledger.accept(image, mask(image, seed), patient=f"P{seed // 2}")
        if seed == 2:
            assert set(ledger.split().values()) == {"training", "validation"}
    split = Ledger.open(tmp_path).split()
    sides = [{split[entry.case] for entry in ledger.entries() if entry.patient == f"P{n}"} for n in range(10)]
    assert all(len(side) == 1 for side in sides)
    assert sum(side == "validation" for side in split.values()) == 4


def test_a_patient_is_not_brought_to_both_sides_by_a_late_key(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    one, two = volume(1), volume(2)
    ledger.accept(one, mask(one, 1), patient="A")
    anonymous = ledger.accept(two, mask(two, 2))
    assert anonymous.subset == "validation"
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*") if path.name != ".lock")
    with pytest.raises(BadInputError, match="both sides"):
        ledger.accept(two, mask(two, 3), patient="A")
    assert before == sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*") if path.name != ".lock")
    assert ledger.accept(two, mask(two, 3), patient="B").subset == "validation"


def test_classes_grow_and_keep_their_numbers(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    image = volume(1)
    with pytest.raises(BadInputError, match=r"holds the label 2 .*name the new class"):
        ledger.accept(image, mask(image, 1, highest=2))
    entry = ledger.accept(image, mask(image, 1, highest=2), classes=("liver", "cyst"))
    assert [change.name for change in entry.classes] == ["liver", "cyst"]
    assert ledger.extend_classes(("liver",)) == ("liver", "cyst")
    assert ledger.extend_classes(("liver", "cyst", "vein")) == ledger.classes == ("liver", "cyst", "vein")
    for wrong in (("cyst", "liver"), ("liver", "liver"), ("background",), ()):
        with pytest.raises(UsageError):
            ledger.extend_classes(wrong)
    assert ledger.classes == ("liver", "cyst", "vein")


def test_other_peoples_keys_in_dataset_json_are_kept(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "licence": "CC0"}), "utf-8")
    image = volume(1)
    ledger.accept(image, mask(image, 1), patient="A")
    assert json.loads(path.read_text("utf-8"))["licence"] == "CC0"


def test_labels_that_do_not_belong_to_the_image_are_refused(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    image = volume(1)
    good = mask(image, 1)
    elsewhere = replace(good, geometry=replace(image.geometry, origin=(0.0, 0.0, 0.0)), source=tmp_path / "l.nii.gz")
    coarser = mask(volume(1, shape=(2, 10, 12)), 1)
    coarser = replace(coarser, geometry=replace(coarser.geometry, spacing=(6.0, 0.7, 0.7)))
    beyond = mask(volume(1, shape=(4, 11, 12)), 1)
    for wrong, said in (
        (elsewhere, r"^l\.nii\.gz lies on another grid"),
        (coarser, "^the label map lies on another grid"),
        (beyond, "^the label map marks .* voxels outside"),
        (image.with_array(good.array + 0.5), "fractional"),
        (image.with_array(good.array.astype(np.int16) - 1), "label -1"),
        (image.with_array(np.repeat(good.array, 2, axis=0)), "2 channels"),
    ):
        for arguments in ((wrong, None), (good, wrong)):
            with pytest.raises(BadInputError, match=said):
                ledger.accept(image, arguments[0], predicted=arguments[1])
    assert ledger.entries() == () and not (tmp_path / "imagesTr").exists()


def test_labels_in_another_orientation_are_turned(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    image = volume(1)
    labels = mask(image, 1)
    flipped = Geometry(
        labels.geometry.shape,
        labels.geometry.spacing,
        tuple((labels.geometry.affine @ [0, 0, 11, 1])[:3].tolist()),
        ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    )
    entry = ledger.accept(image, Image(labels.array[..., ::-1], flipped))
    assert np.array_equal(read_labels(ledger.files.labels(entry.case)).array, labels.array)


def test_an_image_of_another_form_is_refused(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    image = volume(1)
    ledger.accept(image, mask(image, 1))
    slice_2d = volume(2, shape=(1, 10, 12))
    for wrong, said in (
        (volume(1, channels=2), r"2 channel\(s\)"),
        (slice_2d, "is a 2D image"),
        (photograph(1, channels=1), "2D image"),
        (replace(image, physical=False), "no size in mm"),
    ):
        with pytest.raises(BadInputError, match=said):
            ledger.accept(wrong, mask(wrong, 1))


def test_what_its_files_cannot_hold_leaves_no_trace(tmp_path: Path) -> None:
    ledger = begun(tmp_path, modality="xray", channels=("XRAY",), file_ending=".png")
    picture = photograph(1, channels=1)
    fine = picture.with_array(picture.array.astype(np.float32))
    with pytest.raises(BadInputError, match=r"\.png cannot hold"):
        ledger.accept(fine, mask(fine, 1), patient="A")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "dataset.json", "ledger.jsonl"]
    assert RawDataset.open(tmp_path).description.patient_of == {}
    assert ledger.accept(picture, mask(picture, 1)).sequence == 1


@pytest.mark.parametrize(
    ("image", "ending", "channels"),
    [
        (volume(1), ".nii.gz", ("CT",)),
        (volume(1, channels=3), ".nii.gz", ("CT 1", "CT 2", "CT 3")),
        (volume(1, shape=(1, 10, 12)), ".nii.gz", ("CT",)),
        (volume(1).with_array(volume(1).array.astype(np.float16)), ".nii.gz", ("CT",)),
        (volume(1).with_array(volume(1).array > 0), ".nii.gz", ("CT",)),
        (volume(1).with_array(volume(1).array.astype(">i2")), ".nii.gz", ("CT",)),
        (photograph(1), ".png", ("R", "G", "B")),
        (photograph(1, channels=1), ".png", ("CT",)),
        (photograph(1, channels=2), ".png", ("CT 1", "CT 2")),
        (replace(volume(1), physical=False, geometry=Geometry((4, 10, 12), (1.0, 1.0, 1.0))), ".tif", ("CT",)),
    ],
)
def test_every_kind_of_image_comes_back_as_the_same_image(
    image: Image, ending: str, channels: tuple[str, ...], tmp_path: Path
) -> None:
    assert (ending_for(image), channels_for(image, "ct")) == (ending, channels)
    ledger = begun(tmp_path, channels=channels, file_ending=ending)
    entry = ledger.accept(image, mask(image, 1))
    stored = read_image(ledger.files.images(entry.case, channels))
    assert np.array_equal(stored.array, image.array)
    assert stored.sha256 == entry.image_sha256
    assert check_dataset(RawDataset.open(tmp_path)) == []
    assert ledger.accept(stored, read_labels(ledger.files.labels(entry.case))).case == entry.case


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii"])
def test_an_image_keeps_its_hash_in_every_format(ending: str, tmp_path: Path) -> None:
    angle = 0.3
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    image = volume(1, direction=((0.0, -sine, cosine), (0.0, cosine, sine), (1.0, 0.0, 0.0)))
    write_image(image, tmp_path / f"a{ending}")
    assert read_image(tmp_path / f"a{ending}").sha256 == image.sha256
    assert volume(1).sha256 != image.sha256
    assert volume(2).sha256 != volume(1).sha256


def test_case_names_are_safe_and_say_where_the_image_comes_from(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    names = []
    for seed, source in enumerate(("liver 07_0000.nii.gz", "../..", "Ä.nii", None)):
        image = replace(volume(seed), source=tmp_path / source if source else None)
        names.append(ledger.accept(image, mask(image, 1)).case)
    assert [name.rsplit("-", 1)[0] for name in names] == ["liver_07", "image", "image", "image"]
    assert check_dataset(RawDataset.open(tmp_path)) == []


def test_folders_that_cannot_be_a_ledger_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no corrections ledger"):
        Ledger.open(tmp_path / "absent")
    ledger = begun(tmp_path / "ledger")
    with pytest.raises(BadInputError, match="holds a ledger already"):
        begun(tmp_path / "ledger")
    assert begun(tmp_path / "ledger", exist_ok=True).folder == ledger.folder
    (tmp_path / "data" / "imagesTr").mkdir(parents=True)
    (tmp_path / "data" / "imagesTr" / "a_0000.nii.gz").write_bytes(b"")
    with pytest.raises(BadInputError, match="data set already"):
        begun(tmp_path / "data")


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "../x"},
        {"modality": "smell"},
        {"classes": ()},
        {"classes": ("a", "a")},
        {"channels": ()},
        {"file_ending": ".jpg"},
        {"validation_fraction": 1.0},
    ],
)
def test_a_ledger_that_cannot_be_is_not_begun(changes: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        begun(tmp_path / "ledger", **changes)
    assert not (tmp_path / "ledger").exists()


@pytest.mark.parametrize("key", ["", "  ", "a\nb", "\udcff", "x" * 201])
def test_patient_keys_that_cannot_be_shown_are_refused(key: str, tmp_path: Path) -> None:
    image = volume(1)
    with pytest.raises(UsageError, match="patient key"):
        begun(tmp_path).accept(image, mask(image, 1), patient=key)


@pytest.mark.real
@pytest.mark.parametrize("name", ["Dataset101_Hippocampus", "Dataset202_Nuclei"])
def test_real_cases_are_taken_in_and_read_back(name: str, shared_data: Path, tmp_path: Path) -> None:
    source = RawDataset.open(shared_data / name)
    ledger = Ledger.create(
        tmp_path,
        task=source.task,
        modality=source.modality,
        classes=source.classes,
        channels=source.channels,
        file_ending=source.description.file_ending,
    )
    for case in source.cases()[:2]:
        assert case.label is not None
        image, labels = read_image(case.images), read_labels(case.label)
        entry = ledger.accept(image, labels, patient=case.patient, predicted=labels)
        assert entry.case.startswith(case.case)
        assert all(change.added == change.removed == 0 for change in entry.classes)
        stored = read_image(ledger.files.images(entry.case, source.channels))
        assert np.array_equal(stored.array, image.array) and stored.geometry == image.geometry
        assert np.array_equal(read_labels(ledger.files.labels(entry.case)).array, labels.array)
        assert stored.sha256 == entry.image_sha256
    assert check_dataset(RawDataset.open(tmp_path)) == []
    assert set(ledger.split().values()) == {"training", "validation"}


def with_ignore(folder: Path) -> Ledger:
    """A ledger into whose dataset.json an annotator wrote "ignore", and a key of another program's."""
    begun(folder)
    path = folder / "dataset.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "labels": {**content["labels"], "ignore": 2}, "licence": "CC0"}))
    return Ledger.open(folder)


def test_a_hand_written_ignore_and_other_keys_outlive_every_acceptance(tmp_path: Path) -> None:
    ledger = with_ignore(tmp_path / "l")
    for seed in range(3):
        image = volume(seed)
        ledger.accept(image, mask(image, seed, highest=2), predicted=mask(image, seed + 9))
        content = json.loads((tmp_path / "l" / "dataset.json").read_text())
        assert content["labels"] == {"background": 0, "liver": 1, "ignore": 2}
        assert content["licence"] == "CC0" and content["numTraining"] == seed + 1
    dataset = RawDataset.open(tmp_path / "l")
    assert check_dataset(dataset) == [] and dataset.ignored == 2 and ledger.classes == ("liver",)
    stored = read_labels(dataset.cases("Tr")[0].label)
    assert set(np.unique(stored.array)) == {0, 1, 2}


def test_what_nobody_has_looked_at_was_not_changed(tmp_path: Path) -> None:
    ledger = with_ignore(tmp_path / "l")
    image = volume(0)
    corrected = np.zeros((1, *image.geometry.shape), np.uint8)
    corrected[:, :2] = 2
    corrected[:, 2, 0, :3] = 1
    predicted = image.with_array(np.ones_like(corrected))
    entry = ledger.accept(image, image.with_array(corrected), predicted=predicted)
    (change,) = entry.classes
    seen = 2 * 10 * 12
    assert (change.corrected, change.predicted, change.added, change.removed) == (3, seen, 0, seen - 3)


def test_a_new_class_may_not_take_the_number_of_ignore(tmp_path: Path) -> None:
    ledger = with_ignore(tmp_path / "l")
    image = volume(0)
    ledger.accept(image, mask(image, 0, highest=2))
    before = (tmp_path / "l" / "dataset.json").read_bytes()
    for change in (
        lambda: ledger.extend_classes(("liver", "spleen")),
        lambda: ledger.accept(volume(1), mask(volume(1), 1), classes=("liver", "spleen")),
    ):
        with pytest.raises(UsageError, match="label 'ignore' with the number 2, which a new class would take"):
            change()
    assert (tmp_path / "l" / "dataset.json").read_bytes() == before
    with pytest.raises(BadInputError, match="label 3"):
        ledger.accept(volume(1), mask(volume(1), 1, highest=3))


def test_a_correction_without_any_label_is_said(tmp_path: Path) -> None:
    ledger = begun(tmp_path, classes=("liver", "spleen"))
    image = volume(1)
    nothing = image.with_array(np.zeros((1, *image.geometry.shape), np.uint8))
    (said,) = ledger.accept(image, nothing, predicted=mask(image, 1)).findings
    assert said.code == "labels_empty" and said.level == "warning" and "no liver or spleen" in said.text
    one = nothing.array.copy()
    one[0, 1, 2, 3] = 2
    assert ledger.accept(image, image.with_array(one)).findings == ()


def test_a_correction_in_which_nothing_was_looked_at_is_said_too(tmp_path: Path) -> None:
    ledger = with_ignore(tmp_path / "l")
    image = volume(0)
    unknown = image.with_array(np.full((1, *image.geometry.shape), 2, np.uint8))
    assert [finding.code for finding in ledger.accept(image, unknown).findings] == ["labels_empty"]
