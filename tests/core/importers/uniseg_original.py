"""What UniSeg's own program does with a file, written down again from nnU-Net v1's rules: an oracle for tests.

Nothing of the program's own preprocessing, windows or export is used here: files are read by SimpleITK, arrays are
resampled by scikit-image, the weights of windows are scipy's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK
from scipy import ndimage
from skimage.transform import resize

Network = Callable[[np.ndarray], np.ndarray]
"""Logits (K, d, h, w) of one window (C, d, h, w)."""

Shape = tuple[int, int, int]
ANISOTROPIC = 3.0


def predict(
    files: Sequence[Path],
    network: Network,
    *,
    classes: int,
    spacing: Sequence[float],
    patch: Shape,
    ct: Sequence[bool],
    mirror: bool = False,
) -> np.ndarray:
    """Labels (D, H, W) on the files' grid."""
    images = [SimpleITK.ReadImage(str(file)) for file in files]
    own = np.array(images[0].GetSpacing())[::-1]
    whole = np.stack([SimpleITK.GetArrayFromImage(image) for image in images]).astype(np.float32)
    mask = ndimage.binary_fill_holes((whole != 0).any(axis=0))
    places = np.nonzero(mask)
    box = tuple(slice(int(p.min()), int(p.max()) + 1) for p in places)
    data = whole[(slice(None), *box)]
    size = data.shape[1:]
    shape = np.round(own / np.array(spacing) * np.array(size)).astype(int)
    data = resample(data, shape, own, np.array(spacing), order=3)
    for channel, hounsfield in zip(data, ct, strict=True):
        if hounsfield:
            channel[:] = (np.clip(channel, -325, 325) + 325) / 650
        else:
            channel[:] = (channel - channel.mean()) / (channel.std() + 1e-8)
    shares = windows(data, network, patch, mirror)[:classes]
    shares = resample(shares, np.array(size), own, np.array(spacing), order=1)
    labels = np.zeros(whole.shape[1:], np.uint8)
    labels[box] = shares.argmax(axis=0)
    return labels


def resample(data: np.ndarray, shape: np.ndarray, own: np.ndarray, target: np.ndarray, order: int) -> np.ndarray:
    """By splines; where the image or else the target is anisotropic slice by slice, and across by the nearest slice."""
    if tuple(shape) == data.shape[1:]:
        return data
    apart = None
    for sizes in (own, target):
        if sizes.max() / sizes.min() > ANISOTROPIC:
            coarse = np.flatnonzero(sizes.max() / sizes == 1)
            apart = int(coarse[0]) if len(coarse) == 1 else None
            break
    settings = {"order": order, "mode": "edge", "anti_aliasing": False}
    if apart is None:
        return np.stack([resize(channel.astype(float), shape, **settings) for channel in data]).astype(np.float32)
    result = []
    for channel in data:
        slices = np.moveaxis(channel, apart, 0).astype(float)
        plane = np.delete(shape, apart)
        slices = np.stack([resize(one, plane, **settings) for one in slices])
        places = (np.arange(shape[apart]) + 0.5) * len(slices) / shape[apart] - 0.5
        nearest = ndimage.map_coordinates(np.arange(len(slices)), places[None], order=0, mode="nearest")
        result.append(np.moveaxis(slices[nearest], 0, apart))
    return np.stack(result).astype(np.float32)


def windows(data: np.ndarray, network: Network, patch: Shape, mirror: bool) -> np.ndarray:
    """Mean probabilities (K, d, h, w) of windows half a patch apart; small images lie amid zeros."""
    size = data.shape[1:]
    missing = [max(0, p - s) for p, s in zip(patch, size, strict=True)]
    padded = np.pad(data, [(0, 0), *((m // 2, m - m // 2) for m in missing)])
    starts = [_starts(length, side) for length, side in zip(padded.shape[1:], patch, strict=True)]
    weights = _weights(patch) if np.prod([len(s) for s in starts]) > 1 else np.ones(patch, np.float32)
    sums: np.ndarray | None = None
    total = np.zeros(padded.shape[1:], np.float32)
    for z in starts[0]:
        for y in starts[1]:
            for x in starts[2]:
                where = tuple(slice(s, s + p) for s, p in zip((z, y, x), patch, strict=True))
                shares = _shares(padded[(slice(None), *where)], network, mirror)
                if sums is None:
                    sums = np.zeros((len(shares), *padded.shape[1:]), np.float32)
                sums[(slice(None), *where)] += shares * weights
                total[where] += weights
    assert sums is not None
    inside = tuple(slice(m // 2, m // 2 + s) for m, s in zip(missing, size, strict=True))
    return (sums / total)[(slice(None), *inside)]


def _shares(window: np.ndarray, network: Network, mirror: bool) -> np.ndarray:
    turns = [()] if not mirror else [tuple(a for a in range(3) if bits >> a & 1) for bits in range(8)]
    mean: np.ndarray | float = 0.0
    for axes in turns:
        places = [axis + 1 for axis in axes]
        logits = network(np.ascontiguousarray(np.flip(window, places)))
        powers = np.exp(logits - logits.max(axis=0))
        mean = mean + np.flip(powers / powers.sum(axis=0), places) / len(turns)
    return np.asarray(mean, dtype=np.float32)


def _starts(length: int, side: int) -> list[int]:
    count = int(np.ceil((length - side) / (side * 0.5))) + 1
    pitch = (length - side) / (count - 1) if count > 1 else 0.0
    return [int(np.round(pitch * index)) for index in range(count)]


def _weights(patch: Shape) -> np.ndarray:
    point = np.zeros(patch)
    point[tuple(side // 2 for side in patch)] = 1
    blurred = ndimage.gaussian_filter(point, [side / 8 for side in patch], mode="constant")
    weights = (blurred / blurred.max()).astype(np.float32)
    weights[weights == 0] = weights[weights > 0].min()
    return weights
