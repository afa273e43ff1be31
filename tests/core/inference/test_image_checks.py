"""Images that are not what a task expects are named as such, in the core: command, panels and Python ask it there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from inference_samples import FIGURES, picture, picture_plan, tiny_model, volume_plan

from meduniseg_core.checks.image_checks import check_image, refuse_image
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Geometry, Image, read_image
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawDataset, TaskPlan
from meduniseg_core.weights.registry import Registry

HU = volume_plan(figures=(FIGURES.model_copy(update={"percentile_00_5": -150.0}),))
MR = volume_plan("brain", modality="mri", channels=("T1",), normalisation=("zscore",), figures=(None,))
PET_CT = volume_plan(
    "tumour",
    modality="pet",
    channels=("CT", "PET"),
    normalisation=("ct", "zscore"),
    figures=(FIGURES, None),
)
WINDOWED = picture_plan(
    "slice", modality="ct", channels=("ct",), normalisation=("zscore",), figures=(None,), classes=("liver",)
)


def body(shape: tuple[int, int, int] = (12, 40, 40)) -> np.ndarray:
    """A phantom in HU: air, a body of fat and muscle, bone and lung in it."""
    generator = np.random.default_rng(0)
    _, h, w = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    array = np.full(shape, -1000.0)
    array[h**2 + w**2 < 0.8] = -90
    array[h**2 + w**2 < 0.6] = 50
    array[(h - 0.4) ** 2 + w**2 < 0.02] = 700
    array[(h + 0.2) ** 2 + (w - 0.3) ** 2 < 0.04] = -800
    return np.asarray((array + generator.normal(0, 12, shape)).round())


def image_of(*channels: np.ndarray, dtype: type = np.int16, physical: bool = True) -> Image:
    array = np.stack(channels)
    return Image(array.astype(dtype), Geometry(array.shape[1:], (2.0, 2.0, 2.0)), physical=physical)


def mr(shape: tuple[int, int, int] = (12, 40, 40)) -> np.ndarray:
    inside = body(shape) > -500
    return np.where(inside, 400 + np.random.default_rng(1).normal(0, 90, shape), 6).clip(0)


def codes(image: Image, plan: TaskPlan) -> list[str]:
    return [finding.code for finding in check_image(image, plan)]


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    ("changed", "dtype"),
    [
        (lambda hu: hu + 1024, np.uint16),
        (lambda hu: hu + 1000, np.int16),
        (lambda hu: hu - 1024, np.int16),
        (lambda hu: (hu - hu.min()) / np.ptp(hu), np.float32),
        (lambda hu: 2 * (hu - hu.min()) / np.ptp(hu) - 1, np.float32),
        (lambda hu: 255 * np.clip((hu + 160) / 400, 0, 1), np.uint8),
        (lambda hu: 255 * np.clip((hu + 160) / 400, 0, 1), np.float32),
        (lambda hu: (hu - hu.mean()) / hu.std(), np.float32),
        (lambda hu: hu * 10, np.int16),
        (lambda hu: np.clip(hu, -100, 300), np.int16),
        (lambda hu: mr(hu.shape), np.int16),
    ],
)
def test_what_is_not_in_hounsfield_units_is_said_to_ct_tasks(changed: object, dtype: type, flat: bool) -> None:
    array = changed(body())  # type: ignore[operator]
    image = image_of(array[6:7] if flat else array, dtype=dtype)
    assert codes(image, HU) == ["intensity_mismatch"]


@pytest.mark.parametrize(
    "array",
    [
        body(),
        body()[:, 12:28, 14:26],  # inside the body: no air
        np.clip(body(), -1000, 3000),
        np.clip(body(), -200, 300),  # clipped below what the task looks at: nothing is lost
        np.where(body() > 735, 20000, body()),  # metal
    ],
)
def test_ct_in_hounsfield_units_is_no_finding(array: np.ndarray) -> None:
    assert codes(image_of(array), HU) == []
    assert codes(image_of(array[6:7]), HU) == []


@pytest.mark.parametrize("value", [-2000, -3024])
def test_what_lies_outside_of_a_ct_s_field_is_said_and_no_doubt(value: int) -> None:
    """It is taken for air (see test_nodata), which is said, and not for a CT that is not in Hounsfield units."""
    found = check_image(image_of(np.where(body() < -900, value, body())), HU)
    assert [(finding.code, finding.level) for finding in found] == [("nodata_filled", "info")]


def test_the_remedy_for_a_ct_stored_1024_too_high_is_named() -> None:
    (found,) = check_image(image_of(body() + 1024), HU)
    assert "1024 too high" in found.text and found.level == "warning" and "\n" not in found.text


def test_ct_given_to_a_task_of_another_modality_is_said() -> None:
    assert codes(image_of(body()), MR) == ["intensity_mismatch"]
    assert codes(image_of(mr()), MR) == []
    phase = np.random.default_rng(0).uniform(-4096, 4095, (12, 40, 40))  # an MR phase image: negative, but no CT
    assert codes(image_of(phase), MR) == []
    difference = np.random.default_rng(0).normal(0, 300, (12, 40, 40))  # two MR subtracted
    assert codes(image_of(difference), MR) == []


def test_pet_and_ct_in_the_wrong_order_are_both_named() -> None:
    suv = np.abs(np.random.default_rng(2).gamma(1.0, 1.5, (12, 40, 40)))
    assert codes(image_of(body(), suv, dtype=np.float32), PET_CT) == []
    swapped = check_image(image_of(suv, body(), dtype=np.float32), PET_CT)
    assert [finding.text.split(" of ")[0] for finding in swapped] == ["Channel 1 (CT)", "Channel 2 (PET)"]
    both_ct = codes(image_of(body(), body() + 1, dtype=np.float32), PET_CT)  # no PET, and perhaps two patients
    assert both_ct == ["intensity_mismatch", "channel_pair_doubtful"]


def test_slices_for_a_task_of_windowed_pictures() -> None:
    hu = body()[6:7]
    picture_of = 255 * np.clip((hu + 160) / 400, 0, 1)
    assert codes(image_of(picture_of, dtype=np.uint8, physical=False), WINDOWED) == []
    assert codes(image_of(hu), WINDOWED) == ["intensity_window"]
    assert codes(image_of(hu, physical=False), WINDOWED) == ["intensity_window"]
    assert codes(image_of(hu + 1024), WINDOWED) == ["intensity_window"]  # and converted
    assert codes(image_of(hu * 10), WINDOWED) == ["intensity_mismatch"]
    assert codes(image_of(mr()[6:7]), WINDOWED) == ["intensity_mismatch"]


def test_colour_where_grey_is_expected_and_grey_where_colour_is() -> None:
    colour, task = picture(64, 64), picture_plan(modality="pathology")  # of the four kinds noise is nearest to it
    grey = colour.with_array(np.repeat(colour.array[:1], 3, axis=0))
    jpeg = grey.with_array(grey.array - np.minimum(grey.array, np.array([0, 1, 2], np.uint8)[:, None, None, None]))
    assert codes(colour, task) == []
    assert codes(grey, task) == codes(jpeg, task) == ["intensity_mismatch"]
    assert codes(colour.with_array(colour.array[:1]), task) == ["intensity_mismatch"]
    assert codes(colour, picture_plan(modality="fundus")) == ["intensity_mismatch"]  # another kind of photograph
    ultrasound = picture_plan(
        "lesion", modality="ultrasound", channels=("us",), normalisation=("zscore",), figures=(None,)
    )
    assert codes(colour, ultrasound) == ["intensity_mismatch"]
    marked = grey.array.copy()
    marked[:, :, :6, :20] = np.array([255, 255, 0], np.uint8)[:, None, None, None]  # a yellow annotation
    assert codes(grey.with_array(marked), ultrasound) == []


def test_one_voxel_far_beyond_all_others_is_said() -> None:
    """Standardised by it, everything else is one grey; the reader refuses only what cannot be computed with."""
    for kind in ("zscore", "rescale01"):
        plan = MR.model_copy(update={"normalisation": (kind,)})
        for value, said in ((1e6, True), (-1e10, True), (2000, False)):
            array = mr()
            array[5, 20, 20] = value
            found = [item.text for item in check_image(image_of(array, dtype=np.float32), plan)]
            assert [("a few values as far out as" in text) for text in found] == [True] * said
    spikes = mr() * (np.random.default_rng(0).random((12, 40, 40)) < 5e-4)  # sparse, but all in one range
    assert codes(image_of(spikes, dtype=np.float32), MR) == []


def test_an_image_of_one_value_shows_nothing() -> None:
    def blank(image: Image, plan: TaskPlan) -> list[str]:
        return [finding.text for finding in check_image(image, plan) if "shows nothing" in finding.text]

    for value in (0, 5, -1000):
        (text,) = blank(image_of(np.full((12, 40, 40), value)), MR)
        assert f"has the same value ({value}) everywhere" in text
    (text,) = blank(image_of(body(), np.zeros((12, 40, 40))), PET_CT)
    assert text.startswith("Channel 2 of ")
    colour = picture(64, 64)
    assert len(blank(colour.with_array(np.zeros_like(colour.array)), picture_plan())) == 1
    red = colour.array.copy()
    red[1:] = 0
    assert blank(colour.with_array(red), picture_plan()) == blank(image_of(mr()), MR) == []


def test_marks_are_looked_for_once_for_all_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    from meduniseg_core.checks import image_checks

    looked: list[bool] = []
    usual = image_checks.nodata_of
    monkeypatch.setattr(image_checks, "nodata_of", lambda *pair: looked.append(pair[1]) or usual(*pair))
    image = image_of(np.where(body() < -900, -2000, body()))
    for plan in (HU, HU, MR, MR):  # as CT, and as MR
        check_image(image, plan)
    assert looked == [True, False]


def test_what_is_found_stands_in_the_result_and_is_reported() -> None:
    heard: list[object] = []
    image = image_of(body((16, 64, 64)) + 1024)
    found = Predictor(tiny_model([HU]), "cpu", "fp32").segment(image, "organ", events=heard.append)["organ"]
    assert [finding.code for finding in found.findings] == ["intensity_mismatch"]
    assert any(found.findings[0].text == getattr(event, "text", "") for event in heard)
    assert found.provenance()["warnings"][0]["code"] == "intensity_mismatch"


@pytest.mark.real
def test_real_images_of_the_right_modality_are_not_warned_about(shared_data: Path) -> None:
    known = {plan.task: plan for plan in Registry().info("starter").tasks}
    seen = 0
    for folder in sorted(shared_data.glob("Dataset1*")):
        dataset = RawDataset.open(folder)
        if dataset.task not in known:
            continue
        for case in dataset.cases("Tr")[::8]:
            image, seen = read_image(case.images), seen + 1
            assert [f.text for f in check_image(image, known[dataset.task]) if f.code.startswith("intensity")] == []
    assert seen > 90


@pytest.mark.real
def test_real_ct_that_is_not_in_hounsfield_units_and_mr_are_named(shared_data: Path) -> None:
    info = Registry().info("starter")
    head, brain = info.plan_of("head_neck_organs"), info.plan_of("hippocampus")
    for case in RawDataset.open(shared_data / "Dataset102_HeadNeckCT").cases("Tr")[::11]:
        image = read_image(case.images)
        # 4 mm voxels are coarse for a task of 1 mm, too
        assert codes(image, brain) == ["intensity_mismatch", "spacing_unusual"]
        hu = image.array.astype(np.float32)
        for wrong in (hu + 1024, (hu - hu.min()) / np.ptp(hu), hu / 1000):
            assert codes(image.with_array(wrong), head) == ["intensity_mismatch"]
    for name in ("Dataset101_Hippocampus", "Dataset111_BrainStructures", "Dataset205_CardiacMR"):
        for case in RawDataset.open(shared_data / name).cases("Tr")[::9]:
            assert codes(read_image(case.images), head) == ["intensity_mismatch"]


def test_frames_over_time_are_no_volume_for_a_3d_task() -> None:
    frames = image_of(body(), physical=True)
    cine = frames.with_array(frames.array, frames_over_time=True)
    with pytest.raises(BadInputError, match="holds 12 frames over time and task"):
        refuse_image(cine, HU)
    refuse_image(cine, picture_plan("lesion"))
    refuse_image(frames, HU)


def test_a_size_in_mm_that_a_task_of_pixels_does_not_use_is_said_where_it_is_not_square() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (1, 1, 40, 40)).astype(np.uint8)
    image = Image(pixels, Geometry((1, 40, 40), (1.0, 0.5, 0.25)))
    found = [finding for finding in check_image(image, WINDOWED) if finding.code == "pixels_not_square"]
    assert ["2 times as high as wide" in finding.text and finding.level == "warning" for finding in found] == [True]
    square = Image(pixels, Geometry((1, 40, 40), (1.0, 0.5, 0.5)))
    assert "pixels_not_square" not in codes(square, WINDOWED)
    assert "pixels_not_square" not in codes(image, HU)  # a task of mm uses the size


@pytest.mark.parametrize(
    ("told", "plan", "wrong"),
    [
        ("MR", HU, True),
        ("CT", HU, False),
        ("CT", MR, True),
        ("US", WINDOWED, True),
        ("OT", WINDOWED, False),  # a secondary capture says nothing
        ("", WINDOWED, False),
        ("CT", PET_CT, False),  # of several channels the header is of one
        ("US", picture_plan(), True),
        ("ES", picture_plan(), True),
        ("OP", picture_plan(), False),
    ],
)
def test_a_dicom_header_that_names_another_modality_is_told(told: str, plan: TaskPlan, wrong: bool) -> None:
    shape = (1, 40, 40) if plan.dimension == 2 else (12, 40, 40)
    image = replace(image_of(*[body(shape)] * len(plan.channels)), meta={"modality": told})
    found = [finding for finding in check_image(image, plan) if finding.code == "modality_mismatch"]
    assert bool(found) is wrong
    assert all(f"({told}), and task {plan.task} is for" in finding.text for finding in found)
