"""Which model's and which tasks' features describe an image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from meduniseg_core.images import Geometry, Image
from meduniseg_core.interactive import choose_network
from meduniseg_core.interactive.network_features import fitting_tasks
from meduniseg_core.weights.offer import Offer, offer_of


@pytest.fixture(scope="module")
def offer() -> Offer:
    return offer_of("starter")


def image_of(shape: tuple[int, int, int], spacing: tuple[float, float, float], channels: int = 1) -> Image:
    geometry = Geometry(shape=shape, spacing=spacing, origin=(0, 0, 0), direction=((0, 0, 1), (0, 1, 0), (1, 0, 0)))
    meta = {"colour": "rgb"} if channels == 3 else {}
    flat = shape[0] == 1
    return Image(np.zeros((channels, *shape), np.uint8), geometry, physical=not flat, meta=meta)


def test_the_task_of_the_labels_comes_first_and_its_model_s_other_tasks_after_it(offer: Offer) -> None:
    photograph = image_of((1, 64, 64), (1, 1, 1), 3)
    first = choose_network(offer, photograph, "fundus")
    assert first is not None and first.tasks[0] == "disc_cup" and first.model == "starter"
    named = choose_network(offer, photograph, "fundus", "polyp")
    assert named is not None and named.tasks[0] == "polyp"
    assert choose_network(offer, photograph, "fundus", "no such task") == first


def test_tasks_of_another_model_are_left_out(offer: Offer) -> None:
    info = offer.infos["starter"]
    mixed = replace(offer, models={**offer.models, "polyp": "mine"}, infos={"starter": info, "mine": info})
    photograph = image_of((1, 64, 64), (1, 1, 1), 3)
    adopted = choose_network(mixed, photograph, "endoscopy")
    assert adopted is not None and (adopted.model, adopted.tasks) == ("mine", ("polyp",))
    other = choose_network(mixed, photograph, "fundus")
    assert other is not None and other.model == "starter" and "polyp" not in other.tasks


def test_a_task_of_a_much_finer_grid_is_left_out_unless_the_labels_are_its_own(offer: Offer) -> None:
    plans = list(offer.plans.values())
    fine, thick = image_of((40, 64, 64), (1.2, 1, 1)), image_of((10, 64, 64), (10, 1.5, 1.5))
    assert "hippocampus" in fitting_tasks(plans, fine, "mri")
    assert "hippocampus" not in fitting_tasks(plans, thick, "mri")
    assert fitting_tasks(plans, thick, "mri", first="hippocampus")[0] == "hippocampus"


def test_of_a_volume_only_tasks_of_its_modality_serve_where_there_are_some(offer: Offer) -> None:
    plans = list(offer.plans.values())
    volume = image_of((40, 64, 64), (2, 1, 1))
    assert fitting_tasks(plans, volume, "ct") == ("head_neck_organs",)
    assert {offer.plans[task].modality for task in fitting_tasks(plans, volume, "mri")} == {"mri"}
    others = fitting_tasks(plans, volume, "ultrasound")
    assert others and all(offer.plans[task].dimension == 3 for task in others)
    assert len(fitting_tasks(plans, image_of((1, 64, 64), (1, 1, 1), 3), "fundus")) == 3  # of pictures others, too


def test_an_image_that_no_task_takes_has_no_network(offer: Offer) -> None:
    assert choose_network(offer, image_of((1, 64, 64), (1, 1, 1), 5), "mri") is None
