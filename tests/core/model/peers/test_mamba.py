"""Mamba's block: the recurrence that its paper defines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from meduniseg_core.model.peers.mamba import Mamba, selective_scan


def test_the_scan_is_the_recurrence_written_out() -> None:
    rng = np.random.default_rng(0)
    x, steps = rng.normal(size=(2, 3, 7)), rng.uniform(0.01, 2, size=(2, 3, 7))
    a, b, c, d = (
        -rng.uniform(0.1, 3, (3, 4)),
        rng.normal(size=(2, 4, 7)),
        rng.normal(size=(2, 4, 7)),
        rng.normal(size=3),
    )
    expected = np.zeros((2, 3, 7))
    for sample in range(2):
        for channel in range(3):
            state = np.zeros(4)
            for t in range(7):
                step, value = steps[sample, channel, t], x[sample, channel, t]
                state = np.exp(step * a[channel]) * state + step * b[sample, :, t] * value
                expected[sample, channel, t] = c[sample, :, t] @ state + d[channel] * value
    found = selective_scan(*(torch.from_numpy(array) for array in (x, steps, a, b, c, d)))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_a_token_sees_those_before_it_and_none_behind() -> None:
    torch.manual_seed(0)
    block, tokens = Mamba(8).double(), torch.randn(1, 12, 8, dtype=torch.float64, requires_grad=True)
    found = block(tokens)
    assert found.shape == tokens.shape
    found[0, 5].sum().backward()
    assert tokens.grad is not None
    seen = tokens.grad[0].abs().sum(1)
    assert (seen[:6] > 0).all() and not seen[6:].any()
    missing = [name for name, weight in block.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not missing


def test_weights_have_mamba_ssm_s_names_shapes_and_beginning() -> None:
    block = Mamba(320)
    assert {name: tuple(weight.shape) for name, weight in block.state_dict().items()} == {
        "A_log": (640, 16),
        "D": (640,),
        "in_proj.weight": (1280, 320),
        "conv1d.weight": (640, 1, 4),
        "conv1d.bias": (640,),
        "x_proj.weight": (20 + 16 + 16, 640),
        "dt_proj.weight": (640, 20),
        "dt_proj.bias": (640,),
        "out_proj.weight": (320, 640),
    }
    assert block.A_log.detach().exp()[7].tolist() == pytest.approx(list(range(1, 17)))
    first_steps = torch.nn.functional.softplus(block.dt_proj.bias.detach())
    assert 0.00099 < float(first_steps.min()) < 0.003 and 0.03 < float(first_steps.max()) < 0.101
