"""Names of BIDS derivatives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meduniseg_core.archive.bids import bids_stem, describe_derivative
from meduniseg_core.errors import UsageError


@pytest.mark.parametrize(
    ("case", "task", "modality", "wanted"),
    [
        ("sub-01_T1w", "spleen", "mri", "sub-01/anat/sub-01_seg-spleen_desc-T1w_dseg"),
        ("sub-01_ses-2_run-1_T2w", "spleen", "mri", "sub-01/ses-2/anat/sub-01_ses-2_run-1_seg-spleen_desc-T2w_dseg"),
        (
            "sub-A7_ses-pre_trc-FDG_pet",
            "sarcoma",
            "pet",
            "sub-A7/ses-pre/pet/sub-A7_ses-pre_trc-FDG_seg-sarcoma_desc-pet_dseg",
        ),
        (
            "sub-01_space-MNI_res-2_T1w",
            "disc_cup",
            "mri",
            "sub-01/anat/sub-01_space-MNI_seg-discCup_res-2_desc-T1w_dseg",
        ),
        ("sub-01_desc-preproc_T1w", "brain", "mri", "sub-01/anat/sub-01_seg-brain_desc-preprocT1w_dseg"),
        ("sub-01", "brain", "mri", "sub-01/anat/sub-01_seg-brain_dseg"),
        ("pat_0042", "liver", "ct", "sub-pat0042/anat/sub-pat0042_seg-liver_dseg"),
        ("Čapek 7", "liver", "ct", "sub-apek7/anat/sub-apek7_seg-liver_dseg"),
        ("sub-0/1_T1w", "liver", "ct", "sub-sub01T1w/anat/sub-sub01T1w_seg-liver_dseg"),
    ],
)
def test_a_case_s_name_becomes_that_of_a_segmentation(case: str, task: str, modality: str, wanted: str) -> None:
    folder, stem = bids_stem(case, task, modality)
    assert (folder / stem).as_posix() == wanted


def test_a_name_without_letters_is_refused() -> None:
    with pytest.raises(UsageError, match="has no BIDS name"):
        bids_stem("__", "liver", "ct")


def test_a_derivative_is_described_once_and_a_raw_data_set_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "derivatives" / "meduniseg"
    for _ in range(2):
        describe_derivative(out)
    content = json.loads((out / "dataset_description.json").read_text("utf-8"))
    assert content["DatasetType"] == "derivative" and content["GeneratedBy"][0]["Name"] == "napari-meduniseg"
    (tmp_path / "dataset_description.json").write_text('{"Name": "mine", "BIDSVersion": "1.9.0"}')
    with pytest.raises(UsageError, match="derivatives"):
        describe_derivative(tmp_path)
