"""More situations of users (``shared/cases``): each gives the value that its ``case.md`` states, with the starter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meduniseg_core.checks.image_checks import check_image, refuse_image
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import find_cases, read_image, read_labels
from meduniseg_core.images.upright import meet
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.weights import Registry

pytestmark = pytest.mark.real


def plan_of(task: str) -> TaskPlan:
    return Registry().info("starter").plan_of(task)


def test_02_left_and_right_that_are_not_known_are_refused_for_sided_classes(cases: Path) -> None:
    image = read_image(cases / "02-no-orientation-codes" / "no_codes.nii.gz")
    assert "orientation_unknown" in [finding.code for finding in image.findings]
    with pytest.raises(BadInputError, match="--assume-orientation"):
        refuse_image(image, plan_of("head_neck_organs"))


def test_03_a_turned_photograph_and_its_mask_never_meet_silently_misaligned(cases: Path, tmp_path: Path) -> None:
    folder = cases / "03-exif-photo"
    upright = read_image(folder / "upright.jpg").array.astype(float)
    for angle in (90, 180):
        turned = read_image(folder / f"phone_turned_{angle}.jpg")
        assert turned.array.shape == upright.shape and np.abs(turned.array - upright).mean() < 10
        assert "orientation_applied" in [finding.code for finding in turned.findings]
    mask = read_labels(folder / "mask_drawn_on_the_displayed_photo.png")
    half_a_turn = read_image(folder / "phone_turned_180.jpg")
    with pytest.raises(BadInputError, match="drawn-on: stored or shown"):
        meet(mask, half_a_turn, None)
    assert np.array_equal(meet(mask, half_a_turn, "shown").array, mask.array)


def test_04_a_ct_that_is_not_in_hounsfield_units_is_said(cases: Path) -> None:
    plan = plan_of("head_neck_organs")
    said = {}
    for name in ("ct_plus_1024", "ct_0_to_1"):
        found = check_image(read_image(cases / "04-ct-not-hu" / f"{name}.nii.gz"), plan)
        said[name] = next(finding.text for finding in found if finding.code == "intensity_mismatch")
    assert "stored 1024 too high: subtract that" in said["ct_plus_1024"]
    assert "air near -1000" in said["ct_0_to_1"]


def test_10_numbered_patients_are_cases(cases: Path) -> None:
    folder = cases / "10-cases-numbered-like-channels"
    for channels in (None, 1, 2):
        assert list(find_cases(folder / "amos", channels=channels)) == ["amos_0001", "amos_0002", "amos_0005"]
    assert list(find_cases(folder / "pat", channels=1)) == ["pat_0000", "pat_0001"]
    pair = find_cases(folder / "pat", channels=2)["pat"]
    found = check_image(read_image(pair), plan_of("sarcoma"))
    assert "channel_pair_doubtful" in [finding.code for finding in found]


def test_50_mm_voxels_of_a_head_are_refused_before_any_work(cases: Path) -> None:
    image = read_image(cases / "hostile" / "p50.nii.gz")
    with pytest.raises(BadInputError, match=r"p50\.nii\.gz has voxels of 50 x 50 x 50 mm, which no CT image has"):
        refuse_image(image, plan_of("head_neck_organs"))
