"""Attention inside windows: who attends to whom."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from meduniseg_core.model.peers.windows import WindowAttention


def seen_by(
    attention: WindowAttention, size: tuple[int, int, int], voxel: tuple[int, int, int], shifted: bool
) -> Tensor:
    """Which voxels change what one voxel becomes, (D, H, W)."""
    x = torch.randn(1, *size, 4, dtype=torch.float64, requires_grad=True)
    attention(x, shifted=shifted)[0, *voxel].sum().backward()
    assert x.grad is not None
    return x.grad[0].abs().sum(-1) > 0


def attention_of(window: int) -> WindowAttention:
    torch.manual_seed(0)
    return WindowAttention(4, 2, window).double()


def test_a_voxel_sees_its_window_and_nothing_else() -> None:
    seen = seen_by(attention_of(4), (8, 4, 8), (1, 2, 6), shifted=False)
    assert seen[:4, :, 4:].all() and seen.sum() == 64


def test_shifted_windows_join_neighbours_and_not_the_far_ends() -> None:
    attention = attention_of(4)
    middle = seen_by(attention, (8, 4, 8), (3, 0, 5), shifted=True)
    assert middle[2:6, :, 2:6].all() and middle.sum() == 64  # the second axis is one window and not shifted
    corner = seen_by(attention, (8, 4, 8), (0, 0, 0), shifted=True)
    assert corner[:2, :, :2].all() and corner.sum() == 16
    edge = seen_by(attention, (8, 4, 8), (7, 3, 3), shifted=True)
    assert edge[6:, :, 2:6].all() and edge.sum() == 32


@pytest.mark.parametrize("shifted", [False, True])
def test_padding_is_not_attended_to(shifted: bool) -> None:
    attention, size = attention_of(4), (6, 3, 5)
    x = torch.randn(2, *size, 4, dtype=torch.float64)
    found = attention(x, shifted=shifted)
    assert found.shape == x.shape
    seen = seen_by(attention, size, (5, 1, 4), shifted)
    expected = torch.zeros(size, dtype=torch.bool)
    expected[2 if shifted else 4 :, :, 2 if shifted else 4 :] = True
    assert torch.equal(seen, expected)
    # alone, the voxels of the last window give the same
    if not shifted:
        alone = attention(x[:, 4:, :, 4:])
        torch.testing.assert_close(found[:, 4:, :, 4:], alone)


def test_attention_is_the_sum_written_out() -> None:
    attention = attention_of(2)
    x, of = (torch.randn(1, 2, 2, 2, 4, dtype=torch.float64) for _ in range(2))
    assert attention.queries is not None
    places = [(d, h, w) for d in range(2) for h in range(2) for w in range(2)]
    keys, values = attention.keys_and_values(of).unflatten(-1, (2, 4)).chunk(2, dim=-1)
    asked = attention.queries(x).unflatten(-1, (2, 2))
    found = torch.zeros(1, 2, 2, 2, 2, 2, dtype=torch.float64)
    for here in places:
        for head in range(2):
            scores = []
            for there in places:
                d, h, w = (a - b + 1 for a, b in zip(here, there, strict=True))
                bias = attention.bias[(d * 3 + h) * 3 + w, head]
                scores.append((asked[0, *here, head] * keys[0, *there, head]).sum() / 2**0.5 + bias)
            weights = torch.stack(scores).softmax(0)
            found[0, *here, head] = sum(
                weight * values[0, *there, head] for weight, there in zip(weights, places, strict=True)
            )
    torch.testing.assert_close(attention(x, of), attention.out(found.flatten(4)))


def test_queries_may_be_the_features_themselves() -> None:
    torch.manual_seed(0)
    attention = WindowAttention(4, 1, 2, queries=False).double()
    assert attention.queries is None
    x = torch.randn(1, 2, 2, 2, 4, dtype=torch.float64)
    keys, values = attention.keys_and_values(x).flatten(1, 3).chunk(2, dim=-1)
    bias = attention._bias((2, 2, 2))[0, 0]
    weights = (x.flatten(1, 3) @ keys.transpose(1, 2) / 2 + bias).softmax(-1)
    torch.testing.assert_close(attention(x), attention.out(weights @ values).view_as(x))
