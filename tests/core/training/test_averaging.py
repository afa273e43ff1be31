"""The running mean of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from meduniseg_core.training.averaging import averaged, update_average


def stepped(optimizer: torch.optim.Optimizer, loss: torch.Tensor, iteration: int) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    update_average(optimizer, 0.9, iteration)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_weights_that_the_first_batches_do_not_reach_join_later(make: type[torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    early, late = nn.Linear(2, 1), nn.Linear(2, 1)
    untouched = late.weight.detach().clone()
    optimizer = make([*early.parameters(), *late.parameters()], lr=0.1)  # type: ignore[call-arg]

    stepped(optimizer, early(torch.ones(2)).sum(), 0)
    with averaged(optimizer):
        torch.testing.assert_close(late.weight, untouched)
    for iteration in range(1, 5):
        stepped(optimizer, late(torch.ones(2)).sum(), iteration)

    learnt = late.weight.detach().clone()
    assert not torch.equal(learnt, untouched)
    with averaged(optimizer):
        assert torch.all((late.weight - learnt).abs() > 0)
        assert torch.all((late.weight - learnt).abs() < (untouched - learnt).abs())
    torch.testing.assert_close(late.weight, learnt)
