"""Situations of real users (shared/cases): pairs that meet, masks by ids, crops, and data sets in all their forms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import read_image, read_labels, same_grid
from training_cli.main import app

pytestmark = pytest.mark.real


def answer(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.stdout


def test_14_binary_masks_of_other_ids_are_compared_and_that_is_said(cases: Path) -> None:
    folder = cases / "14-evaluate-masks-0-255"
    for extra in ((), ("--classes", "lesion")):
        report = json.loads(answer("evaluate", folder / "predictions", folder / "references", "--json", *extra))
        assert report["dice"]["mean"] == 1.0 and len(report["classes"]) == 1
        assert [warning["code"] for warning in report["warnings"]] == ["labels_matched"]


def test_15_the_same_voxels_in_another_axis_order_are_compared(cases: Path) -> None:
    folder = cases / "15-same-grid-other-axis-order"
    pair = (folder / "prediction.nii.gz", folder / "reference_ras.nii.gz")
    report = json.loads(answer("evaluate", *pair, "--json"))
    assert report["dice"]["mean"] == 1.0 and read_labels(pair[0]).array.any()


def test_17_slicers_cropped_segmentation_is_put_on_its_image(cases: Path, tmp_path: Path) -> None:
    folder = cases / "17-slicer-cropped-seg-nrrd"
    image, crop = folder / "ct.nrrd", folder / "bone.seg.nrrd"
    words = ("corrections", "add", tmp_path, image, "--labels", crop, "--task", "x", "--modality", "ct", "--json")
    added = json.loads(answer(*words))
    assert [warning["code"] for warning in added["warnings"]] == ["labels_placed"]
    assert [entry["name"] for entry in added["entry"]["classes"]] == ["bone"]  # as Slicer's header says
    stored = read_labels(tmp_path / "labelsTr" / f"{added['entry']['case']}.nii.gz")
    part = read_labels(crop)
    assert same_grid(stored.geometry, read_image(image).geometry)
    wanted = np.zeros_like(stored.array)
    wanted[:, 3:8, 10:20, 8:20] = part.array  # Slicer's own ReferenceImageExtentOffset: 8 10 3
    assert np.array_equal(stored.array, wanted)
    report = json.loads(answer("evaluate", tmp_path / "labelsTr" / f"{added['entry']['case']}.nii.gz", crop, "--json"))
    assert report["dice"]["mean"] == 1.0 and report["classes"][0]["name"] == "bone"
    assert json.loads(answer("dataset", "check", tmp_path, "--json"))["datasets"][0]["problems"] == []


@pytest.mark.parametrize("name", ["Dataset902_Listed", "Dataset904_Ignore", "Dataset905_Bom"])
def test_21_data_sets_in_nnunets_other_forms_are_fit_and_planned(name: str, cases: Path, tmp_path: Path) -> None:
    folder = cases / "21-dataset-json-variants" / name
    report = json.loads(answer("dataset", "check", folder, "--json"))
    assert report["datasets"][0]["problems"] == [] and report["datasets"][0]["cases"] == {"Tr": 3, "Ts": 0}
    plans = json.loads(answer("dataset", "plan", folder, "-o", tmp_path / "plans.json", "--json"))
    assert plans["plans"][0]["classes"] == ["thing"]
    made = json.loads(answer("dataset", "preprocess", folder, "-o", tmp_path / "cache", "--json"))
    assert made["datasets"][0]["cases"] == 3


def test_21_regions_are_refused_with_the_labels_that_do_it(cases: Path, tmp_path: Path) -> None:
    folder = cases / "21-dataset-json-variants" / "Dataset903_Regions"
    for words in (("check", folder), ("plan", folder, "-o", tmp_path / "plans.json")):
        result = CliRunner().invoke(app, ["dataset", *map(str, words)])
        assert isinstance(result.exception, BadInputError)
        assert '{"background": 0, "rest of whole": 1, "core": 2}' in str(result.exception)
