"""The 2D fast path is the same function as the 3D network on depth-1 input: forward and gradients."""

import pytest
import torch
from torch.nn import functional as F

from meduniseg_core.model import ModelConfig, build_model
from meduniseg_core.model.blocks import Conv, InstanceNorm, UpConv
from meduniseg_core.model.meduniseg import MedUniSeg

CONFIG = ModelConfig(features=(4, 6, 8, 8, 10, 10), tasks=2, modalities=0, task_prompt_channels=5)


def volume_path(network: MedUniSeg, images: torch.Tensor, task: torch.Tensor) -> list[torch.Tensor]:
    """The network's 3D blocks on (B, C, 1, H, W), without dropping the depth axis."""
    stages = network.encoder(images)
    assert network.fuse is not None
    prior = network.fuse(stages[-1])[torch.arange(len(images)), task].unsqueeze(1)
    return network.decoder(torch.cat((stages[-1], prior), 1), stages[:-1], network.levels)


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (50, 75)])
def test_forward_and_gradients_equal_the_volume_path(size: tuple[int, int]) -> None:
    torch.manual_seed(1)
    network = build_model(CONFIG).double()
    images = torch.randn(2, 3, 1, *size, dtype=torch.float64)
    task = torch.tensor([1, 0])
    flat = network(images, task)
    sum(level.square().mean() for level in flat).backward()
    flat_gradients = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    volume = volume_path(network, images, task)
    sum(level.square().mean() for level in volume).backward()
    for ours, reference in zip(flat, volume, strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-9)
    volume_gradients = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    assert flat_gradients.keys() == volume_gradients.keys()
    for name, gradient in flat_gradients.items():
        torch.testing.assert_close(gradient, volume_gradients[name], rtol=0, atol=1e-9, msg=name)


def test_flat_input_runs_no_3d_convolution_outside_fuse(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_model(CONFIG.model_copy(update={"tasks": 0})).eval()

    def forbidden(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a 3D convolution ran on a 2D image")

    monkeypatch.setattr(F, "conv3d", forbidden)
    monkeypatch.setattr(F, "conv_transpose3d", forbidden)
    with torch.inference_mode():
        network(torch.randn(1, 1, 1, 64, 64))
        with pytest.raises(AssertionError, match="3D convolution"):
            network(torch.randn(1, 1, 16, 64, 64))


@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
def test_convolution_of_a_flat_volume_is_its_middle_slice(stride: tuple[int, int, int]) -> None:
    conv = Conv(3, 5, (3, 3, 3), stride)
    flat = torch.randn(2, 3, 9, 12)
    torch.testing.assert_close(conv(flat), conv(flat.unsqueeze(2)).squeeze(2), rtol=0, atol=1e-6)


def test_transposed_convolution_of_a_flat_volume_is_its_first_slice() -> None:
    up = UpConv(3, 5, (2, 2, 2))
    flat = torch.randn(2, 3, 9, 12)
    torch.testing.assert_close(up(flat), up(flat.unsqueeze(2))[:, :, 0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 4, 5, 6, 7), (2, 4, 6, 7)])
def test_instance_norm_equals_torchs(shape: tuple[int, ...]) -> None:
    norm = InstanceNorm(4)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(shape) * 3 + 1
    expected = F.instance_norm(x, weight=norm.weight, bias=norm.bias, eps=1e-5)
    torch.testing.assert_close(norm(x), expected, rtol=1e-5, atol=1e-5)
