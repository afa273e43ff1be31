"""Reading and checking data sets in nnU-Net v2's raw layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from meduniseg_core.errors import BadInputError, CancelledError
from meduniseg_core.events import CancelToken, Event, Message
from meduniseg_core.images import Image, write_labels
from meduniseg_core.preprocessing import RawDataset, check_dataset

MakeDataset = Callable[..., Path]
CtCase = Callable[..., tuple[list[Image], Image]]


def _described(tmp_path: Path, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1},
        "file_ending": ".nii.gz",
    }
    content.update(changes)
    folder = tmp_path / "Dataset007_Big Liver"
    folder.mkdir()
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_a_data_set_of_nnunet_is_read_without_our_keys(tmp_path: Path) -> None:
    folder = _described(
        tmp_path,
        channel_names={"1": "T2", "0": "T1"},
        labels={"background": 0, "tumour": 2, "organ": 1},
        overwrite_image_reader_writer="SimpleITKIO",
        numTraining=3,
    )
    dataset = RawDataset.open(folder)
    assert dataset.channels == ("T1", "T2")
    assert dataset.classes == ("organ", "tumour")
    assert dataset.task == "big_liver"
    assert dataset.modality == "mri"
    assert dataset.cases("Tr") == []


def test_our_keys_win(tmp_path: Path) -> None:
    dataset = RawDataset.open(_described(tmp_path, modality="PET", task="body", patient_of={"a": 17}))
    assert (dataset.modality, dataset.task) == ("pet", "body")
    assert dataset.description.patient_of == {"a": "17"}


def test_pet_with_ct_counts_as_pet(tmp_path: Path) -> None:
    assert RawDataset.open(_described(tmp_path, channel_names={"0": "CT", "1": "PET"})).modality == "pet"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": {"background": 0, "whole": [1, 2]}}, "region-based"),
        ({"file_ending": "nii.gz"}, r"file_ending must begin with a dot: \.nii\.gz"),
        ({"labels": {"0": "background", "1": "liver"}}, r'id: name, .* name: id: {"background": 0, "liver": 1}'),
        ({"labels": {"background": 0, "ignore": 1, "a": 2}}, "'ignore' must have the highest id, 2"),
        ({"labels": {"background": 0, "ignore": 1}}, "a class besides the background"),
        ({"labels": {"background": 0, "a": 2}}, "without a gap"),
        ({"labels": {"background": 0, " ": 1}}, "a label has no name"),
        ({"labels": {"liver": 0, "a": 1}}, "background"),
        ({"channel_names": {"0": "T1", "2": "T2"}}, "numbered"),
        ({"channel_names": {}}, "channel_names"),
        ({"file_ending": "../x"}, "file_ending"),
        ({"task": "../../etc"}, "task"),
        ({"modality": {"0": "CT"}}, "nnU-Net v1"),
    ],
)
def test_descriptions_that_do_not_hold_are_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInputError, match=said) as caught:
        RawDataset.open(_described(tmp_path, **changes))
    assert "dataset.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_modality_that_cannot_be_known_is_asked_for(tmp_path: Path) -> None:
    dataset = RawDataset.open(_described(tmp_path, channel_names={"0": "R", "1": "G", "2": "B"}))
    with pytest.raises(BadInputError, match='add for instance "modality"'):
        _ = dataset.modality


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\udcff"])
def test_broken_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInputError, match=r"dataset\.json is not JSON"):
        RawDataset.open(tmp_path)


def test_missing_folders_and_descriptions_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="There is no data set"):
        RawDataset.open(tmp_path / "absent")
    with pytest.raises(BadInputError, match=r"has no dataset\.json"):
        RawDataset.open(tmp_path)


def test_cases_know_their_files_and_patients(make_dataset: MakeDataset, ct_case: CtCase) -> None:
    image, labels = ct_case()
    folder = make_dataset({"a": (image, labels), "b": (image, None)}, patient_of={"a": "P1"})
    dataset = RawDataset.open(folder)
    first, second = dataset.cases("Tr")
    assert (first.case, first.patient, first.label) == ("a", "P1", folder / "labelsTr" / "a.nii.gz")
    assert (second.case, second.patient, second.label) == ("b", "b", None)
    assert first.images == (folder / "imagesTr" / "a_0000.nii.gz",)
    assert dataset.cases("Ts") == []
    assert dataset.dimension == 3


def test_accents_encoded_in_two_ways_are_one_name(make_dataset: MakeDataset, ct_case: CtCase) -> None:
    decomposed, composed = "Mu\u0308ller", "M\u00fcller"
    folder = make_dataset({decomposed: ct_case(0), "b": ct_case(1)}, patient_of={composed: "P1"})
    (folder / "labelsTr" / f"{decomposed}.nii.gz").rename(folder / "labelsTr" / f"{composed}.nii.gz")
    dataset = RawDataset.open(folder)
    assert dataset.name_faults() == []
    case = next(case for case in dataset.cases() if case.case == decomposed)
    assert (case.patient, case.label) == ("P1", folder / "labelsTr" / f"{composed}.nii.gz")


def test_a_label_of_the_very_name_comes_before_one_that_looks_the_same(
    make_dataset: MakeDataset, ct_case: CtCase
) -> None:
    names = ("M\u00fcller", "Mu\u0308ller")
    dataset = RawDataset.open(make_dataset({name: ct_case(0) for name in names}))
    assert [case.label.name for case in dataset.cases() if case.label] == [f"{name}.nii.gz" for name in sorted(names)]


def test_a_sound_data_set_has_no_problems(make_dataset: MakeDataset, ct_case: CtCase) -> None:
    folder = make_dataset({"a": ct_case(0), "b": ct_case(1)})
    assert check_dataset(RawDataset.open(folder)) == []


def test_images_of_another_ending_than_dataset_json_says_are_named(make_dataset: MakeDataset, ct_case: CtCase) -> None:
    folder = make_dataset({"a": ct_case(0)})
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    (folder / "dataset.json").write_text(json.dumps({**content, "file_ending": ".nrrd"}), encoding="utf-8")
    with pytest.raises(BadInputError, match=r"says file_ending \.nrrd: there is a_0000\.nii\.gz; correct file_ending"):
        RawDataset.open(folder).training_cases()


def test_every_problem_is_found_and_names_its_file(
    make_dataset: MakeDataset, ct_case: CtCase, make_volume: Callable[..., Image]
) -> None:
    image, labels = ct_case()
    strange = make_volume(np.where(labels.array[0] > 0, 7, 0).astype(np.uint8), (3.0, 1.0, 1.0))
    coarser = make_volume(labels.array[0][::2], (6.0, 1.0, 1.0))
    elsewhere = make_volume(labels.array[0], (3.0, 1.0, 1.0), origin=(0.0, 0.0, 50.0))
    folder = make_dataset(
        {
            "good": (image, labels),
            "unlabelled": (image, None),
            "strange": (image, strange),
            "coarser": (image, coarser),
            "elsewhere": (image, elsewhere),
        },
        patient_of={"nobody": "P"},
    )
    (folder / "labelsTr" / "orphan.nii.gz").write_bytes((folder / "labelsTr" / "good.nii.gz").read_bytes())
    (folder / "imagesTr" / "broken_0000.nii.gz").write_bytes(b"not an image")
    (folder / "labelsTr" / "broken.nii.gz").write_bytes((folder / "labelsTr" / "good.nii.gz").read_bytes())
    problems = check_dataset(RawDataset.open(folder))
    for words in (
        ("unlabelled.nii.gz", "missing"),
        ("strange.nii.gz", "label ids", "(7)"),
        ("coarser.nii.gz", "grid"),
        ("elsewhere.nii.gz", "mm away"),
        ("orphan.nii.gz", "no image"),
        ("broken_0000.nii.gz",),
        ("nobody", "patient_of"),
    ):
        assert sum(all(word in problem for word in words) for problem in problems) == 1, (words, problems)
    assert len(problems) == 7
    assert not any("good" in problem for problem in problems)


def test_missing_channels_are_all_listed(make_dataset: MakeDataset, ct_case: CtCase) -> None:
    image, labels = ct_case()
    folder = make_dataset(
        {"a": ([image[0], image[0]], labels), "b": (image, labels), "c": (image, labels)},
        channel_names={"0": "CT", "1": "PET"},
    )
    problems = check_dataset(RawDataset.open(folder))
    assert any("b_0001.nii.gz is missing" in problem for problem in problems)
    assert any("c_0001.nii.gz is missing" in problem for problem in problems)
    assert not any("a_000" in problem for problem in problems)


def test_photographs_are_one_file_of_three_channels(
    make_dataset: MakeDataset, make_photograph: Callable[..., Image]
) -> None:
    colour = make_photograph(np.random.default_rng(0).integers(0, 255, (3, 20, 30)).astype(np.uint8))
    labels = make_photograph(np.tile(np.array([0, 1], dtype=np.uint8), (20, 15)))
    folder = make_dataset(
        {"a": ([colour], labels)}, ending=".png", channel_names={"0": "R", "1": "G", "2": "B"}, modality="endoscopy"
    )
    dataset = RawDataset.open(folder)
    assert check_dataset(dataset) == []
    assert dataset.dimension == 2


def test_sizes_that_preparing_would_refuse_are_problems(
    make_dataset: MakeDataset, ct_case: CtCase, make_volume: Callable[..., Image]
) -> None:
    cases = {name: ct_case(seed) for seed, name in enumerate("abc")}
    metres = [make_volume(image.array[0], (0.003, 0.001, 0.001)) for image in (cases["a"][0][0], cases["a"][1])]
    (problem,) = check_dataset(RawDataset.open(make_dataset({**cases, "m": ([metres[0]], metres[1])})))
    assert problem.startswith("m_0000.nii.gz has voxels of 0.003 x 0.001 x 0.001 mm")


@pytest.mark.parametrize(
    ("ending", "said"), [(".jpg", "save the images as PNG, too, because JPEG changes labels"), (".bmp", "c.bmp")]
)
def test_labels_of_another_ending_than_the_images_are_named(
    ending: str, said: str, make_dataset: MakeDataset, make_photograph: Callable[..., Image]
) -> None:
    folder = make_dataset({}, ending=ending, channel_names={"0": "R", "1": "G", "2": "B"}, modality="endoscopy")
    colours = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    PillowImage.fromarray(colours).save(folder / "imagesTr" / f"c_0000{ending}")
    write_labels(make_photograph(np.eye(20, 30, dtype=np.uint8)), folder / "labelsTr" / "c.png")
    (problem,) = check_dataset(RawDataset.open(folder))
    assert "c.png has another ending than the images" in problem and said in problem


def test_an_empty_data_set_is_a_problem(make_dataset: MakeDataset) -> None:
    problems = check_dataset(RawDataset.open(make_dataset({})))
    assert any("imagesTr" in problem for problem in problems)


def test_what_a_sound_data_set_may_lack_is_said(make_dataset: MakeDataset, ct_case: CtCase) -> None:
    folder = make_dataset({"a": ct_case(seed=1), "b": ct_case(seed=2)})
    path = folder / "dataset.json"
    content = json.loads(path.read_text("utf-8"))
    for stated, labels, said in (
        (2, {}, []),
        ("2", {}, []),
        (9, {}, ["has 2 training cases and its dataset.json says 9"]),
        (2, {"spleen": len(content["labels"])}, ["has no case that holds spleen"]),
    ):
        path.write_text(json.dumps({**content, "numTraining": stated, "labels": {**content["labels"], **labels}}))
        heard: list[Event] = []
        assert check_dataset(RawDataset.open(folder), events=heard.append) == []
        texts = [event.text for event in heard if isinstance(event, Message)]
        assert len(texts) == len(said) and all(part in text for part, text in zip(said, texts, strict=True))


def test_checking_stops_on_request(make_dataset: MakeDataset, ct_case: CtCase) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        check_dataset(RawDataset.open(make_dataset({"a": ct_case()})), cancel=token)


@pytest.mark.real
def test_the_real_data_sets_are_sound(shared_data: Path) -> None:
    for name in ("Dataset103_SarcomaPET", "Dataset105_DiscCup", "Dataset110_AbdomenCT"):
        assert check_dataset(RawDataset.open(shared_data / name)) == []
