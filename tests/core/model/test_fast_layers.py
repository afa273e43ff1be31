"""The faster layers of inference compute what torch's own layers compute."""

from __future__ import annotations

import copy
import itertools
import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from meduniseg_core.inference.engine import Engine
from meduniseg_core.model import build_model, compute, fast_layers, optimised_for, winograd
from meduniseg_core.model.blocks import Conv, UpConv
from meduniseg_core.model.fast_layers import GAINS, MatmulUpConv, NarrowConv, PointConv
from meduniseg_core.model.unet_config import UNetConfig
from meduniseg_core.model.winograd import WinogradConv, can_replace, cook_toom

CPU = torch.device("cpu")
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.manual_seed(seed)).contiguous(memory_format=LAST[len(shape)])


def conv(inputs: int, outputs: int, kernel: tuple[int, int, int], bias: bool = True) -> Conv:
    torch.manual_seed(1)
    return Conv(inputs, outputs, kernel, bias=bias).requires_grad_(False)


def exact(layer: nn.Module, x: Tensor) -> Tensor:
    result: Tensor = copy.deepcopy(layer).double()(x.double())
    return result


@pytest.mark.parametrize("points", [(0.0, 1.0, -1.0), (0.0, 1.0, -1.0, 2.0, -0.5)])
def test_the_matrices_make_a_correlation(points: tuple[float, ...]) -> None:
    outputs = len(points) - 1
    a, g, b = cook_toom(outputs, 3, points)
    random = np.random.default_rng(0)
    signal, taps = random.standard_normal(outputs + 2), random.standard_normal(3)
    assert a @ ((g @ taps) * (b @ signal)) == pytest.approx(np.correlate(signal, taps), abs=1e-12)


@pytest.mark.parametrize(
    ("kernel", "shape"),
    [
        ((3, 3, 3), (1, 64, 9, 16, 20)),
        ((1, 3, 3), (1, 64, 5, 16, 20)),
        ((5, 3, 3), (1, 64, 8, 12, 12)),
        ((3, 3, 3), (2, 64, 3, 27, 30)),  # planes that are not whole tiles, two samples
        ((3, 3, 3), (1, 64, 11, 16, 16)),  # more than one chunk
        ((1, 3, 3), (2, 64, 43, 38)),  # 2D
    ],
)
@pytest.mark.parametrize("chunk", [1, 1 << 19, 1 << 24])  # bytes: of one row, some rows and planes, everything
@pytest.mark.parametrize("bias", [True, False])
def test_winograd_rounds_little(
    kernel: tuple[int, int, int], shape: tuple[int, ...], bias: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "_CHUNK_BYTES", chunk)
    layer = conv(64, 70, kernel, bias)
    faster = WinogradConv(layer)
    x = image(*shape)
    wanted = exact(layer, x)
    with torch.inference_mode():
        found = faster(x)
    assert faster._kernels is not None  # else it was computed directly
    assert found.shape == wanted.shape and found.is_contiguous(memory_format=LAST[x.dim()])
    assert 0.3 < float(wanted.std()) < 1
    assert (found - wanted).abs().max() < 2e-5


@pytest.mark.parametrize("shape", [(1, 64, 4, 6, 6), (1, 64, 2, 8, 8), (1, 64, 9, 5, 64), (1, 64, 44, 44)])
def test_small_images_are_convolved_directly(shape: tuple[int, ...]) -> None:
    layer = conv(64, 64, (3, 3, 3))
    faster = WinogradConv(layer)
    with torch.inference_mode():
        assert torch.equal(faster(image(*shape)), layer(image(*shape)))
    assert faster._kernels is None


def test_only_wide_convolutions_without_stride_are_replaced() -> None:
    assert can_replace(conv(64, 64, (3, 3, 3)), 64)
    assert can_replace(conv(256, 128, (3, 3, 3)), 64)
    assert not can_replace(conv(256, 256, (3, 3, 3)), 64)  # its transformed kernels would take 28 MB
    assert not can_replace(conv(32, 64, (3, 3, 3)), 64)
    assert not can_replace(conv(64, 128, (3, 3, 3)), 128)
    assert not can_replace(conv(64, 64, (3, 1, 3)), 64)
    assert not can_replace(conv(64, 64, (3, 5, 5)), 64)
    assert not can_replace(Conv(64, 64, (3, 3, 3), (1, 2, 2)), 64)


def test_threads_do_not_share_the_workspace() -> None:
    faster = WinogradConv(conv(64, 64, (3, 3, 3)))
    images = [image(1, 64, 12, 32, 32, seed=seed) for seed in range(2)]
    found: dict[int, list[Tensor]] = {0: [], 1: []}

    def work(index: int) -> None:
        with torch.inference_mode():
            found[index] += [faster(images[index]) for _ in range(8)]

    with torch.inference_mode():
        wanted = [faster(x) for x in images]
    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(2):
        assert len(found[index]) == 8 and all(torch.equal(one, wanted[index]) for one in found[index])


