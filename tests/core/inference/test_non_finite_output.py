"""Logits that are NaN or infinite become an error in every sink; never background."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from inference_samples import picture, picture_plan, tiny_model, volume, volume_plan
from torch import Tensor

from meduniseg_core.errors import BadInputError, NonFiniteOutputError
from meduniseg_core.images import Image
from meduniseg_core.inference import Predictor
from meduniseg_core.inference.sliding_window import Output, SlidingWindow, is_finite
from meduniseg_core.inference.windows import WindowGrid
from meduniseg_core.model import MedUniSeg


def spoil(monkeypatch: pytest.MonkeyPatch, value: float, window: int = 0) -> None:
    """One logit of the window with this number is ``value``."""
    decode, seen = MedUniSeg.decode, []

    def spoiled(*args: object, **kwargs: object) -> list[Tensor]:
        logits = decode(*args, **kwargs)  # type: ignore[arg-type]
        if len(seen) == window:
            logits[0][0, 0, -1, 3, 5] = value
        seen.append(None)
        return logits

    monkeypatch.setattr(MedUniSeg, "decode", spoiled)


def predictor(plans: list, precision: str = "fp32") -> Predictor:
    return Predictor(tiny_model(plans), device="cpu", precision=precision, batch=1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("window", [0, 3])
def test_one_bad_logit_of_a_volume_is_an_error_with_task_image_and_remedy(
    monkeypatch: pytest.MonkeyPatch, value: float, probabilities: bool, window: int
) -> None:
    spoil(monkeypatch, value, window)
    image = volume((24, 96, 64))
    with pytest.raises(
        NonFiniteOutputError, match=rf"^The network's output for task organ on {image.name} .*model"
    ) as caught:
        predictor([volume_plan()]).segment(image, "organ", probabilities=probabilities)
    assert caught.value.exit_code == 3
    assert str(caught.value).count("\n") == 0


def test_a_slice_of_a_volume_and_a_photograph_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = volume_plan("flat", dimension=2, patch=(1, 64, 64))
    spoil(monkeypatch, math.nan, window=2)
    with pytest.raises(NonFiniteOutputError, match="task flat on"):
        predictor([plan]).segment(volume((5, 64, 64)), "flat")
    spoil(monkeypatch, math.inf)
    with pytest.raises(NonFiniteOutputError, match="task spot on"):
        predictor([picture_plan()]).segment(picture(60, 64), "spot")


def test_the_second_of_two_tasks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, math.nan, window=1)
    with pytest.raises(NonFiniteOutputError, match="task other on"):
        predictor([volume_plan(), volume_plan("other")]).segment(volume((16, 64, 64)), ["organ", "other"])


@pytest.mark.parametrize("value", [1e39, 1e300, -1e300])
@pytest.mark.parametrize("kind", ["ct", "zscore", "zscore_nonzero", "none"])
def test_a_voxel_beyond_float32_never_empties_the_label_map(value: float, kind: str) -> None:
    """Where its infinity becomes NaN, every window would pass for air."""
    array = volume((16, 64, 64)).array.astype(np.float64)
    array[0, 3, 4, 5] = value
    image = Image(array, volume((16, 64, 64)).geometry)
    plan = volume_plan(normalisation=(kind,))
    try:
        result = predictor([plan]).segment(image, "organ")["organ"]
    except BadInputError as error:
        assert image.name in str(error)
    else:  # clipped: as if it were any large value
        array[0, 3, 4, 5] = np.sign(value) * 1e6
        expected = predictor([plan]).segment(Image(array, image.geometry), "organ")["organ"]
        assert np.array_equal(result.labels.array, expected.labels.array)


def test_large_but_finite_logits_are_none() -> None:
    assert is_finite(torch.full((2, 3, 4, 5), 3e38))
    assert is_finite(torch.tensor([3e38, 3e38, -3e38]))
    for value in (math.nan, math.inf, -math.inf):
        assert not is_finite(torch.tensor([0.0, value, 1.0]))
    assert not is_finite(torch.tensor([math.inf, -math.inf]))


def test_nothing_reaches_a_sink_from_the_bad_slab_on() -> None:
    class Sink:
        def __init__(self) -> None:
            self.planes: list[int] = []

        def write(self, first: int, logits: Tensor) -> None:
            assert is_finite(logits)
            self.planes += range(first, first + logits.shape[1])

    def network(images: Tensor, outputs: object) -> list[Tensor]:
        return [torch.cat((images, torch.zeros_like(images)), dim=1)]

    image = torch.zeros((1, 32, 8, 8))
    image[0, 24] = math.nan
    sink = Sink()
    with pytest.raises(NonFiniteOutputError, match="task t on x"):
        SlidingWindow().run(
            image, WindowGrid.over((32, 8, 8), (8, 8, 8), 0.5), network, [Output(2, sink, subject="task t on x")]
        )
    assert sink.planes == list(range(len(sink.planes)))
    assert 0 < len(sink.planes) <= 24
