"""MedUniSeg*: low-rank updates and parallel residual layers beside a frozen network (docs/spec.md section 8)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from meduniseg_core.model.blocks import Conv, UpConv
from meduniseg_core.model.meduniseg import MedUniSeg

RANK = 32
ALPHA = 64.0


class Update(nn.Module):
    """From a frozen convolution's weight to the updated one; while not ``active``, the weight as it is."""

    active = True

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the convolution computes with.

        Args:
            weight: the convolution's own.

        Returns:
            The updated weight while ``active``, else ``weight``.
        """
        return self.updated(weight) if self.active else weight

    def updated(self, weight: Tensor) -> Tensor:
        """Update a weight.

        Args:
            weight: the convolution's own.

        Returns:
            The weight with the update: same shape, same type.

        Raises:
            NotImplementedError: in this base class.
        """
        raise NotImplementedError


class LowRank(Update):
    """The update of a convolution's weight: ``reshape(b @ a) * alpha / rank``, zero at the start because ``b`` is.

    ``a``: (rank * kw, Cin * kw), ``b``: (Cout * kd * kh, rank * kw) for a kernel (kd, kh, kw): on a k x k x k kernel
    the paper's (r*k, Cin*k) and (Cout*k*k, r*k), and on the flat (1, 3, 3) one what gives the same reshape.
    """

    def __init__(self, conv: Conv, rank: int, alpha: float) -> None:
        super().__init__()
        depth, height, width = conv.kernel_size
        self.a = nn.Parameter(torch.empty(rank * width, conv.in_channels * width))
        self.b = nn.Parameter(torch.zeros(conv.out_channels * depth * height, rank * width))
        self._scale = alpha / rank
        if not self.a.is_meta:
            nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def updated(self, weight: Tensor) -> Tensor:
        """Add the low-rank update.

        Args:
            weight: (Cout, Cin, kd, kh, kw).

        Returns:
            The weight with the update.
        """
        return weight + (self.b @ self.a).view(weight.shape).to(weight.dtype) * self._scale


class Twin(Update):
    """A transposed convolution or head parallel to a frozen one; its output is added, and zero at the start.

    Both are linear and without bias, so the sum of the outputs is the output of the summed weights, which costs no
    second pass.
    """

    def __init__(self, host: Conv | UpConv) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(host.weight.shape))

    def updated(self, weight: Tensor) -> Tensor:
        """Add the twin's weight.

        Args:
            weight: the host's.

        Returns:
            The sum of both.
        """
        return weight + self.weight.to(weight.dtype)


class Refinement(nn.Module):
    """The new modules of a network, attached to its convolutions' weights by `torch.nn.utils.parametrize`.

    While they are not ``active``, the network computes what it computed before, bit for bit; the same holds before
    their first training step, except for the sign of zeros. The network's own parameters are frozen (each is stored
    under ``parametrizations.weight.original`` until :func:`merge_lora`). This module's ``state_dict`` holds only the
    new parameters, under names that do not depend on how they are attached; packs and checkpoints store these.
    """

    def __init__(self, network: MedUniSeg, rank: int = RANK, alpha: float = ALPHA) -> None:
        super().__init__()
        self.parts = nn.ModuleDict()
        network.requires_grad_(False)
        for name, host in _hosts(network):
            part = Twin(host) if _has_twin(name, host) else LowRank(_as_conv(host), rank, alpha)
            self.parts[name.replace(".", "/")] = part.to(host.weight.device)
            # unsafe: the weight is not computed once only to see that its shape and type stay
            parametrize.register_parametrization(host, "weight", part, unsafe=True)
        self.active = True

    @property
    def active(self) -> bool:
        """Whether the network computes with the new modules."""
        return self._active

    @active.setter
    def active(self, on: bool) -> None:
        self._active = on
        for part in self.parts.values():
            assert isinstance(part, Update)
            part.active = on


def added_parameters(network: MedUniSeg, rank: int = RANK) -> dict[str, int]:
    """Count what a refinement adds; the network is not changed.

    Args:
        network: may lie on the meta device.
        rank: of the low-rank updates.

    Returns:
        The number of parameters by kind of module.
    """
    counts = {"low-rank updates": 0, "transposed convolutions": 0, "heads": 0}
    for name, host in _hosts(network):
        if not _has_twin(name, host):
            size = sum(parameter.numel() for parameter in LowRank(_as_conv(host), rank, ALPHA).parameters())
            counts["low-rank updates"] += size
        else:
            counts["transposed convolutions" if isinstance(host, UpConv) else "heads"] += host.weight.numel()
    return counts


def merge_lora(network: MedUniSeg) -> None:
    """Merge a network's refinement into its own weights for good; the function stays the same.

    The network must be the one that the refinement was made for: copies of a parametrized module share its class, from
    which this takes the parametrization.

    Args:
        network: changed in place.
    """
    for _, host in _hosts(network):
        if parametrize.is_parametrized(host, "weight"):
            parametrize.remove_parametrizations(host, "weight", leave_parametrized=True)


def _hosts(network: MedUniSeg) -> list[tuple[str, Conv | UpConv]]:
    """The convolutions that get new modules, by name."""
    return [(name, module) for name, module in network.named_modules() if isinstance(module, Conv | UpConv)]


def _has_twin(name: str, host: nn.Module) -> bool:
    return isinstance(host, UpConv) or name.endswith("head")


def _as_conv(host: Conv | UpConv) -> Conv:
    assert isinstance(host, Conv)
    return host
