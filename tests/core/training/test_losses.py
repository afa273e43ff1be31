"""The training loss: nnU-Net's Dice + cross-entropy, over the task's channels only, at every decoder level."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss
from torch.nn import functional

from meduniseg_core.training.losses import (
    binary_dice_ce,
    deep_supervision_loss,
    deep_supervision_weights,
    dice_ce,
    downsample_labels,
)


def example(batch: int = 2, channels: int = 4, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn((batch, channels, 4, 6, 5), generator=generator)
    labels = torch.randint(0, classes, (batch, 4, 6, 5), generator=generator)
    return logits, labels


def by_hand(
    logits: torch.Tensor, labels: torch.Tensor, classes: int, weights: torch.Tensor | None = None, *, batch_dice: bool
) -> torch.Tensor:
    """The formula as nnU-Net states it, with a weight for each voxel, written the slow way."""
    logits = logits[:, :classes].double()
    p = torch.softmax(logits, 1)
    truth = functional.one_hot(labels, classes).movedim(-1, 1).double()
    w = (torch.ones(labels.shape) if weights is None else weights).double()[:, None]
    axes = (0, 2, 3, 4) if batch_dice else (2, 3, 4)
    dice = (2 * (w * p * truth).sum(axes) + 1e-5) / ((w * p).sum(axes) + (w * truth).sum(axes) + 1e-5)
    foreground = dice[1:] if batch_dice else dice[:, 1:]
    return 1 - foreground.mean() - (w * truth * torch.log(p)).sum() / w.sum()


def test_weights_halve_leave_out_the_coarsest_and_sum_to_one() -> None:
    assert deep_supervision_weights(5) == pytest.approx((8 / 15, 4 / 15, 2 / 15, 1 / 15, 0.0))
    assert deep_supervision_weights(1) == (1.0,)
    assert deep_supervision_weights(2) == (1.0, 0.0)
    with pytest.raises(ValueError, match="at least one level"):
        deep_supervision_weights(0)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_value_is_the_formula_and_monai_s(batch_dice: bool) -> None:
    logits, labels = example()
    loss = dice_ce(logits, labels, 3, batch_dice=batch_dice)
    assert float(loss) == pytest.approx(float(by_hand(logits, labels, 3, batch_dice=batch_dice)), abs=1e-5)
    theirs = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=batch_dice)
    assert float(loss) == pytest.approx(float(theirs(logits[:, :3], labels[:, None])), abs=1e-6)


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_is_the_formula_s_and_zero_in_other_tasks_channels(batch_dice: bool, weighted: bool) -> None:
    logits, labels = example()
    weights = torch.rand(labels.shape, generator=torch.Generator().manual_seed(4)) if weighted else None
    logits.requires_grad_()
    loss = dice_ce(logits, labels, 3, weights, batch_dice=batch_dice)
    reference = by_hand(logits, labels, 3, weights, batch_dice=batch_dice)
    assert float(loss.detach()) == pytest.approx(float(reference.detach()), abs=1e-5)
    (ours,) = torch.autograd.grad(3 * loss, logits)
    (expected,) = torch.autograd.grad(3 * reference, logits)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-4)
    assert torch.count_nonzero(ours[:, 3]) == 0
    assert torch.count_nonzero(ours[:, :3]) > 0


def test_the_gradient_of_half_precision_logits_is_that_of_single_precision_rounded() -> None:
    logits, labels = example()
    rounded = logits.bfloat16()
    single = rounded.float().requires_grad_()
    half = rounded.clone().requires_grad_()
    (expected,) = torch.autograd.grad(dice_ce(single, labels, 3), single)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # the backward pass, too
        (found,) = torch.autograd.grad(dice_ce(half, labels, 3), half)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected.bfloat16(), atol=0, rtol=2**-7)


def test_one_array_of_the_logits_size_is_kept_until_the_gradient_is_known() -> None:
    logits = torch.randn(1, 5, 16, 24, 24, requires_grad=True)
    labels = torch.randint(0, 5, (1, 16, 24, 24))
    kept: list[int] = []

    def pack(saved: torch.Tensor) -> torch.Tensor:
        kept.append(saved.numel() * saved.element_size())
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        loss = dice_ce(logits, labels, 5)
    own = logits.numel() * 4
    assert own <= sum(kept) - labels.numel() * 8 < 1.01 * own
    loss.backward()  # type: ignore[no-untyped-call]


def test_channels_of_other_tasks_do_not_change_the_loss() -> None:
    logits, labels = example()
    other = logits.clone()
    other[:, 3] += 100
    assert torch.equal(dice_ce(logits, labels, 3), dice_ce(other, labels, 3))


def test_half_precision_logits_are_summed_in_fp32() -> None:
    labels = torch.zeros((1, 1, 512, 512), dtype=torch.int64)
    labels[..., :40] = 1
    logits = torch.randn((1, 2, 1, 512, 512), generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = dice_ce(logits, labels, 2)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(by_hand(logits, labels, 2, batch_dice=False)), abs=1e-4)


def test_right_answer_is_near_zero_and_absent_class_costs_nothing() -> None:
    labels = torch.zeros((1, 2, 4, 4), dtype=torch.int64)
    labels[:, :, :2] = 1
    logits = 50.0 * functional.one_hot(labels, 3).movedim(-1, 1).float()
    assert float(dice_ce(logits, labels, 3)) == pytest.approx(0.0, abs=1e-5)


def test_downsampled_labels_are_the_voxels_the_strides_keep() -> None:
    labels = torch.arange(4 * 8 * 8).reshape(1, 4, 8, 8)
    assert torch.equal(downsample_labels(labels, (4, 4, 4)), labels[:, :, ::2, ::2])
    assert torch.equal(downsample_labels(labels, (2, 2, 2)), labels[:, ::2, ::4, ::4])
    # odd sizes: a stride-2 convolution makes 5 into 3
    odd = torch.arange(5).reshape(1, 1, 1, 5)
    assert downsample_labels(odd, (1, 1, 3)).flatten().tolist() == [0, 1, 3]


def test_deep_supervision_is_the_weighted_sum_and_skips_levels_of_weight_zero() -> None:
    labels = torch.randint(0, 3, (2, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    sizes = [(4, 8, 8), (4, 4, 4), (2, 2, 2)]
    outputs = [torch.randn((2, 3, *size), generator=torch.Generator().manual_seed(i)) for i, size in enumerate(sizes)]
    expected = 2 / 3 * dice_ce(outputs[0], labels, 3) + 1 / 3 * dice_ce(outputs[1], labels[:, :, ::2, ::2], 3)
    assert float(deep_supervision_loss(outputs, labels, 3)) == pytest.approx(float(expected), abs=1e-6)
    outputs[2] = outputs[2] * torch.nan
    assert torch.isfinite(deep_supervision_loss(outputs, labels, 3))
    weighted = deep_supervision_loss(outputs[:2], labels, 3, weights=(0.0, 1.0))
    assert float(weighted) == pytest.approx(float(dice_ce(outputs[1], labels[:, :, ::2, ::2], 3)), abs=1e-6)


def test_depth_one_patches_are_supervised_at_every_level() -> None:
    labels = torch.zeros((1, 1, 8, 8), dtype=torch.int64)
    labels[..., 4:] = 1
    outputs = [torch.zeros((1, 2, 1, n, n), requires_grad=True) for n in (8, 4, 2)]
    deep_supervision_loss(outputs, labels, 2).backward()  # type: ignore[no-untyped-call]
    assert outputs[0].grad is not None and outputs[1].grad is not None and outputs[2].grad is None


def test_what_does_not_fit_is_refused() -> None:
    logits, labels = example()
    with pytest.raises(ValueError, match="class_count"):
        dice_ce(logits, labels, 5)
    with pytest.raises(ValueError, match="do not fit"):
        dice_ce(logits, labels[:, :2], 3)
    with pytest.raises(ValueError, match="non-zero weight"):
        deep_supervision_loss([logits], labels, 3, weights=(0.0,))


@pytest.mark.parametrize("batch_dice", [False, True])
def test_a_voxel_of_weight_two_counts_twice(batch_dice: bool) -> None:
    logits, labels = example()
    plain = dice_ce(logits, labels, 3, torch.ones(labels.shape), batch_dice=batch_dice)
    torch.testing.assert_close(plain, dice_ce(logits, labels, 3, batch_dice=batch_dice), atol=1e-6, rtol=1e-5)
    # the same as an image in which these voxels stand twice
    weights = torch.ones(labels.shape)
    weights[:, :, :, -2:] = 2
    twice = torch.cat((logits, logits[..., -2:]), dim=-1), torch.cat((labels, labels[..., -2:]), dim=-1)
    torch.testing.assert_close(
        dice_ce(logits, labels, 3, weights, batch_dice=batch_dice),
        dice_ce(*twice, 3, batch_dice=batch_dice),
        atol=1e-6,
        rtol=1e-5,
    )
    with pytest.raises(ValueError, match="weights of shape"):
        dice_ce(logits, labels, 3, weights[:1])


def test_weighted_voxels_pull_harder_on_the_logits_of_every_level() -> None:
    labels = torch.zeros(1, 4, 8, 8, dtype=torch.int64)
    labels[..., 4:] = 1
    levels = [torch.zeros(1, 2, 4, 8, 8), torch.zeros(1, 2, 2, 4, 4), torch.zeros(1, 2, 1, 2, 2)]
    for level in levels:
        level.requires_grad_()
    weights = torch.ones(labels.shape)
    weights[:, :2, :4] = 5
    loss = deep_supervision_loss(levels, labels, 2, voxel_weights=weights)
    fine, coarse = torch.autograd.grad(loss, levels[:2])
    for gradient, half in ((fine, 4), (coarse, 2)):
        strength = gradient.abs().sum(1)[0]
        assert strength[0, :half].min() > 3 * strength[0, half:].max()


@pytest.mark.parametrize("batch_dice", [False, True])
def test_voxels_of_weight_0_take_no_part(batch_dice: bool) -> None:
    logits, labels = example()
    logits.requires_grad_()
    counted = torch.ones(labels.shape)
    counted[:, :, 3:] = 0
    loss = dice_ce(logits, labels, 3, counted, batch_dice=batch_dice)
    kept = by_hand(logits[:, :, :, :3], labels[:, :, :3], 3, batch_dice=batch_dice)
    assert float(loss.detach()) == pytest.approx(float(kept.detach()), abs=1e-5)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[:, :, :, 3:] == 0).all() and (gradient[:, :3, :, :3] != 0).all()
    nothing = dice_ce(logits, labels, 3, torch.zeros(labels.shape), batch_dice=batch_dice)
    assert float(nothing.detach()) == pytest.approx(0.0, abs=1e-6)


def test_the_binary_loss_asks_each_class_by_itself_and_leaves_other_tasks_out() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 2, 3, 3, requires_grad=True)
    labels = torch.randint(0, 3, (2, 2, 3, 3))
    loss = binary_dice_ce(logits, labels, 3)
    expected = torch.zeros(())
    for sample in range(2):
        for label in (1, 2):
            truth, odds = (labels[sample] == label).float(), logits[sample, label]
            found = odds.sigmoid()
            dice = (2 * (found * truth).sum() + 1e-5) / ((found + truth).sum() + 1e-5)
            expected = expected + (1 - dice) / 4 - (truth * found.log() + (1 - truth) * (1 - found).log()).mean() / 4
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad[:, [0, 3]].any() and logits.grad[:, 1:3].any()
    weights = torch.zeros(labels.shape)
    assert float(binary_dice_ce(logits.detach(), labels, 3, weights)) == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(binary_dice_ce(logits, labels, 3, torch.ones(labels.shape)), loss)
    with pytest.raises(ValueError, match="class_count 5"):
        binary_dice_ce(logits, labels, 5)
