"""What modality an image tells: by its DICOM header, else by its voxels, else nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meduniseg_core.catalog import MODALITIES
from meduniseg_core.images import Geometry, Image, read_image
from meduniseg_core.images.formats.dicom_spacing import PROJECTIONS
from meduniseg_core.images.modality_check import COLOUR_MODALITIES, likely_modalities

RANDOM = np.random.default_rng(0)
COLOUR = ("dermoscopy", "fundus", "pathology", "endoscopy")


def image(array: np.ndarray, **meta: Any) -> Image:
    shape = (array.shape[1], array.shape[2], array.shape[3])
    return Image(array, Geometry(shape, (1.0, 1.0, 1.0)), meta=meta)


HU = RANDOM.choice([-1000, -60, 40], size=(1, 8, 16, 16)).astype(np.int16)
MR = RANDOM.gamma(2, 100, size=(1, 8, 16, 16)).astype(np.int16)
COLOURED = RANDOM.integers(0, 255, size=(3, 1, 16, 16), dtype=np.uint8)
GREY = RANDOM.integers(0, 255, size=(1, 1, 16, 16), dtype=np.uint8)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (image(HU), ("ct",)),
        (image(HU[:, :1]), ("ct",)),
        (image(HU + np.int16(1024)), ()),  # a CT that is not as it should be, or MR
        (image(np.clip(HU, -100, 100)), ()),
        (image(np.clip(HU, -160, 20)), ()),
        (image(MR - MR.mean()), ()),
        (image(MR), ("mri", "pet")),
        (image(MR[:, :1]), ()),
        (image(GREY), ()),
        (image(np.repeat(GREY, 8, axis=1)), ()),
        (image(COLOURED, colour="rgb"), COLOUR),
        (image(np.repeat(GREY, 3, axis=0), colour="rgb"), ()),  # ultrasound, say
        (image(np.concatenate([HU, HU])), ()),
        (image(HU, modality="PT"), ("pet",)),  # the header goes before the voxels
        (image(COLOURED, colour="rgb", modality="ES"), ("endoscopy",)),
        (image(COLOURED, colour="rgb", modality="XC"), COLOUR),
        (image(GREY, modality="US"), ("ultrasound",)),
        (image(MR, modality="OT"), ("mri", "pet")),
    ],
)
def test_what_an_image_tells(found: Image, expected: tuple[str, ...]) -> None:
    assert likely_modalities(found) == expected


def test_the_catalogue_knows_dicom_s_names_once_each() -> None:
    codes = [code for modality in MODALITIES.values() for code in modality.dicom]
    assert len(codes) == len(set(codes))
    assert set(MODALITIES["xray"].dicom) == PROJECTIONS
    assert set(COLOUR) == COLOUR_MODALITIES


@pytest.mark.real
def test_no_training_image_is_said_to_be_of_another_modality(shared_data: Path) -> None:
    wrong, told = [], 0
    for description in sorted(shared_data.glob("*/dataset.json")):
        modality = json.loads(description.read_text())["modality"]
        files = sorted((description.parent / "imagesTr").iterdir())
        for file in files[:: max(1, len(files) // 3)][:3]:
            likely = likely_modalities(read_image(file))
            told += bool(likely)
            # the first channel of PET is a CT
            if likely and modality not in likely and not (modality == "pet" and likely == ("ct",)):
                wrong.append(f"{file.name}: {likely}")
    assert wrong == [] and told >= 20
