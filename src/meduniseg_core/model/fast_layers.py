"""Layers of a U-Net as matrix products, for inference in single precision on CPUs: the same numbers, sooner.

torch's own kernels for a first convolution of one channel, for kernels of one voxel and for transposed convolutions
leave the channels-last layout or copy their results; each is one matrix product. The wide convolutions run by
Winograd's algorithm. What gains depends on the CPU: ``benchmarks/fast_layers.py`` measures each layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meduniseg_core.model.blocks import Conv, UpConv
from meduniseg_core.model.plain_unet import UNet
from meduniseg_core.model.winograd import WinogradConv, can_replace

_FEW_CHANNELS = 4
_CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Gains:
    """Which layers a kind of CPU computes sooner as matrix products.

    ``up``: transposed convolutions; ``flat`` and ``deep``: by Winograd's algorithm, kernels of one plane and of several
    with that many channels and more. First convolutions and heads gain on all.
    """

    up: bool
    flat: int
    deep: int


GAINS = {
    "AVX2": Gains(up=True, flat=64, deep=64),
    # torch's own convolutions are twice as fast with wider units
    "AVX512": Gains(up=False, flat=256, deep=64),
}
"""The kinds of CPU that were measured, by torch's name; on others all layers stay torch's."""


def gains_here() -> Gains | None:
    """What gains on this CPU.

    Returns:
        Which layers; None where nothing is known, or without MKL.
    """
    mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return GAINS.get(torch.backends.cpu.get_cpu_capability()) if mkl else None


def speed_up(network: UNet, gains: Gains) -> None:
    """Replace layers by faster ones that compute the same.

    Args:
        network: in evaluation mode, float32 and channels last, on the CPU; changed in place, for inference only.
        gains: which layers are faster.
    """
    head = network.head
    if isinstance(head, Conv):
        network.add_module("head", PointConv(head))
    _replace(network, gains)


def _replace(parent: nn.Module, gains: Gains) -> None:
    for name, child in parent.named_children():
        faster = _faster(child, gains)
        if faster is None:
            _replace(child, gains)
        else:
            setattr(parent, name, faster)


def _faster(layer: nn.Module, gains: Gains) -> nn.Module | None:
    if type(layer) is UpConv:
        return MatmulUpConv(layer) if gains.up else None
    if type(layer) is not Conv:
        return None
    if layer.in_channels <= _FEW_CHANNELS and layer.stride == (1, 1, 1):
        return NarrowConv(layer)
    least = gains.flat if layer.kernel_size[0] == 1 else gains.deep
    return WinogradConv(layer) if can_replace(layer, least) else None


class PointConv(nn.Module):
    """A convolution with a kernel of one voxel; its result has the channels first, as what takes logits wants them."""

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        self.weight = conv.weight.detach().flatten(1)
        self.bias = _bias(conv)[:, None]

    def forward(self, x: Tensor) -> Tensor:
        """Mix channels.

        Args:
            x: (B, C, ...), channels last.

        Returns:
            (B, K, ...), contiguous.
        """
        out = torch.empty((x.shape[0], len(self.weight), *x.shape[2:]))
        for sample, result in zip(x, out, strict=True):
            torch.addmm(self.bias, self.weight, _rows(sample).T, out=result.view(len(result), -1))
        return out


class NarrowConv(nn.Module):
    """A convolution of a few channels: the neighbours of every voxel as a row, some planes at a time."""

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        self.direct = conv
        self.weight = conv.weight.detach().permute(2, 3, 4, 1, 0).reshape(-1, conv.out_channels).contiguous()
        self.bias = _bias(conv)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: (B, C, D, H, W), or (B, C, H, W) for volumes of depth 1.

        Returns:
            Features of the same size, channels last.
        """
        deep, high, wide = self.direct.kernel_size
        if x.dim() == 4 and deep > 1:
            image: Tensor = self.direct(x)
            return image
        volume = x.unsqueeze(2) if x.dim() == 4 else x
        batch, channels, depth, height, width = volume.shape
        out = torch.empty((batch, depth, height, width, self.weight.shape[1]))
        count = max(1, _CHUNK_BYTES // (4 * height * width * len(self.weight)))
        for sample, result in zip(volume, out, strict=True):
            margins = (0, 0, wide // 2, wide // 2, high // 2, high // 2, deep // 2, deep // 2)
            padded = F.pad(sample.permute(1, 2, 3, 0), margins)
            d, h, w, c = padded.stride()
            for first in range(0, depth, count):
                last = min(first + count, depth)
                shape = (last - first, height, width, deep, high, wide, channels)
                neighbours = padded.as_strided(shape, (d, h, w, d, h, w, c), first * d)
                rows = neighbours.reshape(-1, len(self.weight))
                torch.addmm(self.bias, rows, self.weight, out=result[first:last].view(len(rows), -1))
        result = out.permute(0, 4, 1, 2, 3)
        return result.squeeze(2) if x.dim() == 4 else result


class MatmulUpConv(UpConv):
    """A transposed convolution as one matrix product, whose result goes beside the skip without another copy."""

    def __init__(self, up: UpConv) -> None:
        depth, height, width = up.stride
        with torch.device("meta"):
            super().__init__(up.in_channels, up.out_channels, (depth, height, width), up.bias is not None)
        self.weight, self.bias = up.weight, up.bias
        self._matrix = up.weight.detach().permute(0, 2, 3, 4, 1).reshape(up.in_channels, -1).contiguous()

    def join(self, x: Tensor, skip: Tensor) -> Tensor:
        """Enlarge features and put the skip's channels behind theirs.

        Args:
            x: (B, C, D, H, W), or (B, C, H, W) for volumes of depth 1.
            skip: features on the finer grid.

        Returns:
            (B, C + skip's channels, ...) on the grid of ``skip``, channels last.
        """
        sizes = [size * step for size, step in zip(x.shape[2:], self.stride[5 - x.dim() :], strict=True)]
        if sizes != list(skip.shape[2:]) or (x.dim() == 4 and self.stride[0] > 1):
            return super().join(x, skip)
        coarse, fine = (features.unsqueeze(2) if x.dim() == 4 else features for features in (x, skip))
        own = self.out_channels
        joined = torch.empty((len(fine), *fine.shape[2:], own + fine.shape[1])).permute(0, 4, 1, 2, 3)
        joined[:, own:].copy_(fine)
        for sample, result in zip(coarse, joined, strict=True):
            self._enlarge(sample, result[:own].permute(1, 2, 3, 0))
        return joined.squeeze(2) if x.dim() == 4 else joined

    def _enlarge(self, x: Tensor, out: Tensor) -> None:
        """Enlarge ``x`` (C, D, H, W) into ``out`` (D', H', W', K)."""
        _, depth, height, width = x.shape
        deep, high, wide = self.stride
        blocks = (_rows(x) @ self._matrix).view(depth, height, width, deep, high, wide, self.out_channels)
        d, h, w, c = out.stride()
        strides = (d * deep, d, h * high, h, w * wide, w, c)
        shape = (depth, deep, height, high, width, wide, self.out_channels)
        target = out.as_strided(shape, strides, out.storage_offset())
        blocks = blocks.permute(0, 3, 1, 4, 2, 5, 6)
        if self.bias is None:
            target.copy_(blocks)
        else:
            torch.add(blocks, self.bias, out=target)


def _rows(sample: Tensor) -> Tensor:
    """Features (C, ...) as (voxels, C); a view where the channels are last."""
    return sample.movedim(0, -1).reshape(-1, sample.shape[0])


def _bias(conv: nn.Conv3d) -> Tensor:
    return torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
