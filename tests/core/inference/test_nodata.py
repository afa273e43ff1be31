"""Voxels without a measurement: known by a value that nothing else has, said, and never taken for tissue."""

from __future__ import annotations

import numpy as np
import pytest
from inference_samples import FIGURES, tiny_model, volume_plan

from meduniseg_core.checks.image_checks import check_image, without_nodata
from meduniseg_core.images import Geometry, Image
from meduniseg_core.images.nodata import nodata_of
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import TaskPlan

CT = volume_plan(figures=(FIGURES.model_copy(update={"percentile_00_5": -150.0}),))
MR = volume_plan("brain", modality="mri", channels=("T1",), normalisation=("zscore",), figures=(None,))
PET_CT = volume_plan(
    "tumour", modality="pet", channels=("CT", "PET"), normalisation=("ct", "zscore"), figures=(FIGURES, None)
)


def round_field(value: float, inside: np.ndarray) -> np.ndarray:
    """``inside`` (D, H, W) with ``value`` outside of a circle, as scanners reconstruct."""
    _, h, w = np.meshgrid(*(np.linspace(-1, 1, size) for size in inside.shape), indexing="ij")
    return np.where(h**2 + w**2 > 1, value, inside)


def scan(kind: str, shape: tuple[int, int, int] = (12, 40, 40)) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 12, shape)
    _, h, w = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    body = h**2 + w**2 < 0.5
    tissue, air = (40, -1000) if kind == "ct" else (400, 15)
    return np.asarray(np.round(np.where(body, tissue, air) + noise).clip(0 if kind != "ct" else -1024))


def image_of(*channels: np.ndarray, dtype: type = np.int16) -> Image:
    array = np.stack(channels).astype(dtype)
    return Image(array, Geometry(array.shape[1:], (2.0, 2.0, 2.0)))


def codes(image: Image, plan: TaskPlan) -> list[str]:
    return [finding.code for finding in check_image(image, plan)]


@pytest.mark.parametrize(
    ("kind", "value", "dtype"),
    [
        ("ct", -2000, np.int16),
        ("ct", -3024, np.int16),
        ("ct", -2048, np.float32),
        ("ct", -32768, np.int16),
        ("ct", 32767, np.int16),
        ("ct", 65535, np.int32),
        ("mr", -32768, np.int16),
        ("mr", -1024, np.int16),
        ("mr", -9999, np.float32),
        ("mr", 65535, np.uint16),
        ("mr", 32767, np.int16),
        ("mr", -(2**31), np.int32),
    ],
)
def test_a_mark_is_said_and_taken_for_air_or_background(kind: str, value: int, dtype: type) -> None:
    plan = CT if kind == "ct" else MR
    plain = scan(kind)
    image = image_of(round_field(value, plain), dtype=dtype)
    outside = image.array[0] == value
    assert codes(image, plan) == ["nodata_filled"]
    (found,) = check_image(image, plan)
    assert f"has {value} in 2" in found.text  # per cent
    assert found.level == ("info" if kind == "ct" and value < 0 else "warning")
    cleaned = without_nodata(image, [plan])
    assert cleaned.array.dtype == image.array.dtype
    assert np.unique(cleaned.array[0][outside]).tolist() == [-1000 if kind == "ct" else plain[~outside].min()]
    assert np.array_equal(cleaned.array[0][~outside], image.array[0][~outside])


@pytest.mark.parametrize("kind", ["ct", "mr"])
def test_what_can_be_measured_is_left_alone(kind: str) -> None:
    plan = CT if kind == "ct" else MR
    plain = scan(kind)
    assert without_nodata(image := image_of(plain), [plan]) is image
    padded = round_field(-1024 if kind == "ct" else 0, plain)  # the usual paddings
    assert without_nodata(image := image_of(padded), [plan]) is image
    metal = plain.copy()
    metal[4:7, 18:22, 18:22] = 32767  # within the body
    assert without_nodata(image := image_of(metal), [plan]) is image
    standardised = (plain - plain.mean()) / plain.std()
    assert without_nodata(image := image_of(round_field(-9, standardised), dtype=np.float32), [plan]) is image
    assert nodata_of(np.full((3, 4, 5), -2000, np.int16), hounsfield=True) == ()  # nothing else is there
    assert nodata_of(round_field(255, plain / 2).astype(np.uint8), hounsfield=False) == ()


def test_a_ct_stored_too_low_keeps_its_own_warning() -> None:
    low = image_of(scan("ct") - 1024)
    assert codes(low, CT) == ["intensity_mismatch"]
    assert without_nodata(low, [CT]) is low


def test_each_channel_has_its_own_mark() -> None:
    image = image_of(round_field(-2000, scan("ct")), round_field(-32768, scan("pet")))
    ct, pet = (finding.text for finding in check_image(image, PET_CT) if finding.code == "nodata_filled")
    assert ct.startswith("Channel 1 of") and "air (-1000 HU)" in ct
    assert pet.startswith("Channel 2 of") and "background (" in pet


@pytest.mark.parametrize("value", [-32768, 32767])
def test_the_labels_are_those_of_the_image_without_marks(value: int) -> None:
    predictor = Predictor(tiny_model([MR]), "cpu", "fp32")
    plain = scan("mr")
    outside = round_field(1, np.zeros(plain.shape)) == 1
    expected = predictor.segment(image_of(np.where(outside, plain[~outside].min(), plain)), "brain")["brain"]
    marked = image_of(round_field(value, plain))
    result = predictor.segment(marked, "brain")["brain"]
    assert np.array_equal(result.labels.array, expected.labels.array)
    assert "nodata_filled" in [finding.code for finding in result.findings]


def test_hounsfield_units_given_to_an_mr_task_have_air_and_no_gaps() -> None:
    image = image_of(np.random.default_rng(0).choice([-1000, 0, 60], size=(12, 20, 20)))
    assert without_nodata(image, [MR]) is image
    assert "nodata_filled" not in codes(image, MR)


def test_a_result_s_image_is_the_one_that_was_given() -> None:
    image = image_of(round_field(-32768, scan("mr")))
    predictor = Predictor(tiny_model([MR]), device="cpu", precision="fp32")
    assert predictor.segment(image, "brain")["brain"].image is image
