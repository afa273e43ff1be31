"""Rescales trained weights so that a training that continues from them learns as fast as a fresh one."""

from __future__ import annotations

from torch import Tensor


def rescale_like(fresh: dict[str, Tensor], state: dict[str, Tensor], *, flat: bool) -> dict[str, Tensor]:
    """Scale convolutions that feed an InstanceNorm to the length (L2 norm) of fresh ones; the function stays the same.

    The norm undoes any factor, but the optimizer does not: the same step turns weights that are twice as long by a
    quarter of the angle. Training lengthens weights, most of all those of the finest stages, so at the same rate a
    trained network would adapt several times more slowly than a fresh one.

    Args:
        fresh: weights of a new network, by name.
        state: trained weights of the same names.
        flat: for 2D images, which only use the kernels' middle slices.

    Returns:
        The trained weights, rescaled.
    """
    scaled = dict(state)
    for name in state:
        layer, _, kind = name.rpartition(".")
        if kind != "weight" or not (layer.endswith(".conv") or ".stems." in layer):
            continue
        length = _length(state[name], flat)
        if length > 0:
            for own in {name, f"{layer}.bias"} & state.keys():
                scaled[own] = state[own] * (_length(fresh[name], flat) / length)
    return scaled


def _length(weight: Tensor, flat: bool) -> Tensor:
    seen = weight[:, :, weight.shape[2] // 2] if flat and weight.dim() == 5 else weight
    length: Tensor = seen.norm()
    return length
