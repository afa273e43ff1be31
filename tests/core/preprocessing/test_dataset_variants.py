"""All forms of nnU-Net v2's raw layout: what `check` calls fit is planned and preprocessed, what it refuses is not."""

from __future__ import annotations

import codecs
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Geometry, Image, read_labels, write_image, write_labels
from meduniseg_core.preprocessing import IGNORED, RawDataset, check_dataset, make_plan, preprocess_dataset

SHAPE = (10, 20, 22)
PLAIN = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "thing": 1}, "file_ending": ".nii.gz"}


def image(seed: int) -> Image:
    array = np.random.default_rng(seed).normal(100, 20, (1, *SHAPE)).astype(np.float32)
    return Image(array, Geometry(SHAPE, (2.0, 1.0, 1.0), (5.0, 6.0, 7.0)))


def labels(top: int = 1, geometry: Geometry | None = None) -> Image:
    ids = np.zeros((1, *SHAPE), dtype=np.uint8)
    ids[0, 2:6, 4:12, 5:15] = 1
    ids[0, 3:5, 6:10, 7:11] = top
    return Image(ids, geometry or image(0).geometry)


def written(folder: Path, label: Image | None = None, channels: int = 1, **changes: Any) -> Path:
    for case in range(3):
        for channel in range(channels):
            write_image(image(case), folder / "imagesTr" / f"c{case}_{channel:04d}.nii.gz")
        write_labels(label or labels(), folder / "labelsTr" / f"c{case}.nii.gz")
    described(folder, **changes)
    return folder


def described(folder: Path, **changes: Any) -> None:
    (folder / "dataset.json").write_text(json.dumps({**PLAIN, **changes}), "utf-8")


def plain(folder: Path) -> None:
    written(folder)


def with_bom(folder: Path) -> None:
    written(folder)
    path = folder / "dataset.json"
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())


def utf_16(folder: Path) -> None:
    written(folder)
    path = folder / "dataset.json"
    path.write_bytes(path.read_text("utf-8").encode("utf-16"))


def moved_and_listed(folder: Path, key: str = "dataset", **changes: Any) -> None:
    written(folder)
    (folder / "imagesTr").rename(folder / "pics")
    (folder / "labelsTr").rename(folder / "segs")
    entries = {f"c{n}": {"images": [f"pics/c{n}_0000.nii.gz"], "label": f"./segs/c{n}.nii.gz"} for n in range(3)}
    if key == "training":
        old = [{"image": entry["images"][0], "label": entry["label"]} for entry in entries.values()]
        described(folder, training=old, **changes)
    else:
        described(folder, dataset=entries, **changes)


def listed_in_part(folder: Path) -> None:
    """The list counts, and not the fourth case in the folder, which has no label."""
    written(folder)
    write_image(image(9), folder / "imagesTr" / "c9_0000.nii.gz")
    entries = {f"c{n}": {"images": [f"imagesTr/c{n}_0000.nii.gz"], "label": f"labelsTr/c{n}.nii.gz"} for n in range(2)}
    described(folder, dataset=entries)


def absolute_within(folder: Path) -> None:
    moved_and_listed(folder)
    entries = {
        f"c{n}": {
            "images": [str(folder.resolve() / f"pics/c{n}_0000.nii.gz")],
            "label": str(folder.resolve() / f"segs/c{n}.nii.gz"),
        }
        for n in range(3)
    }
    described(folder, dataset=entries)


def old_list_left_over(folder: Path) -> None:
    """nnU-Net v1's list, with names without a channel, in a set that was converted: the folder counts."""
    written(folder, training=[{"image": "./imagesTr/c0.nii.gz", "label": "./labelsTr/c0.nii.gz"}])


def ignoring(folder: Path) -> None:
    written(folder, labels(2), labels={"background": 0, "thing": 1, "ignore": 2})


def single_lists(folder: Path) -> None:
    written(folder, labels={"background": 0, "thing": [1]}, regions_class_order=[1])


def patients_of_a_part(folder: Path) -> None:
    written(folder, patient_of={"c0": "P1", "c1": "P1"})


def two_channels(folder: Path) -> None:
    written(folder, channels=2, channel_names={"0": "T1", "1": "T2"})


def cropped_labels(folder: Path) -> None:
    whole = labels()
    origin = tuple((whole.geometry.affine @ [2, 4, 5, 1])[:3].tolist())
    written(folder, Image(whole.array[:, 2:6, 4:12, 5:15], Geometry((4, 8, 10), (2.0, 1.0, 1.0), origin)))


