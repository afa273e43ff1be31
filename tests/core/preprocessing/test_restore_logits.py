"""Logits on the network's grid to labels on the image's: exact, bounded, fast."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meduniseg_core.errors import BadInputError, CancelledError, UsageError
from meduniseg_core.events import CancelToken, Event, Progress
from meduniseg_core.images import Geometry, Image, Reorientation
from meduniseg_core.images.boxes import Box, whole_box
from meduniseg_core.images.geometry import Shape3
from meduniseg_core.preprocessing import SpatialTransformRecord
from meduniseg_core.preprocessing.resample import Rules
from meduniseg_core.preprocessing.spatial_transform import grid_over_box
from tests.restoring import restore_bytes, restore_labels, restore_logits


def _trace(
    shape: Shape3, coarse: Shape3, box: Box | None = None, turn: Reorientation | None = None
) -> SpatialTransformRecord:
    turn = turn if turn is not None else Reorientation()
    geometry = Geometry(shape, (1.0, 1.0, 1.0))
    canonical = turn.forward_geometry(geometry)
    box = box if box is not None else whole_box(canonical.shape)
    return SpatialTransformRecord(
        geometry=geometry,
        physical=True,
        source=None,
        meta={"format": "nifti", "colour": "grey"},
        reorientation=turn,
        canonical=canonical,
        box=box,
        grid=grid_over_box(canonical, box, coarse),
        label_rules=Rules(("linear", "linear", "linear")),
    )


def _smooth_logits(classes: int, shape: Shape3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    seeds = torch.randn((1, classes, 3, 4, 4), generator=generator) * 4
    return torch.nn.functional.interpolate(seeds, size=shape, mode="trilinear")[0]


def _whole(logits: torch.Tensor, shape: Shape3) -> torch.Tensor:
    """The plain way: every class at full resolution."""
    return torch.nn.functional.interpolate(logits[None].float(), size=shape, mode="trilinear")[0]


def _mostly_equal(got: np.ndarray, full: torch.Tensor) -> None:
    """Equal, but for voxels where the two best classes are equal to rounding."""
    best = full.topk(2, dim=0).values
    clear = ((best[0] - best[1]) > 1e-4).numpy()
    assert clear.mean() > 0.98
    assert np.array_equal(got[clear], full.argmax(dim=0).numpy()[clear])


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_labels_are_those_of_the_plain_way(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 70), st.integers(1, 70)))
    coarse = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 30), st.integers(1, 30)))
    classes = data.draw(st.integers(2, 7))
    logits = torch.randn((classes, *coarse), generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    labels = restore_logits(logits, _trace(shape, coarse)).labels.array[0]
    full = _whole(logits, shape)
    best = full.topk(2, dim=0).values
    clear = ((best[0] - best[1]) > 1e-4).numpy()
    assert np.array_equal(labels[clear], full.argmax(dim=0).numpy()[clear])


def test_smooth_logits_take_the_shortcuts_and_stay_exact() -> None:
    logits = _smooth_logits(14, (20, 40, 40))
    restored = restore_logits(logits, _trace((60, 121, 119), (20, 40, 40)))
    _mostly_equal(restored.labels.array[0], _whole(logits, (60, 121, 119)))
    assert restored.labels.array.dtype == np.uint8
    assert restored.probabilities is None


def test_a_class_that_wins_only_between_voxels_is_found() -> None:
    # at both voxels class 2 is second; half-way it is the best compromise
    logits = torch.tensor([[10.0, 0.0], [0.0, 10.0], [9.0, 9.0]]).reshape(3, 1, 1, 2)
    labels = restore_logits(logits, _trace((1, 1, 8), (1, 1, 2))).labels.array[0, 0, 0]
    assert labels.tolist() == [0, 0, 2, 2, 2, 2, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_logits_are_taken(dtype: torch.dtype) -> None:
    logits = _smooth_logits(4, (8, 12, 12)).to(dtype)
    labels = restore_logits(logits, _trace((16, 25, 25), (8, 12, 12))).labels.array[0]
    _mostly_equal(labels, _whole(logits, (16, 25, 25)))


def test_numpy_logits_are_taken() -> None:
    logits = _smooth_logits(3, (6, 8, 8))
    trace = _trace((12, 16, 16), (6, 8, 8))
    as_numpy = np.asfortranarray(logits.numpy())
    assert np.array_equal(restore_logits(as_numpy, trace).labels.array, restore_logits(logits, trace).labels.array)


def test_slices_of_anisotropic_data_are_not_mixed() -> None:
    logits = torch.tensor([5.0, -5.0, 5.0]).reshape(1, 3, 1, 1) * torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
    trace = _trace((6, 1, 1), (3, 1, 1))
    apart = SpatialTransformRecord(**{**vars(trace), "label_rules": Rules(("nearest", "linear", "linear"))})
    assert restore_logits(logits, apart).labels.array.ravel().tolist() == [0, 0, 1, 1, 0, 0]


def test_outside_the_crop_is_background_in_the_images_orientation() -> None:
    turn = Reorientation((2, 0, 1), (True, False, True))
    box: Box = ((2, 6), (1, 5), (3, 9))
    trace = _trace((10, 12, 8), (4, 4, 6), box=box, turn=turn)
    assert trace.canonical.shape == (8, 10, 12)
    logits = torch.zeros((3, 4, 4, 6))
    logits[2] = 1
    restored = restore_logits(logits, trace, want_probabilities=True, background=0)
    wanted = np.zeros(trace.canonical.shape, dtype=np.uint8)
    wanted[2:6, 1:5, 3:9] = 2
    assert np.array_equal(restored.labels.array[0], turn.inverse(wanted))
    assert restored.probabilities is not None
    shares = restored.probabilities.array
    outside = turn.inverse(wanted) == 0
    assert (shares[0][outside] == 1).all() and (shares[1:, outside] == 0).all()
    np.testing.assert_allclose(shares.sum(axis=0, dtype=np.float32), 1, atol=2e-3)


def test_probabilities_are_softmax_after_resampling() -> None:
    logits = _smooth_logits(4, (8, 12, 12))
    restored = restore_logits(logits, _trace((16, 25, 25), (8, 12, 12)), want_probabilities=True)
    assert restored.probabilities is not None
    assert restored.probabilities.array.dtype == np.float16
    wanted = torch.softmax(_whole(logits, (16, 25, 25)), dim=0).numpy()
    np.testing.assert_allclose(restored.probabilities.array, wanted, atol=2e-3)
    plain = restore_logits(logits, _trace((16, 25, 25), (8, 12, 12)))
    assert (restored.labels.array == plain.labels.array).mean() > 0.999


def test_an_unchanged_grid_is_the_argmax() -> None:
    logits = torch.randn((5, 6, 7, 8), generator=torch.Generator().manual_seed(0))
    labels = restore_logits(logits, _trace((6, 7, 8), (6, 7, 8))).labels.array[0]
    assert np.array_equal(labels, logits.argmax(dim=0).numpy())


def test_more_than_256_classes_get_16_bits() -> None:
    logits = torch.zeros((300, 2, 2, 2))
    logits[299] = 1
    labels = restore_logits(logits, _trace((4, 4, 4), (2, 2, 2))).labels.array
    assert labels.dtype == np.uint16
    assert (labels == 299).all()


@pytest.mark.parametrize("max_bytes", [1, 10_000, 10**9])
def test_the_byte_budget_changes_nothing_but_the_tiles(max_bytes: int) -> None:
    logits = _smooth_logits(6, (5, 9, 9))
    trace = _trace((9, 20, 21), (5, 9, 9))
    usual = restore_logits(logits, trace, want_probabilities=True)
    other = restore_logits(logits, trace, want_probabilities=True, max_bytes=max_bytes)
    assert (usual.labels.array == other.labels.array).mean() > 0.999
    assert usual.probabilities is not None and other.probabilities is not None
    np.testing.assert_allclose(usual.probabilities.array, other.probabilities.array, atol=2e-3)


def test_logits_of_another_grid_are_refused() -> None:
    trace = _trace((8, 8, 8), (4, 4, 4))
    with pytest.raises(UsageError, match="do not belong"):
        restore_logits(torch.zeros((2, 4, 4, 5)), trace)
    with pytest.raises(UsageError, match="do not belong"):
        restore_labels(np.zeros((4, 4, 5), np.uint8), trace)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_output_that_is_not_finite_is_refused(bad: float) -> None:
    logits = torch.zeros((2, 4, 4, 4))
    logits[1, 2, 2, 2] = bad
    with pytest.raises(BadInputError, match="fp32"):
        restore_logits(logits, _trace((8, 8, 8), (4, 4, 4)))


def test_restoring_reports_and_stops() -> None:
    heard: list[Event] = []
    trace = _trace((40, 20, 20), (20, 10, 10))
    logits = _smooth_logits(3, (20, 10, 10))
    restore_logits(logits, trace, events=heard.append)
    last = heard[-1]
    assert isinstance(last, Progress) and (last.done, last.total) == (40, 40)
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        restore_logits(logits, trace, cancel=token)


def test_the_label_map_keeps_what_the_file_said_but_not_its_colours() -> None:
    image: Image = restore_logits(torch.zeros((2, 2, 2, 2)), _trace((4, 4, 4), (2, 2, 2))).labels
    assert dict(image.meta) == {"format": "nifti"}


def test_memory_stays_under_the_estimate_and_far_from_all_classes() -> None:
    # NumPy's share of the memory; torch's tiles are bounded by max_bytes
    shape, coarse, classes = (100, 160, 160), (33, 53, 53), 20
    trace = _trace(shape, coarse)
    logits = _smooth_logits(classes, coarse)
    tracemalloc.start()
    restore_logits(logits, trace)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    estimate = restore_bytes(trace, classes)
    all_classes = 4 * classes * int(np.prod(shape))
    assert peak < estimate < 0.7 * all_classes
    assert restore_bytes(trace, classes, want_probabilities=True) > estimate + 2 * classes * int(np.prod(shape))


@pytest.mark.slow
def test_a_large_volume_is_restored_within_a_minute() -> None:
    logits = _smooth_logits(14, (133, 171, 171)).half()
    begin = time.monotonic()
    restore_logits(logits, _trace((400, 512, 512), (133, 171, 171)))
    assert time.monotonic() - begin < 60
