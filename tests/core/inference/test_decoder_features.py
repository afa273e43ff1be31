"""The decoder's last features: they are what the head makes logits of, and lie where the image's voxels lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from inference_samples import picture, picture_plan, tiny_model, volume, volume_plan

from meduniseg_core.errors import OutOfMemoryError
from meduniseg_core.images import Image
from meduniseg_core.inference import Predictor
from meduniseg_core.interactive.network_features import fitting_tasks, network_features
from meduniseg_core.model import MedUniSeg
from meduniseg_core.preprocessing import TaskPlan, preprocess


@pytest.mark.parametrize("flat", [False, True])
def test_the_head_makes_the_logits_of_the_features(flat: bool) -> None:
    plan = picture_plan() if flat else volume_plan()
    model = tiny_model([plan])
    image = picture(48, 64) if flat else volume((16, 64, 64), 2.0)
    part = network_features(Predictor(model, "cpu", "fp32"), image, [plan.task])[0]
    logits = Predictor(model, "cpu", "fp32").segment(image, plan.task, overlap=0.25, probabilities=True)[plan.task]
    assert logits.probabilities is not None
    assert isinstance(model.network, MedUniSeg)
    head = model.network.decoder.levels[-1].get_submodule("head")
    weights = next(iter(head.parameters())).detach().reshape(-1, part.channels).numpy()[: plan.class_count]
    whole = tuple(slice(0, size) for size in image.geometry.shape)
    found = torch.softmax(torch.from_numpy(part.scores(weights, whole)), dim=0).numpy()
    np.testing.assert_allclose(found, logits.probabilities.array.astype(np.float32), atol=0.02)


def test_features_follow_a_turned_image() -> None:
    plan = volume_plan()
    predictor = Predictor(tiny_model([plan]), "cpu", "fp32")
    image = volume((16, 64, 64), 2.0)
    geometry = image.geometry
    direction = np.asarray(geometry.direction).copy()
    direction[:, 2] *= -1  # stored from the other end along w
    origin = (geometry.affine @ np.array([0, 0, geometry.shape[2] - 1, 1.0]))[:3]
    from dataclasses import replace

    turned = Image(
        np.ascontiguousarray(image.array[..., ::-1]),
        replace(
            geometry,
            origin=(float(origin[0]), float(origin[1]), float(origin[2])),
            direction=tuple(tuple(float(v) for v in r) for r in direction),
        ),
    )
    weights = np.eye(predictor.model.info.config.features[0], dtype=np.float32)
    whole = tuple(slice(0, size) for size in geometry.shape)
    one = network_features(predictor, image, [plan.task])[0].scores(weights, whole)
    other = network_features(predictor, turned, [plan.task])[0].scores(weights, whole)
    np.testing.assert_allclose(other[..., ::-1], one, atol=2e-2)


def test_a_task_of_pictures_gives_features_of_a_volumes_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = picture_plan()
    if len(plan.channels) != 1:
        plan = TaskPlan.model_validate(
            {**plan.model_dump(), "channels": ("grey",), "normalisation": ("zscore",), "figures": (None,)}
        )
    predictor = Predictor(tiny_model([plan]), "cpu", "fp32")
    image = volume((3, 40, 48), 2.0)
    part = network_features(predictor, image, [plan.task])[0]
    found = part.scores(np.eye(part.channels, dtype=np.float32), (slice(1, 3), slice(0, 40), slice(0, 48)))
    assert found.shape == (part.channels, 2, 40, 48) and np.isfinite(found).all()
    assert np.abs(found[:, 0] - found[:, 1]).max() > 0
    # room for the features of a slice, not for those of all
    room = 3 * part.values.nbytes // 2
    monkeypatch.setattr("meduniseg_core.interactive.network_features.free_bytes", lambda _device: room)
    monkeypatch.setattr(
        "meduniseg_core.interactive.network_features.preprocess", lambda *given, **_: preprocess(*given)
    )
    with pytest.raises(OutOfMemoryError, match="The features of"):
        network_features(predictor, image, [plan.task])


def test_tasks_are_chosen_by_modality_then_by_channels() -> None:
    plans = [volume_plan(), picture_plan()]
    assert fitting_tasks(plans, volume((16, 64, 64), 2.0), plans[0].modality)[0] == plans[0].task
    assert fitting_tasks(plans, picture(48, 64)) == (plans[1].task,)
    assert fitting_tasks(plans, picture(48, 64), without=[plans[1].task]) == ()


def test_tasks_with_much_finer_voxels_are_left_out_those_of_another_modality_sooner() -> None:
    fine, plain = volume_plan(normalisation=("zscore",), figures=(None,)), volume((16, 64, 64), 2.0)
    assert fitting_tasks([fine], plain, "another") == (fine.task,)
    coarser, coarse = volume((10, 40, 40), 3.5), volume((8, 16, 16), 8.0)
    assert fitting_tasks([fine], coarser, "another") == ()
    assert fitting_tasks([fine], coarser, fine.modality) == (fine.task,)
    assert fitting_tasks([fine], coarse, fine.modality) == ()  # minutes, for features of little use
    assert fitting_tasks([fine], coarse, fine.modality, first=fine.task) == (fine.task,)
