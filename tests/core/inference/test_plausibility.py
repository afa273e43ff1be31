"""Results that cannot be say so: sizes, intensities and places far from those of the training cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from inference_samples import picture, picture_plan, tiny_model, volume, volume_plan

from meduniseg_core.checks.field_of_view import field_of_view, scaled_plan
from meduniseg_core.checks.image_checks import check_image
from meduniseg_core.checks.plausibility import check_result
from meduniseg_core.errors import UsageError
from meduniseg_core.images import Geometry, Image
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.preprocessing.detail import detail_features, detail_of
from meduniseg_core.preprocessing.statistics import ClassStatistics, TaskStatistics

SHAPE = (20, 40, 40)  # voxels of 2 mm: 40 x 80 x 80 mm


def known(**changes: object) -> TaskPlan:
    """A task whose first class is 1 to 3 ml of 20 to 60 HU in the middle, found in all of 30 cases."""
    usual = ClassStatistics(
        cases=30, size=(1.0, 3.0), intensity=((20.0, 60.0),), centre=((0.4, 0.6), (0.4, 0.6), (0.4, 0.6))
    )
    fields = {
        "cases": 30,
        "oriented": True,
        "size_unit": "ml",
        "extent": ((40.0, 50.0), (80.0, 90.0), (80.0, 90.0)),
        "classes": (usual, None),
    }
    return volume_plan(statistics=TaskStatistics.model_validate({**fields, **changes}))


def result(
    corner: tuple[int, int, int] = (7, 17, 17), side: int = 6, hu: float = 40.0, shape: tuple[int, int, int] = SHAPE
) -> tuple[Image, Image]:
    """An image in HU and labels with a cube of the first class (side 6: 1.7 ml)."""
    ids = np.zeros((1, *shape), np.uint8)
    d, h, w = corner
    ids[0, d : d + side, h : h + side, w : w + side] = 1
    geometry = Geometry(shape, (2.0, 2.0, 2.0))
    return Image(np.where(ids > 0, hu, -1000).astype(np.int16), geometry), Image(ids, geometry)


def texts(image: Image, labels: Image, plan: TaskPlan, whole: bool = True) -> list[str]:
    found = check_result(image, labels, plan, whole=whole)
    assert all(finding.code == "implausible_result" and finding.level == "warning" for finding in found)
    return [finding.text for finding in found]


def test_a_result_like_the_training_s_is_no_finding() -> None:
    assert texts(*result(), known()) == []
    assert texts(*result(side=4, hu=110, corner=(9, 12, 20)), known()) == []  # a little outside is no wonder


def test_a_mean_of_air_is_said() -> None:
    (text,) = texts(*result(hu=-983), known())
    assert "mean intensity is -983 HU, in training 20 to 60" in text and "size" not in text and "\n" not in text
    assert texts(*result(hu=-983), known(), whole=False) == [text]  # a part of the image tells as much
    assert "900 HU" in texts(*result(hu=900), known())[0]


@pytest.mark.parametrize(("side", "corner"), [(1, (10, 20, 20)), (20, (0, 10, 10))])
def test_a_size_far_off_is_said_of_the_whole_image_only(side: int, corner: tuple[int, int, int]) -> None:
    (text,) = texts(*result(corner, side), known())
    assert "its size is" in text and "in training 1 to 3" in text
    assert texts(*result(corner, side), known(), whole=False) == []


def test_a_place_far_off_is_said_where_the_image_shows_as_much() -> None:
    (text,) = texts(*result(corner=(7, 17, 0)), known())
    assert "from right to left" in text and "its size" not in text
    larger = (20, 40, 100)  # whoever shows more has everything elsewhere
    assert texts(*result(corner=(7, 17, 0), shape=larger), known()) == []


def test_a_class_that_every_training_image_holds_is_missed() -> None:
    image, labels = result()
    empty = labels.with_array(np.zeros_like(labels.array))
    (text,) = texts(image, empty, known())
    assert text.startswith("No one was found in the image, and all 30 training images hold it")
    assert texts(image, empty, known(), whole=False) == []
    few = known(cases=4, classes=(known().statistics.classes[0].model_copy(update={"cases": 4}), None))  # type: ignore[union-attr]
    assert texts(image, empty, few) == []
    assert texts(image, empty, known(cases=31)) == []  # one training image does without


def test_models_without_statistics_and_other_dimensions_are_left_alone() -> None:
    image, labels = result(hu=-983)
    assert texts(image, labels, volume_plan()) == []
    assert texts(image, labels, known(size_unit="share")) == []


def test_intensities_without_a_unit_are_measured_against_the_image() -> None:
    usual = ClassStatistics(
        cases=30, size=(0.01, 0.2), intensity=((2.8, 3.2),) * 3, centre=((0.5, 0.5), (0.2, 0.8), (0.2, 0.8))
    )
    statistics = TaskStatistics(
        cases=30, oriented=True, size_unit="share", extent=((1, 1), (64, 64), (64, 64)), classes=(usual,)
    )
    plan = picture_plan(statistics=statistics)
    bright = np.full((3, 1, 64, 64), 20, np.uint8)
    bright[:, :, 20:40, 20:40] = 200
    image = Image(bright, Geometry((1, 64, 64), (1.0, 1.0, 1.0)), physical=False)
    inside = Image((bright[:1] == 200).astype(np.uint8), image.geometry, physical=False)
    assert texts(image, inside, plan) == [] == texts(image.with_array(bright // 4), inside, plan)
    dark = np.zeros_like(inside.array)
    dark[:, :, 40:60, 20:40] = 1
    (text,) = texts(image, inside.with_array(dark), plan)
    assert text.count("mean intensity in channel") == 3


def test_what_is_found_in_a_result_is_reported_and_stored() -> None:
    heard: list[object] = []
    model = tiny_model([known()])
    found = Predictor(model, "cpu", "fp32").segment(volume((20, 40, 40)), "organ", events=heard.append)["organ"]
    stored = [entry["text"] for entry in found.provenance()["warnings"] if entry["code"] == "implausible_result"]
    assert stored and set(stored) <= {getattr(event, "text", "") for event in heard}


def texture(size: int, grain: float, seed: int) -> Image:
    """A picture whose detail is ``grain`` pixels of 256 wide."""
    from scipy import ndimage

    noise = np.random.default_rng(seed).normal(size=(256, 256))
    smooth = sum(ndimage.gaussian_filter(noise, grain * k) * grain * k for k in (1, 2, 4))
    values = 128 + 40 * (smooth - smooth.mean()) / smooth.std()
    big = ndimage.zoom(np.clip(values, 0, 255), size / 256, order=1)
    array = np.repeat(big[None, None].astype(np.uint8), 3, axis=0)
    return Image(array, Geometry((1, *big.shape), (1.0, 1.0, 1.0)), physical=False, meta={"colour": "rgb"})


def trained(modality: str = "endoscopy") -> TaskPlan:
    plan = picture_plan(modality=modality, longest_side=128, patch=(1, 128, 128))
    features = [detail_features(texture(256, 6 + seed % 4, seed), plan) for seed in range(24)]
    statistics = TaskStatistics(
        cases=24,
        oriented=True,
        size_unit="share",
        extent=((1, 1), (256, 256), (256, 256)),
        detail=detail_of([row for row in features if row is not None]),
        classes=(None,),
    )
    return plan.model_copy(update={"statistics": statistics})


def test_detail_finer_or_coarser_than_the_training_s_is_said_whatever_the_pixel_count() -> None:
    plan = trained()
    for seed in range(30, 36):
        assert [*field_of_view(texture(256, 7, seed), plan)] == []
        assert [*field_of_view(texture(700, 7, seed), plan)] == []  # the same picture in more pixels
        (finer,) = field_of_view(texture(256, 1.5, seed), plan)  # shows four times as much
        (coarser,) = field_of_view(texture(256, 28, seed), plan)
        assert finer.code == coarser.code == "field_of_view"
        assert "finer" in finer.text and "--scale" in finer.text and "coarser" in coarser.text
    assert [*field_of_view(texture(256, 1.5, 1), picture_plan())] == []  # an older model knows nothing of it


def test_a_field_of_a_slide_goes_by_its_pixels_and_the_scale_that_is_said() -> None:
    plan = trained("pathology")
    assert [*field_of_view(texture(256, 7, 40), plan)] == [] == [*field_of_view(texture(340, 7, 40), plan)]
    (large,) = field_of_view(texture(1024, 7, 40), plan)
    assert "4 times as much" in large.text and "--scale 4" in large.text
    (small,) = field_of_view(texture(85, 7, 40), plan)
    assert "1/3 as much" in small.text
    said = [*field_of_view(texture(1024, 7, 40), scaled_plan(plan, 4), 4)]
    assert not any("pixels long" in finding.text for finding in said)
    assert "field_of_view" in {finding.code for finding in check_image(texture(1024, 7, 40), plan)}


def test_a_scale_widens_what_the_network_sees() -> None:
    plan = picture_plan()
    assert scaled_plan(plan, 4).longest_side == 256 and scaled_plan(plan, 0.5).longest_side == 32
    assert scaled_plan(plan, 1) is plan
    session = Predictor(tiny_model([plan]), "cpu", "fp32")
    image = picture(256, 200)
    plain = session.segment(image, "spot")["spot"]
    wide = session.segment(image, "spot", scale=4)["spot"]
    assert wide.settings["scale"] == 4 and "scale" not in plain.settings
    # four times the pixels: the same as the image of a network that looks at 256 pixels
    model = tiny_model([replace_long_side(plan, 256)])
    expected = Predictor(model, "cpu", "fp32").segment(image, "spot")["spot"]
    np.testing.assert_array_equal(wide.labels.array, expected.labels.array)
    for bad in (0.0, -1.0, 1e6, float("nan")):
        with pytest.raises(UsageError, match="is impossible"):
            session.segment(image, "spot", scale=bad)
    with pytest.raises(UsageError, match="size in mm"):
        Predictor(tiny_model([volume_plan()]), "cpu", "fp32").segment(volume((8, 16, 16)), "organ", scale=2)


def replace_long_side(plan: TaskPlan, side: int) -> TaskPlan:
    return plan.model_copy(update={"longest_side": side})


def test_training_images_that_did_not_say_their_orientation_are_met_by_such_images() -> None:
    sided = known(oriented=False).model_copy(update={"classes": ("left", "right"), "mirror_axes": (0, 1)})
    image = replace(volume((16, 40, 40)), meta={"orientation_known": False})
    found = Predictor(tiny_model([sided]), "cpu", "fp32").segment(image, "organ")["organ"]
    assert "orientation_unknown" in {finding.code for finding in found.findings}
