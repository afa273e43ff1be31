from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from meduniseg_core.model import ModelConfig, build_model
from meduniseg_core.model.blocks import Conv, InstanceNorm


def fill_free_memory_with_nan() -> None:
    blocks = [torch.full((1 << power,), float("nan"), dtype=torch.bfloat16) for power in (8, 10, 12, 14, 16, 18, 20)]
    del blocks


@pytest.mark.parametrize("stored", [True, False], ids=["bf16 weights", "autocast"])
@pytest.mark.parametrize("size", [(4, 4, 2), (1, 4, 2), (2, 2, 1), (4, 2)], ids=str)
@pytest.mark.parametrize("layout", ["plain", "channels last"])
def test_bf16_convolution_to_a_grid_one_voxel_wide_reads_no_foreign_memory(
    size: tuple[int, ...], stored: bool, layout: str
) -> None:
    torch.manual_seed(0)
    conv = Conv(64, 64, (3, 3, 3), (2, 2, 2) if len(size) == 3 else (1, 2, 2))
    x = torch.randn(2, 64, *size)
    expected = conv(x)
    if layout == "channels last":
        x = x.to(memory_format=torch.channels_last_3d if len(size) == 3 else torch.channels_last)
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        conv.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            conv(x).float().sum().backward()
        fill_free_memory_with_nan()
        assert conv.weight.grad is not None
        gradients.append(conv.weight.grad.clone())
    torch.testing.assert_close(gradients[1], gradients[0], atol=0.2, rtol=0.02)
    if stored:
        conv, x = conv.bfloat16(), x.bfloat16()
    for _ in range(4):
        fill_free_memory_with_nan()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=not stored):
            result = conv(x)
        assert result.dtype == torch.bfloat16
        torch.testing.assert_close(result.float(), expected, atol=0.05, rtol=0.02)


TINY_FEATURES = """
import itertools, torch
from meduniseg_core.model.blocks import Conv

torch.manual_seed(0)
sizes = [s for s in itertools.product((1, 2, 3, 5), repeat=3)] + [s for s in itertools.product((1, 2, 3, 5), repeat=2)]
for size, stride in itertools.product(sizes, ((1, 1, 1), (2, 2, 2), (1, 2, 2))):
    conv = Conv(16, 32, (3, 3, 3), stride)
    x = torch.randn(2, 16, *size)
    gradients = []
    for bf16 in (False, True):
        conv.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            out = conv(x)
        out.float().sum().backward()
        gradients.append(conv.weight.grad.clone())
    error = (gradients[1] - gradients[0]).abs().max() / gradients[0].abs().max()
    assert error < 0.05, (size, stride, float(error))
"""


def test_bf16_gradients_of_features_a_few_voxels_wide_come_from_no_foreign_memory() -> None:
    # glibc fills what it hands out, so that a kernel which reads unwritten memory cannot be right by luck; a process
    # of its own because such a kernel may also write past its end
    ran = subprocess.run(
        [sys.executable, "-c", TINY_FEATURES],
        env={**os.environ, "MALLOC_PERTURB_": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr


def test_norm_of_one_voxel_is_its_bias() -> None:
    norm = InstanceNorm(3)
    torch.nn.init.constant_(norm.bias, 0.5)
    torch.testing.assert_close(norm(torch.randn(1, 3, 1, 1, 1)), torch.full((1, 3, 1, 1, 1), 0.5), atol=1e-3, rtol=0)
    torch.testing.assert_close(norm(torch.randn(1, 3, 1, 1)), torch.full((1, 3, 1, 1), 0.5), atol=1e-3, rtol=0)


def test_network_trains_on_a_patch_whose_bottleneck_is_one_voxel() -> None:
    torch.manual_seed(0)
    net = build_model(ModelConfig(features=(4, 4, 8, 8, 8, 8), stems=(1,), classes=2, tasks=1, modalities=1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    zero = torch.zeros(1, dtype=torch.long)
    for _ in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(torch.randn(1, 1, 16, 32, 32), zero, zero, 1)[0]
        loss = logits.float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
    assert all(torch.isfinite(p).all() for p in net.parameters())


@pytest.mark.parametrize("shape", [(2, 32, 12, 40, 36), (2, 32, 70, 90), (1, 8, 1, 1, 1)])
def test_a_channel_that_varies_little_around_a_large_mean_is_normalised_exactly(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    last = torch.channels_last_3d if len(shape) == 5 else torch.channels_last
    x = (3 + 0.01 * torch.randn(shape)).contiguous(memory_format=last)
    norm = InstanceNorm(shape[1]).requires_grad_(False)
    norm.weight.uniform_(0.5, 2)
    norm.bias.normal_()
    wanted = torch.group_norm(x.double(), shape[1], norm.weight.double(), norm.bias.double(), norm.epsilon)
    with torch.inference_mode():
        found = norm(x)
    assert found.is_contiguous(memory_format=last)
    torch.testing.assert_close(found.double(), wanted, atol=1e-4, rtol=0)
