"""Convolutions with kernels of 3 x 3 in plane by Winograd's minimal filtering F(4x4, 3x3): a quarter of the products.

An output tile of 4 x 4 voxels costs 36 products instead of 144 (Lavin and Gray, CVPR 2016). Along the depth the kernel
is summed directly. All steps are matrix products in single precision, a part of the volume at a time. The tiles are
evaluated at the points that Barabasz et al. (ACM TOMS 2020) found to round least: results of unit size are within 2e-5
of the exact ones (torch's own: within 1e-5).
"""

from __future__ import annotations

import threading
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

_OUT, _KERNEL = 4, 3
_IN = _OUT + _KERNEL - 1
_POINTS = (0.0, 1.0, -1.0, 2.0, -0.5)
_CHUNK_BYTES = 4 * 2**20  # a core's own cache holds most of it
_PLANES = 8
_MOST_KERNEL_BYTES = 16 * 2**20  # of transformed kernels; larger ones are the deepest layers', which take little time
_LEAST_ROWS = 64  # tiles in a product; with fewer, reading the four times larger kernels costs more
_MOST_PADDING = 1.3  # the plane in whole tiles over the plane itself


class Workspace(threading.local):
    """Two arrays that every layer of a thread uses in turn: fresh memory would cost as much time as the products."""

    def __init__(self) -> None:
        self._arrays: dict[str, Tensor] = {}

    def array(self, name: str, *shape: int) -> Tensor:
        """Take one of the arrays; what it held is lost.

        Args:
            name: of the array.
            *shape: that it is needed in.

        Returns:
            Float32, uninitialised.
        """
        size = int(np.prod(shape))
        array = self._arrays.get(name)
        if array is None or array.numel() < size:
            self._arrays.pop(name, None)
            array = self._arrays[name] = torch.empty(size)
        return array[:size].view(shape)


_WORKSPACE = Workspace()


def can_replace(conv: nn.Conv3d, least: int) -> bool:
    """Whether a convolution gains by Winograd's algorithm, where its images are large enough.

    Args:
        conv: keeps the size of its images up to its stride.
        least: channels; with fewer, moving tiles costs more than the products save.

    Returns:
        True for stride 1, kernels of 3 x 3 in plane and many channels, but not so many that memory would suffer.
    """
    narrow = min(conv.in_channels, conv.out_channels) < least
    large = 4 * conv.kernel_size[0] * _IN * _IN * conv.in_channels * conv.out_channels > _MOST_KERNEL_BYTES
    fits = conv.kernel_size[1:] == (_KERNEL, _KERNEL) and conv.stride == (1, 1, 1)
    return fits and not narrow and not large


