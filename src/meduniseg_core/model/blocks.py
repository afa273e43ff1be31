"""The building blocks of the backbone (docs/spec.md section 2), each usable on volumes and on 2D images.

A 2D image is a volume of depth 1. Padded by one, such a volume only ever meets the middle slice of a convolution's
kernel (the outer slices see padding), and a transposed convolution cropped to depth 1 only its first slice. So every
block also accepts ``(B, C, H, W)``, a depth-1 volume without its depth axis, and computes the same function with 2D
kernels at about a third of the work. The parameters are the same; gradients reach the slice that was used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-5
LEAK = 0.01


class Conv(nn.Conv3d):
    """3D convolution that keeps the size (up to its stride) and takes ``(B, C, D, H, W)`` or ``(B, C, H, W)``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int] = (1, 1, 1),
        bias: bool = True,
    ) -> None:
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        super().__init__(in_channels, out_channels, kernel, stride, padding, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve a volume, or an image with the kernel's middle slice.

        Args:
            x: (B, C, D, H, W), or (B, C, H, W) for volumes of depth 1.

        Returns:
            Features with as many axes as ``x``, smaller by the stride.
        """
        weight = self.weight  # once: under a refinement (meduniseg_core.model.lora) it is computed
        if _misread_in_bf16(x, self.stride):
            with torch.autocast("cpu", enabled=False):
                bias = None if self.bias is None else self.bias.float()
                return self._convolve(x.float(), weight.float(), bias).bfloat16()
        return self._convolve(x, weight, self.bias)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if x.dim() == 5:
            volume: Tensor = self._conv_forward(x, weight, bias)
            return volume
        _, height, width = self.stride
        padding = (self.kernel_size[1] // 2, self.kernel_size[2] // 2)
        return F.conv2d(x, weight[:, :, self.kernel_size[0] // 2], bias, (height, width), padding)


_TINY = 4


def _misread_in_bf16(x: Tensor, stride: tuple[int, ...]) -> bool:
    """Whether oneDNN's bf16 kernels might compute this convolution from memory that nobody has written.

    They do (torch 2.13), now and then giving NaN or a wrong value, where the result is one voxel wide (AMX: results
    and gradients), and for the weight's gradient of features a few voxels deep, high or wide (AVX-512). Such features
    are tiny, so they are convolved in fp32 at no cost.
    """
    if x.device.type != "cpu":
        return False
    tiny = min(x.shape[2:]) <= _TINY and torch.is_grad_enabled()
    return (x.shape[-1] <= stride[2] or tiny) and (
        x.dtype == torch.bfloat16
        or (torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16)
    )


class UpConv(nn.ConvTranspose3d):
    """Transposed 3D convolution with kernel = stride, by default without bias; takes volumes or 2D images."""

    def __init__(self, in_channels: int, out_channels: int, stride: tuple[int, int, int], bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, stride, stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Enlarge a volume, or an image with the kernel's first slice.

        Args:
            x: (B, C, D, H, W), or (B, C, H, W) for volumes of depth 1.

        Returns:
            Features with as many axes as ``x``, larger by the stride.
        """
        weight = self.weight
        depth, height, width = self.stride
        if x.dim() == 5:
            return F.conv_transpose3d(x, weight, self.bias, (depth, height, width))
        return F.conv_transpose2d(x, weight[:, :, 0], self.bias, (height, width))

    def join(self, x: Tensor, skip: Tensor) -> Tensor:
        """Enlarge features and put the skip's channels behind theirs.

        Args:
            x: (B, C, D, H, W), or (B, C, H, W) for volumes of depth 1.
            skip: features on the finer grid.

        Returns:
            (B, C + skip's channels, ...) on the grid of ``skip``.
        """
        return concatenated(self(x), skip)


def concatenated(x: Tensor, skip: Tensor) -> Tensor:
    """Up-sampled features and the skip's: an odd size (depth 1 above all) doubles past its skip and is cropped.

    Args:
        x: (B, C, ...), at least as large as ``skip``.
        skip: (B, K, ...).

    Returns:
        (B, C + K, ...) on the grid of ``skip``.
    """
    window = (slice(None), slice(None), *(slice(0, size) for size in skip.shape[2:]))
    return torch.cat((x[window], skip), dim=1)


class InstanceNorm(nn.Module):
    """InstanceNorm, affine, in the form that is fastest on the device.

    On the CPU ``group_norm`` with one channel per group keeps the channels-last layout and is several times faster
    than ``instance_norm``; on an accelerator ``instance_norm`` is. But its variance there is the mean of squares minus
    the square of the mean: where a channel varies little around a large mean (most of a clipped CT is one value)
    logits were 0.04 off. So inference in fp32 takes two passes.
    """

    def __init__(self, channels: int, epsilon: float = NORM_EPS) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every sample and channel over space; a grid of one voxel becomes the bias.

        Args:
            x: (B, C, ...) with two or three spatial axes.

        Returns:
            An array of the same shape.
        """
        last = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
        if _is_plain_fp32(x) and x.is_contiguous(memory_format=last):
            return self._in_two_passes(x)
        # torch.group_norm, unlike both functional forms, does not refuse a grid of one voxel
        if x.device.type == "cpu" or x[0, 0].numel() == 1:
            return torch.group_norm(x, x.shape[1], self.weight, self.bias, self.epsilon)
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.epsilon)

    def _in_two_passes(self, x: Tensor) -> Tensor:
        out = torch.empty_like(x)
        for sample, result in zip(x, out, strict=True):
            voxels = sample.movedim(0, -1).reshape(-1, len(sample))
            mean = voxels.mean(0)
            squares = torch.zeros_like(mean)
            for part in voxels.split(_VOXELS_AT_A_TIME):
                squares += (part - mean).square_().sum(0)
            scale = self.weight * (squares / len(voxels) + self.epsilon).rsqrt()
            target = result.movedim(0, -1).view(voxels.shape)
            torch.sub(voxels, mean, out=target).mul_(scale).add_(self.bias)
        return out


_VOXELS_AT_A_TIME = 4096  # stay in the cache


def _is_plain_fp32(x: Tensor) -> bool:
    """Whether this is inference in fp32 on the CPU, not compiled (a compiled network has a norm of its own)."""
    eager = not torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return eager and x.device.type == "cpu" and x.dtype == torch.float32


class ConvBlock(nn.Module):
    """Convolution with bias, InstanceNorm, LeakyReLU(0.01)."""

    def __init__(self, conv: nn.Module, channels: int) -> None:
        super().__init__()
        self.conv = conv
        self.norm = InstanceNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise, activate.

        Args:
            x: (B, C, D, H, W) or (B, C, H, W).

        Returns:
            Features with as many axes as ``x``, smaller by the convolution's stride.
        """
        return F.leaky_relu(self.norm(self.conv(x)), LEAK, inplace=True)


def make_conv(
    dimension: int,
    in_channels: int,
    out_channels: int,
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int] = (1, 1, 1),
    bias: bool = True,
) -> nn.Module:
    """A convolution for a 3D network, or the plain 2D one of the 2D counterpart.

    Args:
        dimension: 3, or 2 for the 2D counterpart.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: size along (D, H, W); the 2D convolution has the last two.
        stride: along (D, H, W), likewise.
        bias: whether it has a bias.

    Returns:
        The convolution, padded so that stride 1 keeps the size.
    """
    if dimension == 3:
        return Conv(in_channels, out_channels, kernel, stride, bias)
    _, height, width = kernel
    return nn.Conv2d(in_channels, out_channels, (height, width), stride[1:], (height // 2, width // 2), bias=bias)


def make_up_conv(dimension: int, in_channels: int, out_channels: int, stride: tuple[int, int, int]) -> nn.Module:
    """A transposed convolution for a 3D network, or the plain 2D one.

    Args:
        dimension: 3, or 2 for the 2D counterpart.
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: along (D, H, W), and the kernel's size; the 2D convolution has the last two.

    Returns:
        The convolution, without bias.
    """
    if dimension == 3:
        return UpConv(in_channels, out_channels, stride)
    return nn.ConvTranspose2d(in_channels, out_channels, stride[1:], stride[1:], bias=False)


def random_normal(*shape: int, spread: float = 1.0) -> Tensor:
    """Random numbers; on the meta device none (computing there loads torch's compiler, which takes seconds).

    Args:
        *shape: the tensor's shape.
        spread: standard deviation.

    Returns:
        A float32 tensor on the current default device.
    """
    empty = torch.empty(*shape)
    return empty if empty.is_meta else torch.randn(*shape) * spread


def initialise(module: nn.Module) -> None:
    """He initialisation for LeakyReLU with zero biases, as nnU-Net does (use with ``Module.apply``).

    Args:
        module: changed in place if it is a convolution, else left alone.
    """
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        if module.weight.is_meta:  # see random_normal
            return
        nn.init.kaiming_normal_(module.weight, a=LEAK)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