@pytest.mark.parametrize("kernel", [(1, 3, 3), (3, 3, 3), (5, 3, 1)])
@pytest.mark.parametrize("shape", [(1, 1, 6, 9, 11), (2, 3, 4, 60, 70)])
def test_a_narrow_convolution(
    kernel: tuple[int, int, int], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_layers, "_CHUNK_BYTES", 1 << 20)
    layer, x = conv(shape[1], 16, kernel), image(*shape)
    with torch.inference_mode():
        found = NarrowConv(layer)(x)
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(found, exact(layer, x).float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(2, 3, 20, 30), (1, 1, 8, 8)])
@pytest.mark.parametrize("depth", [1, 3])
def test_a_narrow_convolution_of_2d_images(shape: tuple[int, ...], depth: int) -> None:
    layer, x = conv(shape[1], 8, (depth, 3, 3)), image(*shape)
    with torch.inference_mode():
        torch.testing.assert_close(NarrowConv(layer)(x), exact(layer, x).float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(2, 24, 5, 6, 7), (2, 24, 9, 8)])
def test_a_kernel_of_one_voxel(shape: tuple[int, ...]) -> None:
    layer, x = conv(24, 5, (1, 1, 1)), image(*shape)
    with torch.inference_mode():
        found = PointConv(layer)(x)
    assert found.is_contiguous()
    torch.testing.assert_close(found, exact(layer, x).float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("stride", "shape", "fine"),
    [
        ((2, 2, 2), (2, 16, 3, 4, 5), (6, 8, 10)),
        ((1, 2, 2), (1, 16, 3, 4, 5), (3, 8, 10)),
        ((2, 3, 1), (1, 16, 3, 4, 5), (6, 12, 5)),
        ((2, 2, 2), (1, 16, 3, 4, 5), (5, 8, 9)),  # the skip is smaller
        ((1, 2, 2), (2, 16, 4, 5), (8, 10)),
        ((2, 2, 2), (2, 16, 4, 5), (8, 10)),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_enlarged_features_beside_the_skip(
    stride: tuple[int, int, int], shape: tuple[int, ...], fine: tuple[int, ...], bias: bool
) -> None:
    up = UpConv(16, 12, stride, bias).requires_grad_(False)
    x, skip = image(*shape), image(shape[0], 6, *fine, seed=3)
    with torch.inference_mode():
        found, wanted = MatmulUpConv(up).join(x, skip), up.join(x, skip)
    assert torch.equal(found[:, 12:], skip)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def network(encoder: str, dimension: int, **changes: object) -> UNetConfig:
    flat = dimension == 2
    settings = {
        "encoder": encoder,
        "dimension": dimension,
        "channels": 2,
        "classes": 3,
        "features": (16, 64, 96),
        "kernels": ((1, 3, 3),) * 3 if flat else ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        "strides": ((1, 1, 1), (1, 2, 2), (1, 2, 2) if flat else (2, 2, 2)),
        "encoder_blocks": (1, 2, 2),
        "decoder_blocks": (2, 1),
    }
    return UNetConfig.model_validate({**settings, **changes})


CASES = list(itertools.product(GAINS, ("plain", "residual"), (2, 3)))


@pytest.mark.parametrize(("cpu", "encoder", "dimension"), CASES)
def test_a_faster_network_gives_the_same_logits(
    cpu: str, encoder: str, dimension: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    plain = build_model(network(encoder, dimension, members=2)).eval()
    monkeypatch.setattr(compute, "gains_here", lambda: GAINS[cpu])
    faster = optimised_for(copy.deepcopy(plain), CPU, torch.float32)
    kinds = {type(module) for module in faster.modules()}
    assert {NarrowConv, PointConv} <= kinds
    assert (MatmulUpConv in kinds) == GAINS[cpu].up
    wide = dimension == 3 or GAINS[cpu].flat <= 64  # the widest layers have 64 channels
    assert (WinogradConv in kinds) == wide
    x = image(2, 2, 1 if dimension == 2 else 8, 96, 88)
    with torch.inference_mode():
        torch.testing.assert_close(faster(x), plain(x), atol=1e-4, rtol=0)
    ran = [module._kernels is not None for module in faster.modules() if isinstance(module, WinogradConv)]
    assert any(ran) == wide


def test_only_single_precision_on_known_cpus_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    def kinds(dtype: torch.dtype, compile: bool = False) -> set[type]:
        built = build_model(network("plain", 3))
        engine = Engine(built, CPU, dtype, compile)
        assert not any(isinstance(module, PointConv) for module in built.modules())  # a copy is changed
        return {type(module) for module in engine.network.modules()}

    monkeypatch.setattr(compute, "gains_here", lambda: GAINS["AVX2"])
    assert PointConv in kinds(torch.float32)
    assert PointConv not in kinds(torch.bfloat16)
    monkeypatch.setattr("meduniseg_core.inference.engine.shutil.which", lambda _: "c++")
    assert PointConv not in kinds(torch.float32, compile=True)
    monkeypatch.setattr(compute, "gains_here", lambda: None)
    assert PointConv not in kinds(torch.float32)