class WinogradConv(nn.Module):
    """Computes what ``direct`` computes; by it where images are too small to gain. For inference in float32 on the CPU.

    The transformed kernels take four times the memory of the kernels; they are made when first needed.
    """

    def __init__(self, direct: nn.Conv3d) -> None:
        super().__init__()
        self.direct = direct
        self._kernels: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: (B, C, D, H, W), or (B, C, H, W) for volumes of depth 1.

        Returns:
            Features of the same size, channels last.
        """
        depth = self.direct.kernel_size[0]
        if not self._gains(x) or (x.dim() == 4 and depth > 1):
            result: Tensor = self.direct(x)
            return result
        if self._kernels is None:
            self._kernels = _transformed(self.direct.weight)
        volume = x.unsqueeze(2) if x.dim() == 4 else x
        shape = (x.shape[0], self.direct.out_channels, *volume.shape[2:])
        out = torch.empty(shape, memory_format=torch.channels_last_3d)
        for sample, result in zip(volume, out, strict=True):
            _convolve(sample.permute(1, 2, 3, 0), self._kernels, self.direct.bias, result.permute(1, 2, 3, 0))
        return out.squeeze(2) if x.dim() == 4 else out

    @staticmethod
    def _gains(x: Tensor) -> bool:
        planes = x.shape[2] if x.dim() == 5 else 1
        height, width = x.shape[-2:]
        tiles = _tiles(height) * _tiles(width)
        wide_enough = tiles * _OUT * _OUT <= _MOST_PADDING * height * width
        return wide_enough and planes * tiles >= _LEAST_ROWS


def _convolve(x: Tensor, kernels: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Convolve ``x`` (D, H, W, C) into ``out`` (D, H, W, K) with kernels (k, 36, C, K)."""
    depth, height, width, channels = x.shape
    reach = len(kernels) // 2
    rows, columns = _tiles(height), _tiles(width)
    # planes at the ends of a chunk are transformed twice: rather several bands of rows than few planes
    row = 4 * _IN * _IN * columns * channels
    band = _share(rows, _CHUNK_BYTES // (row * (min(depth, _PLANES) + 2 * reach)))
    planes = _share(depth, _CHUNK_BYTES // (row * band) - 2 * reach)
    for top in range(0, rows, band):
        bottom = min(top + band, rows)
        low, high = top * _OUT, min(bottom * _OUT, height)
        for first in range(0, depth, planes):
            last = min(first + planes, depth)
            y = _part(x, (first, last), (top, bottom), kernels)
            target = out[first:last, low:high]
            if (high, width) == (bottom * _OUT, columns * _OUT):
                _write(y, bias, target.view(y.shape))
            else:
                whole = y.reshape(last - first, -1, columns * _OUT, y.shape[-1])
                _write(whole[:, : high - low, :width], bias, target)


def _share(length: int, most: int) -> int:
    """The size of the fewest parts of at most ``most``, as even as can be."""
    return -(-length // -(-length // max(1, most)))


def _write(values: Tensor, bias: Tensor | None, target: Tensor) -> None:
    if bias is None:
        target.copy_(values)
    else:
        torch.add(values, bias, out=target)


def _part(x: Tensor, depths: tuple[int, int], tile_rows: tuple[int, int], kernels: Tensor) -> Tensor:
    """Planes and rows of tiles of the result, (planes, rows, 4, columns, 4, K): a view of the workspace."""
    depth, height, width, channels = x.shape
    (first, last), (top, bottom) = depths, tile_rows
    reach, outputs = len(kernels) // 2, kernels.shape[3]
    rows, columns = bottom - top, _tiles(width)
    tiles, planes = rows * columns, last - first
    # two arrays in turn: each step reads the one and writes the other
    padded = _WORKSPACE.array("a", planes + 2 * reach, rows * _OUT + 2, columns * _OUT + 2, channels).zero_()
    low, high = max(0, first - reach), min(depth, last + reach)
    above, below = max(0, top * _OUT - 1), min(height, bottom * _OUT + 1)
    inside = slice(low - first + reach, high - first + reach), slice(above - top * _OUT + 1, below - top * _OUT + 1)
    padded[inside[0], inside[1], 1 : width + 1] = x[low:high, above:below]
    d, h, w, c = padded.stride()
    shape = (_IN, _IN, planes + 2 * reach, rows, columns, channels)
    windows = padded.as_strided(shape, (h, w, d, _OUT * h, _OUT * w, c))
    gathered = _WORKSPACE.array("b", *shape).copy_(windows)
    to_tiles, from_tiles = _matrices()
    inputs = _WORKSPACE.array("a", _IN * _IN, (planes + 2 * reach) * tiles * channels)
    torch.mm(to_tiles, gathered.view(_IN * _IN, -1), out=inputs)
    inputs = inputs.view(_IN * _IN, -1, channels)
    products = _WORKSPACE.array("b", _IN * _IN, planes * tiles, outputs)
    torch.bmm(inputs[:, : planes * tiles], kernels[0], out=products)
    for offset in range(1, len(kernels)):
        part = inputs[:, offset * tiles : (offset + planes) * tiles]
        torch.baddbmm(products, part, kernels[offset], out=products)
    results = _WORKSPACE.array("a", _OUT * _OUT, planes * tiles * outputs)
    torch.mm(from_tiles, products.view(_IN * _IN, -1), out=results)
    return results.view(_OUT, _OUT, planes, rows, columns, outputs).permute(2, 3, 0, 4, 1, 5)


def _tiles(size: int) -> int:
    return -(-size // _OUT)


def _transformed(weight: Tensor) -> Tensor:
    """The kernels (K, C, k, 3, 3) in the tiles' domain: (k, 36, C, K)."""
    matrix = torch.from_numpy(cook_toom(_OUT, _KERNEL, _POINTS)[1])
    tiles = torch.einsum("ih,jw,ocdhw->dijco", matrix, matrix, weight.double())
    return tiles.reshape(weight.shape[2], _IN * _IN, weight.shape[1], weight.shape[0]).float().contiguous()


@cache
def _matrices() -> tuple[Tensor, Tensor]:
    """From a window of 6 x 6 to the tiles' domain, (36, 36), and from there to the 4 x 4 results, (16, 36)."""
    back, _, there = cook_toom(_OUT, _KERNEL, _POINTS)
    return torch.from_numpy(np.kron(there, there)).float(), torch.from_numpy(np.kron(back, back)).float()


def cook_toom(outputs: int, taps: int, points: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrices A, G, B of ``A @ ((G @ g) * (B @ d))``, the correlation of ``d`` with the filter ``g``.

    Args:
        outputs: length of the result.
        taps: length of the filter.
        points: where polynomials are evaluated, distinct, ``outputs + taps - 2``; infinity is the last one.

    Returns:
        A (outputs, n), G (n, taps) and B (n, n), n = outputs + taps - 1, in double precision.
    """
    size = outputs + taps - 1
    a, g, b = np.zeros((outputs, size)), np.zeros((size, taps)), np.zeros((size, size))
    for index, point in enumerate(points):
        others = [other for other in points if other != point]
        a[:, index] = point ** np.arange(outputs)
        g[index] = point ** np.arange(taps) / np.prod([point - other for other in others])
        b[index, : size - 1] = np.poly(others)[::-1]
    a[-1, -1] = g[-1, -1] = 1
    b[-1] = np.poly(points)[::-1]
    return a, g, b
