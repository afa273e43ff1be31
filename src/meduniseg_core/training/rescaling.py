"""The length of trained weights, and what it means for a training that goes on from them."""

from __future__ import annotations

from torch import Tensor


def rescale_like(fresh: dict[str, Tensor], state: dict[str, Tensor], *, flat: bool) -> dict[str, Tensor]:
    """Give convolutions that feed an InstanceNorm the length of fresh ones: the same function.

    The norm undoes any factor, but not for the optimizer: a step turns weights twice as long by a quarter of the angle.
    Training makes weights longer, those of the finest stages most, so that a trained network would adapt several times
    more slowly than a fresh one at the same rate.

    Args:
        fresh: weights of a new network, by name.
        state: trained weights of the same names.
        flat: for images, which meet the kernels' middle slices alone.

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
            for own in (name, f"{layer}.bias"):
                scaled[own] = state[own] * (_length(fresh[name], flat) / length)
    return scaled


def _length(weight: Tensor, flat: bool) -> Tensor:
    seen = weight[:, :, weight.shape[2] // 2] if flat and weight.dim() == 5 else weight
    length: Tensor = seen.norm()
    return length
