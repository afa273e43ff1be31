"""What a pass says about itself, against the same computed from its probabilities and by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from inference_samples import picture, picture_plan, tiny_model, volume, volume_plan

from meduniseg_core.inference import Predictor
from meduniseg_core.inference.quality.evidence import EvidenceCollector
from meduniseg_core.inference.windows import WindowGrid
from meduniseg_core.preprocessing import preprocess
from meduniseg_core.preprocessing.scheme import Scheme
from meduniseg_core.weights import Model

ORGAN = volume_plan()


class Nowhere:
    def write(self, first: int, logits: torch.Tensor) -> None:
        pass


def collected(logits: torch.Tensor, pieces: int = 1, plan=ORGAN):
    collector = EvidenceCollector(plan)
    sink = collector.sink(Nowhere())
    for first in range(0, logits.shape[1], logits.shape[1] // pieces):
        sink.write(first, logits[:, first : first + logits.shape[1] // pieces])
    return collector.result()


def random_logits(seed: int, shape=(3, 4, 12, 14), spread: float = 4.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn((1, shape[0], *(max(2, size // 3) for size in shape[1:])), generator=generator)
    return spread * torch.nn.functional.interpolate(coarse, shape[1:], mode="trilinear")[0]


@pytest.mark.parametrize("seed", range(4))
def test_sums_are_those_of_the_probabilities(seed: int) -> None:
    logits = random_logits(seed)
    shares, labels = logits.softmax(dim=0).double(), logits.argmax(dim=0)
    found = collected(logits)
    assert found.voxels == labels.numel()
    for label, one in enumerate(found.classes, start=1):
        mask = labels == label
        assert one.voxels == int(mask.sum()) > 0, "the test needs both classes"
        assert one.inside == pytest.approx(float(shares[label][mask].sum()), rel=1e-4)
        # voxels without a chance of any class are left out of the total
        assert one.total == pytest.approx(float(shares[label].sum()), rel=1e-2)
        unsure = (shares[label] > 0.1) & (shares[label] < 0.9)
        assert one.unsure == int(unsure.sum())
        expected = shares[label][mask].clamp(1e-6, 1 - 1e-6).logit().clamp(-8, 8).sum()
        assert one.margin == pytest.approx(float(expected), rel=1e-3)
        assert one.peak == pytest.approx(float((logits[label] - logits[0]).max()), rel=1e-5)


def test_planes_may_come_in_pieces() -> None:
    logits = random_logits(7)
    whole, pieces = collected(logits), collected(logits, pieces=4)
    for one, other in zip(whole.classes, pieces.classes, strict=True):
        assert dataclasses.astuple(one)[:-1] == pytest.approx(dataclasses.astuple(other)[:-1], rel=1e-5)
        assert one.centre == pytest.approx(other.centre, rel=1e-5)


def test_the_centre_is_a_share_of_the_grid() -> None:
    logits = torch.zeros((3, 4, 20, 10))
    logits[0] = 9.0
    logits[1, 1, 4:8, 6:8] = 20.0
    for pieces in (1, 2, 4):
        one, other = collected(logits, pieces=pieces).classes
        assert one.centre == pytest.approx((1.5 / 4, 6 / 20, 7 / 10))
        assert other.centre == (0.5, 0.5, 0.5)


def test_the_border_of_a_square_is_its_outline() -> None:
    logits = torch.zeros((3, 1, 20, 20))
    logits[0] = 5.0
    logits[1, 0, 5:11, 5:11] = 10.0
    one, other = collected(logits).classes
    assert (one.voxels, one.border, other.voxels) == (36, 20, 0)
    share = logits.softmax(dim=0)[1, 0, 5, 5].double()
    bits = -(share * share.log2() + (1 - share) * (1 - share).log2())
    assert one.border_entropy == pytest.approx(20 * float(bits), rel=1e-3)


def test_nothing_found_has_a_peak_and_no_voxels() -> None:
    logits = torch.zeros((3, 2, 8, 8))
    logits[0] = 9.0
    logits[2, 0, 3, 3] = 2.0
    one, other = collected(logits).classes
    assert (one.voxels, other.voxels, one.total) == (0, 0, 0)
    assert (one.peak, other.peak) == (-9.0, -7.0)


def test_overlapping_windows_that_agree_and_that_do_not() -> None:
    grid = WindowGrid.over((1, 8, 24), (1, 8, 16), 0.5)
    assert [start[2] for start in grid.starts()] == [0, 8]
    collector = EvidenceCollector(picture_plan())
    votes = collector.votes(grid)
    windows = torch.zeros((2, 2, 1, 8, 16))
    windows[0, 1, :, :, 8:] = 1.0  # the first says the class on its right half, which is the second's left half
    windows[1, 1, :, :, :4] = 1.0  # the second agrees on half of that
    for start, window in zip(grid.starts(), windows, strict=True):
        votes.add([start], window[None])
    (one,) = collector.result().classes
    # every fourth voxel: 2 rows; columns 8 and 12 are seen twice, 8 as the class by both, 12 by the first alone
    assert (one.votes, one.agreed) == (6, 4)


def test_regions_are_counted_as_the_labels_they_write() -> None:
    plan = volume_plan(scheme=Scheme(region_labels=(1, 2)))
    logits = torch.full((2, 1, 6, 6), -9.0)
    logits[0, 0, :4] = 3.0  # the whole
    logits[1, 0, :2] = 2.0  # the core over it
    one, two = collected(logits, plan=plan).classes
    assert (one.voxels, two.voxels) == (12, 12)
    whole, core = torch.tensor([3.0, 2.0]).sigmoid().tolist()
    assert two.inside == pytest.approx(12 * core, rel=1e-5)
    assert one.total == pytest.approx(12 * whole + 12 * whole * (1 - core), rel=1e-2)


def segmented(model: Model, image, task: str, **options):
    return Predictor(model, "cpu", "fp32").segment(image, task, evidence=True, **options)[task]


def test_features_are_the_encoders_own_and_the_tasks_prior() -> None:
    model, image = tiny_model([picture_plan()]), picture(64, 64)
    found = segmented(model, image, "spot").evidence.features
    data = torch.from_numpy(preprocess(image, model.info.plan_of("spot")).data)[None]
    with torch.inference_mode():
        features = model.network.encode(data, torch.tensor([0]))
    means = features.stages[-3].mean(dim=(2, 3))[0]
    prior = features.priors[0, 0]
    expected = torch.cat([means, torch.stack([prior.mean(), prior.std(correction=0)])]).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_evidence_changes_no_voxel_and_is_gathered_only_when_asked_for() -> None:
    model, image = tiny_model([volume_plan("a"), volume_plan("b", classes=("x",))]), volume((24, 70, 100))
    session = Predictor(model, "cpu", "fp32")
    plain, watched = (session.segment(image, ["a", "b"], evidence=wanted) for wanted in (False, True))
    for task in ("a", "b"):
        assert np.array_equal(plain[task].labels.array, watched[task].labels.array)
        assert plain[task].evidence is None
        assert plain[task].quality is None, "nobody calibrated this model"
        evidence = watched[task].evidence
        assert any(one.votes > 0 for one in evidence.classes), "this volume takes several windows"
        assert all(0 <= one.agreed <= one.votes for one in evidence.classes)
    # the encoder is shared, the prior is the task's own
    a, b = (watched[task].evidence.features for task in ("a", "b"))
    assert np.array_equal(a[:-2], b[:-2])
    assert not np.array_equal(a[-2:], b[-2:])


def test_slices_of_a_volume_are_one_result() -> None:
    model = tiny_model([picture_plan(channels=("CT",), normalisation=("zscore",), figures=(None,), modality="ct")])
    image = volume((5, 64, 64))
    result = segmented(model, image, "spot")
    assert result.evidence.voxels == 5 * 64 * 64
    assert result.evidence.classes[0].voxels == pytest.approx(int((result.labels.array > 0).sum()), rel=0.02)
