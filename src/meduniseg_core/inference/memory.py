"""How much memory a segmentation needs, and what is tried when there is not enough.

The execution plans, from what was asked for down to what needs least: smaller batches of windows, the blended logits
in main memory instead of the accelerator's, thinner slabs (windows of less depth), the CPU instead of the accelerator.
Only real out-of-memory errors lead to the next plan; every other error is a bug and is not hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import psutil
import torch

from meduniseg_core.errors import OutOfMemoryError, is_out_of_memory
from meduniseg_core.events import EventSink, Message, ignore
from meduniseg_core.images.geometry import Shape3
from meduniseg_core.model.networks import NetworkConfig
from meduniseg_core.preprocessing.working_size import readable_bytes as readable

Result = TypeVar("Result")

ACTIVATION_FACTOR = 12.0
"""Peak bytes of one pass over bytes of one full-resolution feature map. Measured on the CPU: 7.4 to 11 (base width 8 to
32, volumes and images, fp32 and bf16): skips of all stages, the concatenation, a convolution's result, workspace."""


@dataclass(frozen=True)
class ExecutionPlan:
    """One way to run: ``slabs`` = n divides the windows' depth (2D: their height and width) by n."""

    device: torch.device
    batch: int
    accumulate_on: torch.device
    slabs: int = 1

    @property
    def name(self) -> str:
        """For people: what is special about this plan."""
        where = f"{self.device.type}, {self.batch} window{'s' if self.batch > 1 else ''} at a time"
        if self.accumulate_on != self.device:
            where += ", logits in main memory"
        if self.slabs > 1:
            where += f", windows in slabs of 1/{self.slabs} the size"
        return where


@dataclass(frozen=True)
class Need:
    """Bytes that a plan needs on its accelerator (0 on the CPU) and in main memory."""

    device: int
    main: int


def fallbacks(device: torch.device, batch: int, most_slabs: int = 4) -> list[ExecutionPlan]:
    """The execution plans for a run on ``device`` with ``batch`` windows at a time, highest first."""
    cpu = torch.device("cpu")
    batches = [batch]
    while batches[-1] > 1:
        batches.append(max(1, batches[-1] // 4))
    slabs = [count for count in (2, 4) if count <= most_slabs]
    plans = [ExecutionPlan(device, size, device) for size in batches]
    if device.type != "cpu":
        plans.append(ExecutionPlan(device, 1, cpu))
    plans += [ExecutionPlan(device, 1, cpu, count) for count in slabs]
    if device.type != "cpu":
        plans.append(ExecutionPlan(cpu, 1, cpu))
        plans += [ExecutionPlan(cpu, 1, cpu, count) for count in slabs]
    return plans


def run_with_fallback(
    plans: Sequence[ExecutionPlan],
    attempt: Callable[[ExecutionPlan], Result],
    *,
    need: Callable[[ExecutionPlan], Need] | None = None,
    free: Callable[[torch.device], int] | None = None,
    remedy: str,
    events: EventSink = ignore,
) -> tuple[Result, ExecutionPlan]:
    """The result of the first plan that has enough memory, and that plan.

    Plans whose estimated ``need`` exceeds what is free are not tried: an operating system that overcommits kills the
    process instead of refusing. Every step down is said in ``events``.

    Raises:
        OutOfMemoryError: the last plan needs too much; the message says what was needed and ends with ``remedy``.
    """
    free = free_bytes if free is None else free
    shortage = "memory ran out"
    tried = 0
    cause: BaseException | None = None
    for execution in plans:
        if need is not None:
            reason = _shortage(execution, need(execution), free)
            if reason is not None:
                shortage = reason
                continue
        if execution is not plans[0]:
            events(Message("warning", f"{shortage[0].upper()}{shortage[1:]}; now running with less: {execution.name}."))
        try:
            return attempt(execution), execution
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            shortage, cause = f"memory ran out ({execution.name})", error.with_traceback(None)
            tried += 1
        # outside the handler: the traceback that held the tensors is gone
        _release(execution.device)
    how = "even the smallest way of running failed" if tried else "no way of running fits"
    raise OutOfMemoryError(f"Not enough memory: {shortage}, {how}; {remedy}.") from cause


def free_bytes(device: torch.device) -> int:
    """Bytes that can be taken on ``device`` now."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return int(psutil.virtual_memory().available)


def activation_bytes(config: NetworkConfig, window: Shape3, batch: int, dtype: torch.dtype) -> int:
    """Peak bytes of one pass of the network over ``batch`` windows, its logits included."""
    voxels = window[0] * window[1] * window[2] * batch
    width = torch.empty((), dtype=dtype).element_size()
    return int(voxels * (ACTIVATION_FACTOR * config.features[0] * width + config.classes * (width + 4)))


def slab_window(window: Shape3, slabs: int, stride: Shape3) -> Shape3:
    """``window`` with 1/``slabs`` of its depth (an image of depth 1: of its height and width), in whole strides."""
    axes = (0,) if window[0] > 1 else (1, 2)
    sizes = [
        max(stride[axis], size // slabs // stride[axis] * stride[axis]) if axis in axes else size
        for axis, size in enumerate(window)
    ]
    if all(size <= step for size, step in zip(sizes, stride, strict=True)):
        return window  # a bottleneck of one voxel has no variance to be normalised by
    return min(sizes[0], window[0]), min(sizes[1], window[1]), min(sizes[2], window[2])


@contextmanager
def out_of_memory_means(remedy: str, doing: str = "prepare the image") -> Iterator[None]:
    """Turn memory that runs out inside the block into an OutOfMemoryError: ``doing`` what, and the ``remedy``."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(f"Not enough memory to {doing}; {remedy}.") from error


def _shortage(execution: ExecutionPlan, need: Need, free: Callable[[torch.device], int]) -> str | None:
    cpu = torch.device("cpu")
    if execution.device.type != "cpu" and need.device > free(execution.device):
        there = readable(free(execution.device))
        return f"about {readable(need.device)} are needed and {there} are free on {execution.device}"
    if need.main > free(cpu):
        return f"about {readable(need.main)} of main memory are needed and {readable(free(cpu))} are free"
    return None


def _release(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
