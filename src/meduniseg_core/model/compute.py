"""Device, precision and memory layout of the network.

bf16 is faster only on CPUs with units for it, so ``auto`` decides by a short probe and remembers the answer.
"""

from __future__ import annotations

import platform
import re
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TypeVar

import torch
from torch import nn

from meduniseg_core.errors import UsageError
from meduniseg_core.files import remove_orphans
from meduniseg_core.model.fast_layers import gains_here, speed_up
from meduniseg_core.model.networks import Network
from meduniseg_core.model.plain_unet import UNet
from meduniseg_core.paths import user_folder
from meduniseg_core.structured_text import try_read_json, try_write_json

AnyNetwork = TypeVar("AnyNetwork", bound=Network)

_DEVICE = re.compile(r"cpu|mps|cuda(:[0-9]{1,3})?")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PROBE_FILE = "probe.json"
_PROBE_SECONDS = 1.0  # at most, but for the call under way
_WORTH_IT = 0.85  # bf16 must take at most this fraction of fp32's time to be chosen


def resolve_device(name: str = "auto") -> torch.device:
    """Find the device to use.

    Args:
        name: auto, cpu, cuda, cuda:N or mps. ``auto`` takes CUDA, else MPS, else the CPU.

    Returns:
        The device.

    Raises:
        UsageError: the name is none of these, or this machine has no such device.
    """
    if name == "auto":
        return torch.device(next((kind for kind in ("cuda", "mps") if device_names(kind)), "cpu"))
    if not _DEVICE.fullmatch(name):
        raise UsageError(f"Unknown device {name!r:.40}; choose auto, cpu, cuda, cuda:0, cuda:1, ... or mps.")
    there = device_names()
    if name not in there:
        raise UsageError(f"This machine has no usable device '{name}'; choose --device auto or {' or '.join(there)}.")
    return torch.device(name)


def device_names(kind: str | None = None) -> tuple[str, ...]:
    """The devices of this machine by name.

    Args:
        kind: cpu, cuda or mps; None for all.

    Returns:
        Names that :func:`resolve_device` takes. With CUDA, "cuda" and each GPU by its number.
    """
    names = ["cpu"]
    if torch.cuda.is_available():
        names += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return tuple(name for name in names if kind is None or name.split(":")[0] == kind)


def device_choices() -> tuple[str, ...]:
    """The devices to offer in a list: the kinds, and if there are several GPUs each by its number.

    Returns:
        Names for :func:`resolve_device`, whether this machine has the device or not.
    """
    numbered = device_names("cuda")[1:]
    return ("auto", "cpu", "cuda", *(numbered if len(numbered) > 1 else ()), "mps")


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Choose the dtype of the convolutions.

    Args:
        name: auto, fp32, bf16 or fp16. ``auto`` is bf16 or fp16 on CUDA, fp32 on MPS, and on the CPU what a remembered
            probe found faster.
        device: where the network will run.

    Returns:
        The dtype.

    Raises:
        UsageError: the name is none of these, or fp16 on the CPU.
    """
    if name != "auto":
        if name not in _DTYPES:
            raise UsageError(f"Unknown precision '{name}'; choose auto, fp32, bf16 or fp16.")
        if name == "fp16" and device.type == "cpu":
            raise UsageError("fp16 is not supported on the CPU; choose --precision auto, bf16 or fp32.")
        return _DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "mps":
        return torch.float32
    return torch.bfloat16 if _cpu_prefers_bf16() else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Mixed precision for a block of code.

    Args:
        device: where the code runs.
        dtype: of the convolutions; float32 changes nothing.

    Returns:
        A context manager.
    """
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def optimised_for(network: AnyNetwork, device: torch.device, dtype: torch.dtype, *, eager: bool = True) -> AnyNetwork:
    """Move a network to a device for inference, in evaluation mode and in the fastest layout there.

    On the CPU in bf16 the convolutions' weights are stored in bf16 (norms and the modal map stay fp32), which saves
    casting them at every window; elsewhere :func:`autocast` does the casting. On a CPU in fp32 a `UNet` gets faster
    layers (`fast_layers`).

    Args:
        network: changed in place.
        device: where it will run.
        dtype: of its convolutions.
        eager: it will not be compiled.

    Returns:
        The network.
    """
    network.to(device).eval().requires_grad_(False)
    flat = any(isinstance(module, nn.Conv2d) for module in network.modules())
    network.to(memory_format=torch.channels_last if flat else torch.channels_last_3d)  # type: ignore[call-overload]
    if device.type == "cpu" and dtype != torch.float32:
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
                module.to(dtype)
    gains = gains_here()
    if device.type == "cpu" and dtype == torch.float32 and eager and gains is not None:
        for part in network.parts:
            if isinstance(part, UNet):
                speed_up(part, gains)
    return network


def inference_autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """The context in which inference with an :func:`optimised_for` network runs.

    Args:
        device: where the network runs.
        dtype: the dtype of its convolutions.

    Returns:
        A context manager.
    """
    return nullcontext() if device.type == "cpu" else autocast(device, dtype)


def _cpu_prefers_bf16() -> bool:
    """Probe once per machine and torch version; the answer is kept in the user's data folder."""
    path = user_folder() / _PROBE_FILE
    key = f"{platform.node()} {platform.machine()} {torch.backends.cpu.get_cpu_capability()} torch {torch.__version__}"
    found = try_read_json(path)
    known = found if isinstance(found, dict) else {}
    answer = known.get(key)
    if isinstance(answer, bool):
        return answer
    answer = probe_cpu()["ratio"] < _WORTH_IT
    with suppress(OSError):  # a read-only home costs a second per start, nothing more
        remove_orphans(path.parent)
    try_write_json(path, {**known, key: answer})
    return answer


def probe_cpu(repeats: int = 8) -> dict[str, float]:
    """Time one typical 3x3x3 convolution in fp32 and bf16.

    The two take turns, so that other work on the machine slows both. A CPU that has to emulate bf16 takes seconds for
    one of them: then the first answers tell enough.

    Args:
        repeats: the best of so many counts.

    Returns:
        Seconds by precision ("fp32", "bf16"), and bf16's share of fp32's time ("ratio").
    """
    calls = {}
    for name in ("fp32", "bf16"):
        conv = nn.Conv3d(32, 32, 3, padding=1).to(_DTYPES[name], memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        x = torch.zeros(1, 32, 16, 48, 48, dtype=_DTYPES[name]).to(memory_format=torch.channels_last_3d)
        calls[name] = (conv, x)
    times: dict[str, list[float]] = {name: [] for name in calls}
    with torch.inference_mode():
        began = time.perf_counter()
        for _ in range(repeats + 1):
            for name, (conv, x) in calls.items():
                start = time.perf_counter()
                conv(x)
                times[name].append(time.perf_counter() - start)
            if time.perf_counter() - began > _PROBE_SECONDS:
                break
    seconds = {name: min(own[1:] or own) for name, own in times.items()}  # the first call prepares the kernel
    return {**seconds, "ratio": seconds["bf16"] / seconds["fp32"]}
