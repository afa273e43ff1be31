"""The same augmentation on a GPU: a worker draws it and reads the voxels that it needs; the device does the arithmetic.

What is done to a sample is drawn as for `sample_maps`, from the same generator in the same order, so the distributions
are the same, and all but the noise of single voxels is the same number (up to rounding). Nothing here waits for the
device. Changes of appearance (`appearance`) are not among it: tasks that have them are augmented by the workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from meduniseg_core.images.geometry import Shape3, Vector3
from meduniseg_core.training.augmentation.config import AugmentationConfig
from meduniseg_core.training.augmentation.intensity import EPS, TRUNCATE, Change, coarsened, draw_changes
from meduniseg_core.training.augmentation.patch import draw_flips, draw_place
from meduniseg_core.training.augmentation.spatial import Sampling, read_all, read_box


@dataclass(frozen=True)
class DrawnSample:
    """A sample that is drawn and read, but not changed yet.

    ``image`` (C, d, h, w) is as it is stored (float16 or float32), ``maps`` (K, d, h, w) are uint8: the box that
    ``sampling`` reads, or the patch itself where that is None. ``flipped`` are axes of (C, D, H, W), ``seed`` is the
    noise's.
    """

    image: Tensor
    maps: Tensor
    sampling: Sampling | None
    changes: tuple[Change, ...]
    flipped: tuple[int, ...]
    in_plane: bool
    seed: int

    def pin_memory(self) -> DrawnSample:
        """Copy the voxels into page-locked memory, from which they are sent while the device works.

        Returns:
            The copy.
        """
        return replace(self, image=self.image.pin_memory(), maps=self.maps.pin_memory())

    def finished(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Do on a device what was drawn.

        Args:
            device: any of torch's.

        Returns:
            Image float32 (C, D, H, W) and labels uint8 (K, D, H, W), on the device.
        """
        image = self.image.to(device, non_blocking=True).float()
        maps = self.maps.to(device, non_blocking=True)
        if self.sampling is not None:
            grid = _grid(self.sampling, device)
            image = self.sampling.read(image, grid, "bilinear")
            maps = self.sampling.read(maps.float(), grid, "nearest").to(torch.uint8)
        for change in self.changes:
            _apply(image, change, self.in_plane, self.seed)
        if self.flipped:
            image, maps = image.flip(self.flipped), maps.flip(self.flipped)
        return image, maps


def draw_sample(
    data: npt.NDArray[np.floating],
    maps: Sequence[npt.NDArray[np.integer]],
    centre: Sequence[int],
    patch: Shape3,
    mirror_axes: Sequence[int],
    rng: np.random.Generator,
    config: AugmentationConfig,
    *,
    spacing: Vector3 | None = None,
    zoom: float | None = None,
) -> DrawnSample:
    """Draw a sample as `sample_maps` does, and read its voxels.

    Args:
        data: (C, D, H, W); may be memory-mapped, only the needed region is read.
        maps: K label maps (D, H, W), likewise.
        centre: centre of the patch in voxels.
        patch: size (D, H, W) in voxels.
        mirror_axes: axes of (D, H, W) along which the patch may be mirrored.
        rng: source of all randomness.
        config: how often and how strongly a sample is changed; without changes of appearance.
        spacing: in mm, along (D, H, W).
        zoom: replaces the random scale: below 1 the patch shows a smaller part of the image, enlarged.

    Returns:
        The sample, to be finished on a device.

    Raises:
        ValueError: the shapes do not fit, or the configuration changes appearances.
    """
    if config.appearance.active:
        raise ValueError("changes of appearance are made on the CPU")
    in_plane, matrix, start = draw_place(data, maps, centre, patch, rng, config, spacing, zoom)
    sampling = None if matrix is None else Sampling.of(start, patch, matrix, in_plane)
    low, size = (start, patch) if sampling is None else (sampling.low, sampling.size)
    stored = np.float16 if data.dtype == np.float16 else np.float32
    return DrawnSample(
        image=torch.from_numpy(read_box(data, low, size, stored)),
        maps=torch.from_numpy(read_all(maps, low, size, np.uint8)),
        sampling=sampling,
        changes=tuple(draw_changes(len(data), rng, config)),
        flipped=draw_flips(mirror_axes, rng, config),
        in_plane=in_plane,
        seed=int(rng.integers(1 << 62)),
    )


def _grid(sampling: Sampling, device: torch.device) -> Tensor:
    """`Sampling.grid`, made on the device from a few vectors: the whole grid is larger than the patch."""
    axes = sampling.axes
    columns = []
    for row in reversed(axes):
        total = torch.full((), float(sampling.shift[row]), device=device)
        for position, term in enumerate(sampling.terms(row)):
            shape = [1] * len(axes)
            shape[position] = -1
            vector = torch.from_numpy(term.astype(np.float32)).to(device, non_blocking=True)
            total = total + vector.reshape(shape)
        columns.append(total)
    return torch.stack(columns, dim=-1)


def _apply(image: Tensor, change: Change, in_plane: bool, seed: int) -> None:
    channel, amount = image[change.channel], change.amount
    if change.kind == "noise":
        generator = torch.Generator(image.device).manual_seed(seed)
        image += amount * torch.randn(image.shape, generator=generator, device=image.device)
    elif change.kind == "blur":
        channel.copy_(_blurred(channel, amount))
    elif change.kind == "brightness":
        channel *= amount
    elif change.kind == "contrast":
        low, high, mean = channel.min(), channel.max(), channel.mean()
        channel.copy_(torch.clamp(channel * amount + mean * (1 - amount), low, high))
    elif change.kind == "low_resolution":
        channel.copy_(coarsened(channel, amount, in_plane))
    elif change.kind == "inverted_gamma":
        channel.copy_(-_with_gamma(-channel, amount))
    else:
        channel.copy_(_with_gamma(channel, amount))


def _with_gamma(channel: Tensor, gamma: float) -> Tensor:
    """``x ** gamma`` over the channel's own range, keeping its mean and standard deviation."""
    low, mean, deviation = channel.min(), channel.mean(), channel.std(correction=0)
    spread = channel.max() - low
    bent = ((channel - low) / spread.clamp(min=EPS)).clamp(0.0, 1.0) ** gamma
    bent = (bent - bent.mean()) * (deviation / (bent.std(correction=0) + EPS)) + mean
    return torch.where(spread < EPS, channel, bent)  # a constant channel is unchanged


def _blurred(channel: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur of (D, H, W) with borders reflected, as scipy's."""
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    kernel = torch.from_numpy(weights.astype(np.float32)).to(channel.device, non_blocking=True)
    for axis, size in enumerate(channel.shape):
        if size == 1:
            continue
        # "d c b a | a b c d | d c b a", which torch has no padding for
        places = np.arange(-radius, size + radius) % (2 * size)
        places = np.minimum(places, 2 * size - 1 - places)
        index = torch.from_numpy(places).to(channel.device, non_blocking=True)
        rows = channel.index_select(axis, index).movedim(axis, -1)
        blurred = functional.conv1d(rows.reshape(-1, 1, rows.shape[-1]), kernel.reshape(1, 1, -1))
        channel = blurred.reshape(*rows.shape[:-1], size).movedim(-1, axis)
    return channel
