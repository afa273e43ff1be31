"""What an image is proposed to be: photographs by their colours, and no guess where nothing tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meduniseg_core.images import Geometry, Image, read_image
from meduniseg_core.images.modality_guess import guess_modality, photograph_doubt, photograph_kind

RANDOM = np.random.default_rng(0)


def image(array: np.ndarray, **meta: Any) -> Image:
    return Image(array, Geometry(array.shape[1:], (1.0, 1.0, 1.0)), meta=meta)


def photograph(colour: tuple[int, int, int], noise: float, disc: bool) -> Image:
    values = np.asarray(colour) + RANDOM.normal(0, noise, (200, 220, 3))
    if disc:
        y, x = np.mgrid[-1:1:200j, -1.1:1.1:220j]
        values[y**2 + x**2 > 1] = 3
    return image(np.moveaxis(values.clip(0, 255).astype(np.uint8), -1, 0)[:, None], colour="rgb")


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (photograph((180, 85, 40), 18, True), "fundus"),
        (photograph((200, 150, 145), 33, False), "dermoscopy"),
        (photograph((200, 120, 205), 38, False), "pathology"),
        (photograph((40, 160, 60), 30, False), None),  # a lawn
        (image(RANDOM.integers(0, 255, (3, 1, 64, 64), dtype=np.uint8), colour="rgb"), None),
        (image(np.zeros((3, 1, 64, 64), np.uint8), colour="rgb"), None),
        (image(np.full((3, 1, 4, 4), 200, np.uint8), colour="rgb"), None),  # too small to tell
    ],
)
def test_photographs_are_told_by_their_colours(found: Image, kind: str | None) -> None:
    assert photograph_kind(found) == kind


def test_a_photograph_that_is_not_told_may_be_of_any_kind_in_colour() -> None:
    guess = guess_modality(photograph((40, 160, 60), 30, False))
    assert guess.best is None and set(guess.possible) == {"dermoscopy", "fundus", "pathology", "endoscopy"}


def test_a_photograph_of_another_kind_is_doubted_and_one_of_no_kind_is_not() -> None:
    retina = photograph((180, 85, 40), 18, True)
    assert "looks like fundus, and is taken for pathology" in (
        photograph_doubt(retina, "pathology", takes_colour=True) or ""
    )
    assert "and mri images are grey" in (photograph_doubt(retina, "mri", takes_colour=False) or "")
    assert photograph_doubt(retina, "fundus", takes_colour=True) is None
    assert photograph_doubt(retina, None, takes_colour=True) is None
    assert photograph_doubt(photograph((40, 160, 60), 30, False), "fundus", takes_colour=True) is None  # a lawn


def test_grey_images_are_not_guessed_but_are_no_photographs() -> None:
    flat = guess_modality(image(RANDOM.integers(0, 255, (1, 1, 32, 32), dtype=np.uint8)))
    deep = guess_modality(image(RANDOM.integers(0, 255, (1, 8, 32, 32), dtype=np.uint8)))
    assert flat.best is None and {"xray", "ultrasound", "ct", "mri"} <= set(flat.possible)
    assert "fundus" not in flat.possible and set(deep.possible) == {"ct", "mri", "pet"}
    assert guess_modality(image(RANDOM.integers(0, 9, (2, 8, 32, 32), dtype=np.uint8))).possible == ()


def test_scans_are_told_by_their_values_or_header() -> None:
    hounsfield = RANDOM.choice([-1000, -60, 40], size=(1, 8, 16, 16)).astype(np.int16)
    assert guess_modality(image(hounsfield)).best == "ct"
    assert guess_modality(image(hounsfield, modality="PT")).best == "pet"
    assert guess_modality(image(RANDOM.gamma(2, 100, size=(1, 8, 16, 16)).astype(np.int16))).best == "mri"


@pytest.mark.real
def test_training_photographs_are_not_doubted_for_their_own_modality_and_most_are_for_another(
    shared_data: Path,
) -> None:
    doubted: dict[str, list[bool]] = {}
    for folder, modality, other in (
        ("Dataset104_SkinLesion", "dermoscopy", "endoscopy"),
        ("Dataset109_Polyp", "endoscopy", "pathology"),
        ("Dataset105_DiscCup", "fundus", "dermoscopy"),
    ):
        for file in sorted((shared_data / folder / "imagesTr").iterdir())[:8]:
            found = read_image(file)
            assert photograph_doubt(found, modality, takes_colour=True) is None, file.name
            doubted.setdefault(other, []).append(photograph_doubt(found, other, takes_colour=True) is not None)
    assert all(sum(each) >= 6 for each in doubted.values()), doubted


@pytest.mark.real
def test_held_out_photographs_are_told_and_hardly_one_wrongly(shared_data: Path) -> None:
    told = wrong = seen = 0
    for description in sorted(shared_data.glob("*/dataset.json")):
        modality = json.loads(description.read_text())["modality"]
        if modality not in ("dermoscopy", "fundus", "pathology", "endoscopy"):
            continue
        for file in sorted((description.parent / "imagesTs").iterdir())[:6]:
            best = guess_modality(read_image(file)).best
            seen, told, wrong = seen + 1, told + (best is not None), wrong + (best not in (None, modality))
    assert seen >= 20 and told >= 0.7 * seen and wrong <= 1
