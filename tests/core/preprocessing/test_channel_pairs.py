"""Two cases that were taken for the channels of one."""

from __future__ import annotations

import numpy as np
import pytest

from meduniseg_core.checks.image_checks import check_image
from meduniseg_core.images import Geometry, Image
from meduniseg_core.preprocessing import TaskPlan

SHAPE = (8, 24, 24)


def plan(*channels: str) -> TaskPlan:
    count = len(channels)
    return TaskPlan(
        task="t", modality="pet", dimension=3, channels=channels, classes=("x",), spacing=(2.0, 2.0, 2.0),
        patch=(8, 24, 24), normalisation=("zscore",) * count, figures=(None,) * count, crop_to_body=False,
    )  # fmt: skip


def image(*channels: np.ndarray) -> Image:
    return Image(np.stack([channel.astype(np.float32) for channel in channels]), Geometry(SHAPE, (2.0, 2.0, 2.0)))


def ct(seed: int, offset: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    body = rng.normal(size=SHAPE) * 40 + 40
    body[:, :6] = -1000
    return body + offset


def pet(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).exponential(0.7, size=SHAPE)


def doubts(found: Image, *channels: str) -> list[str]:
    return [one.text for one in check_image(found, plan(*channels)) if one.code == "channel_pair_doubtful"]


@pytest.mark.parametrize(
    ("channels", "names", "doubtful"),
    [
        ((ct(0), ct(1)), ("CT", "PET"), True),
        ((ct(0, 1024), ct(1, 1024)), ("CT", "PET"), True),  # not in Hounsfield units, both
        ((ct(0) / 4000, ct(1) / 4000), ("CT", "PET"), True),
        ((pet(0), pet(1)), ("CT", "PET"), True),
        ((ct(0), pet(1)), ("CT", "PET"), False),
        ((ct(0), pet(0), pet(1)), ("CT", "PET", "SUV"), False),
        ((pet(0), pet(1)), ("T1", "T2"), False),  # values do not tell sequences apart
        ((pet(0), pet(0)), ("T1", "T2"), True),  # one file twice
        ((np.zeros(SHAPE), np.zeros(SHAPE)), ("T1", "T2"), False),
    ],
)
def test_channels_that_look_like_two_cases_deserve_a_word(channels, names, doubtful) -> None:
    assert bool(doubts(image(*channels), *names)) is doubtful


def test_the_sentence_names_both_channels() -> None:
    (text,) = doubts(image(ct(0), ct(1)), "CT", "PET")
    assert "taken as CT and PET of one case" in text and text.endswith("_0000, _0001.")
