"""Planes that arrive one by one become the labels that the whole logits would."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_samples import picture, picture_plan, volume, volume_plan

from meduniseg_core.images import Geometry, Image
from meduniseg_core.images.boxes import Box, whole_box
from meduniseg_core.inference.export import LabelSink, Target
from meduniseg_core.preprocessing import preprocess
from meduniseg_core.preprocessing.spatial_transform import SpatialTransformRecord
from tests.restoring import restore_logits

TURNED = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0))  # d along +z, h along +x, w along -y


def smooth_logits(classes: int, trace: SpatialTransformRecord, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, classes, 4, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=trace.grid.shape, mode="trilinear")[0]


def stream(
    logits: torch.Tensor, trace: SpatialTransformRecord, step: int, box: Box | None = None, probabilities: bool = False
) -> tuple[Image, Image | None]:
    target = Target.of(trace, box)
    sink = LabelSink(trace, logits.shape[0], target, probabilities)
    if target is not None:
        region = logits[(slice(None), *(slice(*span) for span in target.region))]
        for first in range(0, region.shape[1], step):
            slab = region[:, first : first + step].clone()
            sink.write(first, slab)
            slab.fill_(float("nan"))  # a sink must not look at planes after its turn
    return sink.result()


@settings(max_examples=40, deadline=None)
@given(
    spacing=st.sampled_from([(2.0, 2.0, 2.0), (1.1, 0.7, 0.7), (5.0, 0.8, 0.8), (0.5, 3.0, 3.0)]),
    direction=st.sampled_from([Geometry((1, 1, 1), (1.0, 1.0, 1.0)).direction, TURNED]),
    step=st.sampled_from([1, 3, 100]),
    classes=st.sampled_from([2, 5]),
    seed=st.integers(0, 5),
)
def test_streaming_equals_restoring_the_whole(
    spacing: tuple[float, float, float], direction: object, step: int, classes: int, seed: int
) -> None:
    shape = (20, 24, 28)
    image = Image(volume(shape).array, Geometry(shape, spacing, (1.0, 2.0, 3.0), direction))  # type: ignore[arg-type]
    trace = preprocess(image, volume_plan()).trace
    logits = smooth_logits(classes, trace, seed)
    labels, probabilities = stream(logits, trace, step, probabilities=True)
    expected = restore_logits(logits, trace, want_probabilities=True)
    assert expected.probabilities is not None and probabilities is not None
    assert np.mean(labels.array != expected.labels.array) < 1e-3  # rounding of exact ties
    np.testing.assert_allclose(probabilities.array, expected.probabilities.array, atol=2e-3)
    assert labels.geometry == image.geometry
    quick, none = stream(logits, trace, step)
    assert none is None
    assert np.mean(quick.array != expected.labels.array) < 1e-3


def test_without_resampling_the_strongest_class_is_kept_exactly() -> None:
    trace = preprocess(volume((10, 12, 14), 2.0), volume_plan()).trace
    assert trace.unchanged
    logits = torch.randn(4, 10, 12, 14)
    labels, _ = stream(logits, trace, 4)
    assert np.array_equal(labels.array[0], logits.argmax(dim=0).numpy())


@pytest.mark.parametrize(
    "box", [((3, 9), (5, 20), (0, 28)), ((19, 20), (23, 24), (27, 28)), ((0, 20), (7, 8), (10, 20))]
)
@pytest.mark.parametrize("direction", [Geometry((1, 1, 1), (1.0, 1.0, 1.0)).direction, TURNED])
def test_a_box_gives_the_whole_images_labels_inside_and_background_outside(box: Box, direction: object) -> None:
    shape = (20, 24, 28)
    image = Image(volume(shape).array, Geometry(shape, (1.3, 0.9, 0.9), (1.0, 2.0, 3.0), direction))  # type: ignore[arg-type]
    trace = preprocess(image, volume_plan()).trace
    logits = smooth_logits(4, trace)
    labels, probabilities = stream(logits, trace, 2, box, probabilities=True)
    everything, _ = stream(logits, trace, 2)
    inside = (slice(None), *(slice(*span) for span in box))
    mask = np.zeros(labels.array.shape, dtype=bool)
    mask[inside] = True
    assert np.array_equal(labels.array[mask], everything.array[mask])
    assert not labels.array[~mask].any()
    assert probabilities is not None
    assert (probabilities.array[0][~mask[0]] == 1).all()
    target = Target.of(trace, box)
    assert target is not None
    assert all(low >= 0 and high <= size for (low, high), size in zip(target.region, trace.grid.shape, strict=True))
    assert target.region != whole_box(trace.grid.shape)


def test_a_box_in_cropped_air_needs_nothing() -> None:
    array = np.full((1, 30, 40, 40), -1000, dtype=np.int16)
    array[:, 10:20, 15:30, 15:30] = 40
    image = Image(array, Geometry((30, 40, 40), (2.0, 2.0, 2.0)))
    trace = preprocess(image, volume_plan(crop_to_body=True)).trace
    assert trace.box_shape != (30, 40, 40)
    assert Target.of(trace, ((0, 30), (0, 5), (0, 5))) is None
    labels, _ = stream(torch.zeros(2, *trace.grid.shape), trace, 4, ((0, 30), (0, 5), (0, 5)))
    assert labels.array.shape == array.shape and not labels.array.any()


def test_a_photograph_comes_back_in_its_own_pixels() -> None:
    image = picture(90, 141)
    trace = preprocess(image, picture_plan()).trace
    logits = smooth_logits(2, trace)
    labels, _ = stream(logits, trace, 1)
    assert labels.array.shape == (1, 1, 90, 141)
    assert "colour" not in labels.meta
    assert np.mean(labels.array != restore_logits(logits, trace).labels.array) < 1e-3
