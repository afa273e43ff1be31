"""Deformable attention: what a token reads, and from where."""

from __future__ import annotations

import torch

from meduniseg_core.model.peers.deformable import DeformableAttention

GRIDS = [(4, 6, 5), (2, 3, 4)]


def attention_of(heads: int, offset: tuple[float, float, float]) -> DeformableAttention:
    """Every head and point looks at one offset, in voxels; values pass as they are."""
    attention = DeformableAttention(6, heads, len(GRIDS)).double()
    with torch.no_grad():
        attention.offsets.bias.copy_(torch.tensor(offset).repeat(len(attention.offsets.bias) // 3))
        for layer in (attention.values, attention.out):
            layer.weight.copy_(torch.eye(6))
            layer.bias.zero_()
    return attention


def tokens_and_volumes() -> tuple[torch.Tensor, list[torch.Tensor]]:
    torch.manual_seed(0)
    volumes = [torch.randn(*grid, 6, dtype=torch.float64) for grid in GRIDS]
    return torch.cat([volume.flatten(0, 2) for volume in volumes])[None], volumes


def test_a_token_reads_the_voxel_at_its_offset_in_every_size() -> None:
    """From the coarse grid's voxel (1, 1, 2): its centre is at 3/4, 1/2 and 5/8 of the volume."""
    tokens, volumes = tokens_and_volumes()
    found = attention_of(3, (-1, 0, 1))(tokens, tokens, GRIDS)[0]
    coarse = 4 * 6 * 5 + (1 * 3 + 1) * 4 + 2
    # at its own size the voxel (0, 1, 3); on the fine grid 3/4, 1/2, 5/8 are 2.5, 2.5 and 2.625, plus (-1, 0, 1)
    expected = volumes[1][0, 1, 3]
    fine = torch.zeros(6, dtype=torch.float64)
    for d, share_d in ((1, 0.5), (2, 0.5)):
        for h, share_h in ((2, 0.5), (3, 0.5)):
            for w, share_w in ((3, 0.375), (4, 0.625)):
                fine += share_d * share_h * share_w * volumes[0][d, h, w]
    torch.testing.assert_close(found[coarse], (expected + fine) / 2)


def test_outside_there_is_nothing() -> None:
    tokens, _ = tokens_and_volumes()
    assert not attention_of(2, (100, 0, 0))(tokens, tokens, GRIDS).any()


def test_heads_begin_along_the_axes_and_places_follow_the_token() -> None:
    torch.manual_seed(0)
    attention = DeformableAttention(12, 6, 2).double()
    steps = attention.offsets.bias.view(6, 2, 4, 3)
    assert steps[0, 0].tolist() == [[n, 0, 0] for n in (1, 2, 3, 4)]
    assert steps[5, 1].tolist() == [[0, 0, -n] for n in (1, 2, 3, 4)]
    assert not attention.offsets.weight.any() and not attention.weights.weight.any()
    with torch.no_grad():
        attention.offsets.weight.normal_()
    tokens = torch.randn(1, 4 * 6 * 5 + 24, 12, dtype=torch.float64, requires_grad=True)
    attention(tokens, tokens, GRIDS)[0, 7].sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in attention.parameters())