FIT = [plain, with_bom, utf_16, moved_and_listed, listed_in_part, absolute_within, old_list_left_over, ignoring,
       single_lists, patients_of_a_part, two_channels, cropped_labels,
       lambda folder: moved_and_listed(folder, "training")]  # fmt: skip


def regions(folder: Path) -> str:
    written(folder, labels(2), labels={"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])
    return r"region-based .* \{\"background\": 0, \"rest of whole\": 1, \"core\": 2\}"


def listed_outside(folder: Path) -> str:
    moved_and_listed(folder)
    shutil.copyfile(folder / "segs" / "c0.nii.gz", folder.parent / "c0.nii.gz")
    entry = {"images": ["pics/c0_0000.nii.gz"], "label": "../c0.nii.gz"}
    described(folder, dataset={"c0": entry})
    return r"lists \.\./c0\.nii\.gz for c0, which lies outside"


def listed_and_missing(folder: Path) -> str:
    moved_and_listed(folder)
    (folder / "pics" / "c1_0000.nii.gz").unlink()
    return r"c1_0000\.nii\.gz is missing, which dataset\.json lists for c1"


def listed_without_label(folder: Path) -> str:
    moved_and_listed(folder)
    entries = {f"c{n}": {"images": [f"pics/c{n}_0000.nii.gz"]} for n in range(3)}
    described(folder, dataset=entries)
    return "lists no label for c0"


def too_many_images(folder: Path) -> str:
    moved_and_listed(folder)
    entry = {"images": ["pics/c0_0000.nii.gz", "pics/c1_0000.nii.gz"], "label": "segs/c0.nii.gz"}
    described(folder, dataset={"c0": entry})
    return "lists 2 images for c0 and a case has 1"


def named_like_a_path(folder: Path) -> str:
    moved_and_listed(folder)
    entry = {"images": ["pics/c0_0000.nii.gz"], "label": "segs/c0.nii.gz"}
    described(folder, dataset={"../c0": entry})
    return "dataset"


def unlabelled(folder: Path) -> str:
    written(folder)
    (folder / "labelsTr" / "c1.nii.gz").unlink()
    return r"labelsTr.c1\.nii\.gz is missing"


def label_without_image(folder: Path) -> str:
    written(folder)
    (folder / "imagesTr" / "c1_0000.nii.gz").unlink()
    return r"labelsTr.c1\.nii\.gz has no image"


def missing_channel(folder: Path) -> str:
    written(folder, channels=2, channel_names={"0": "T1", "1": "T2"})
    (folder / "imagesTr" / "c2_0001.nii.gz").unlink()
    return r"c2_0001\.nii\.gz is missing"


def masks_of_255(folder: Path) -> str:
    mask = labels()
    written(folder, mask.with_array(mask.array * 255))
    return r"c0\.nii\.gz holds .* \(255\); it is a mask of 0 and 255, so save it with 0 and 1 for thing"


def unnamed_void(folder: Path) -> str:
    written(folder, labels(255))
    return r"c0\.nii\.gz holds .* \(255\); .*add \"ignore\": 2"


def another_grid(folder: Path) -> str:
    written(folder, labels(geometry=Geometry(SHAPE, (2.0, 1.1, 1.0), (5.0, 6.0, 7.0))))
    return "c0.*another grid"


def marked_outside(folder: Path) -> str:
    written(folder, labels(geometry=Geometry(SHAPE, (2.0, 1.0, 1.0), (5.0 + 10, 6.0, 7.0))))
    return "c0.* marks .* outside c0_0000"


def no_modality(folder: Path) -> str:
    written(folder, channel_names={"0": "scan"})
    return "does not say its modality"


def a_patient_of_no_case(folder: Path) -> str:
    written(folder, patient_of={"c7": "P"})
    return "patient_of names c7"


UNFIT = [regions, listed_outside, listed_and_missing, listed_without_label, too_many_images, named_like_a_path,
         unlabelled, label_without_image, missing_channel, masks_of_255, unnamed_void, another_grid, marked_outside,
         no_modality, a_patient_of_no_case]  # fmt: skip


@pytest.mark.parametrize("variant", FIT)
def test_what_check_calls_fit_is_planned_and_preprocessed(variant: Callable[[Path], None], tmp_path: Path) -> None:
    variant(tmp_path / "set")
    dataset = RawDataset.open(tmp_path / "set")
    assert check_dataset(dataset) == []
    plan = make_plan(dataset, patch=(8, 16, 16))
    cached = preprocess_dataset(dataset, plan, tmp_path / "cache")
    assert len(cached) == (2 if variant is listed_in_part else 3)
    assert plan.classes == ("thing",)
    assert all(case.counts[1] > 0 and len(case.foreground[1]) for case in cached)


@pytest.mark.parametrize("variant", UNFIT)
def test_what_check_refuses_is_neither_planned_nor_preprocessed(variant: Callable[[Path], str], tmp_path: Path) -> None:
    """And what `check` says is what planning says: the file at fault, the reason, the remedy."""
    reason = variant(tmp_path / "set")
    good = make_plan(RawDataset.open(written(tmp_path / "good")), patch=(8, 16, 16))

    def refused(work: Callable[[RawDataset], object]) -> str:
        with pytest.raises(BadInputError, match=reason) as raised:
            work(RawDataset.open(tmp_path / "set"))
        return str(raised.value)

    def check(dataset: RawDataset) -> None:
        problems = check_dataset(dataset)
        if problems:
            raise BadInputError(problems[0])

    said = refused(check)
    assert refused(lambda dataset: make_plan(dataset, patch=(8, 16, 16))) == said
    if variant is no_modality:
        return  # a plan that is given says the modality
    if variant is missing_channel:
        twice = {"normalisation": good.normalisation * 2, "figures": good.figures * 2}
        good = good.model_copy(update={"channels": ("T1", "T2"), **twice})
    assert refused(lambda dataset: preprocess_dataset(dataset, good, tmp_path / "cache")) == said


def test_a_case_that_patient_of_leaves_out_is_a_patient_of_its_own(tmp_path: Path) -> None:
    patients_of_a_part(tmp_path)
    cases = RawDataset.open(tmp_path).cases("Tr")
    assert [(case.case, case.patient) for case in cases] == [("c0", "P1"), ("c1", "P1"), ("c2", "c2")]


def test_ignored_voxels_stay_ignored_on_the_networks_grid(tmp_path: Path) -> None:
    ids = np.full((1, *SHAPE), 2, dtype=np.uint8)  # sparse: one slice and a corner were looked at
    ids[0, 4] = 0
    ids[0, 4, 4:12, 5:15] = 1
    ids[0, 7, :4, :4] = 0
    written(tmp_path / "set", Image(ids, image(0).geometry), labels={"background": 0, "thing": 1, "ignore": 2})
    dataset = RawDataset.open(tmp_path / "set")
    plan = make_plan(dataset, patch=(8, 16, 16), spacing=(2.0, 2.0, 2.0))
    (case, *_) = preprocess_dataset(dataset, plan, tmp_path / "cache")
    assert set(np.unique(case.seg)) == {0, 1, IGNORED}
    assert (case.seg[5] == IGNORED).all() and (case.seg[4] != IGNORED).all()
    assert case.counts.keys() == {0, 1} and case.looked_at is not None
    assert (case.seg[tuple(case.looked_at.T)] != IGNORED).all()
    assert len(case.looked_at) == np.count_nonzero(case.seg != IGNORED)
    # what was not looked at is no foreground to take intensities from
    unlabelled_bright = image(0).array.copy()
    unlabelled_bright[0, 9] = 1e6
    write_image(image(0).with_array(unlabelled_bright), tmp_path / "set" / "imagesTr" / "c0_0000.nii.gz")
    figures = make_plan(dataset, patch=(8, 16, 16)).figures[0]
    assert figures is not None and figures.mean == pytest.approx(100, abs=10)


def test_a_label_map_that_was_corrected_differs_only_where_somebody_looked(tmp_path: Path) -> None:
    ignoring(tmp_path / "set")
    dataset = RawDataset.open(tmp_path / "set")
    plan = make_plan(dataset, patch=(8, 16, 16))
    predicted = tmp_path / "p.nii.gz"
    write_labels(image(0).with_array(np.zeros((1, *SHAPE), np.uint8)), predicted)
    cached = preprocess_dataset(dataset, plan, tmp_path / "cache", predictions={"c0": predicted})
    truth = read_labels(dataset.cases("Tr")[0].label or Path()).array[0]
    assert cached.cases[0].changed is not None
    assert cached.cases[0].changed.sum() == np.count_nonzero(truth == 1)
