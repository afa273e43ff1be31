"""Estimates the memory of a segmentation, and falls back to cheaper execution plans if there is not enough.

The execution plans, from the requested one to the cheapest: fewer windows at a time, the blended logits in main memory
instead of the accelerator's, thinner slabs (windows of less depth), the CPU instead of the accelerator. Only real
out-of-memory errors lead to the next plan; every other error is a bug and is not hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

from meduniseg_core.allowance import available_memory
from meduniseg_core.errors import OutOfMemoryError, is_out_of_memory
from meduniseg_core.events import EventSink, Message, ignore
from meduniseg_core.images import Image
from meduniseg_core.images.boxes import box_shape, whole_box
from meduniseg_core.images.geometry import Shape3
from meduniseg_core.inference.export import output_bytes
from meduniseg_core.inference.sliding_window import passes_of
from meduniseg_core.inference.windows import WindowGrid, plan_windows, slab_window
from meduniseg_core.model.networks import NetworkConfig
from meduniseg_core.model.unet_config import UNetConfig
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.preprocessing.scheme_pipeline import working_geometry
from meduniseg_core.preprocessing.working_size import check_working_size, target_shape
from meduniseg_core.preprocessing.working_size import readable_bytes as readable

Result = TypeVar("Result")

_CPU_BATCH_VOXELS = 1 << 18  # windows smaller than this are run together: about one 512 x 512 image
_CUDA_BATCH_VOXELS = 1 << 23

ACTIVATION_FACTOR = 12.0
"""Peak memory of one pass over that of one full-resolution feature map. Measured on the CPU: 7.4 to 11 (base width 8 to
32, volumes and images, fp32 and bf16): skips of all stages, the concatenation, a convolution's result, workspace."""


@dataclass(frozen=True)
class ExecutionPlan:
    """One way to run a pass.

    ``batch`` is the number of windows at a time, ``accumulate_on`` the device of the blended logits; ``slabs`` = n
    divides the windows' depth (for 2D their height and width) by n.
    """

    device: torch.device
    batch: int
    accumulate_on: torch.device
    slabs: int = 1

    @property
    def name(self) -> str:
        """A description for people: what is special about this plan."""
        where = f"{self.device.type}, {self.batch} window{'s' if self.batch > 1 else ''} at a time"
        if self.accumulate_on != self.device:
            where += ", logits in main memory"
        if self.slabs > 1:
            where += f", windows in slabs of 1/{self.slabs} the size"
        return where


@dataclass(frozen=True)
class Need:
    """The memory a plan needs, in bytes: on its accelerator (0 for the CPU) and in main memory."""

    device: int
    main: int


def fallbacks(device: torch.device, batch: int, most_slabs: int = 4) -> list[ExecutionPlan]:
    """The execution plans to try.

    Args:
        device: the requested device.
        batch: the requested number of windows at a time.
        most_slabs: divide windows into at most this many slabs.

    Returns:
        The plans, the one that needs most memory first.
    """
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
    """Run under the first plan that has enough memory.

    Plans whose estimated need exceeds the free memory are not tried: an operating system that overcommits would kill
    the process instead of refusing. Every step down is reported.

    Args:
        plans: the plans, the preferred one first.
        attempt: runs under a plan.
        need: estimates the memory of a plan; None tries every plan.
        free: the free memory of a device in bytes; by default :func:`free_bytes`.
        remedy: what the user should do if no plan works.
        events: receives a warning for every step down.

    Returns:
        The result, and the plan that gave it.

    Raises:
        OutOfMemoryError: no plan has enough memory; the message says how much was needed and ends with ``remedy``.
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
    """The memory that can be allocated on a device now.

    Args:
        device: the device.

    Returns:
        Bytes.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return available_memory()


def activation_bytes(config: NetworkConfig, window: Shape3, batch: int, dtype: torch.dtype) -> int:
    """Peak memory of one pass of the network, with its logits.

    Args:
        config: the architecture.
        window: size (D, H, W) in voxels.
        batch: number of windows.
        dtype: the dtype of the convolutions.

    Returns:
        Bytes.
    """
    voxels = window[0] * window[1] * window[2] * batch
    width = torch.empty((), dtype=dtype).element_size()
    return int(voxels * (ACTIVATION_FACTOR * config.features[0] * width + config.classes * (width + 4)))


@contextmanager
def out_of_memory_means(remedy: str, doing: str = "prepare the image") -> Iterator[None]:
    """Turn running out of memory within a block into an OutOfMemoryError.

    Args:
        remedy: what the user should do.
        doing: what the memory did not suffice for, to follow "Not enough memory to".

    Yields:
        Nothing.

    Raises:
        OutOfMemoryError: memory ran out.
    """
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


def windows_at_a_time(window: Shape3, device: torch.device) -> int:
    """Choose how many windows run together: small ones share a pass, large ones run alone.

    It does not depend on the number of tasks, because the same batches give bit for bit the same features.

    Args:
        window: (D, H, W) in voxels.
        device: where they run.

    Returns:
        1 to 4 on a CPU, 1 to 16 on an accelerator.
    """
    room, most = (_CUDA_BATCH_VOXELS, 16) if device.type == "cuda" else (_CPU_BATCH_VOXELS, 4)
    return max(1, min(most, room // math.prod(window)))


@dataclass(frozen=True)
class Estimate:
    """Upper bounds for one call of ``Predictor.segment``.

    ``bytes`` is the peak of main memory in addition to the image and the model, ``device_bytes`` that of the
    accelerator (0 for the CPU). ``windows`` counts encoder passes over one window. ``seconds`` is None until the
    session has measured a window.
    """

    bytes: int
    device_bytes: int
    windows: int
    seconds: float | None


@dataclass(frozen=True)
class Workload:
    """One pass over one image for tasks with ``classes`` outputs each (background included).

    ``grid`` holds the windows (of a stack, those of one slice), ``windows`` is their number over all slices. ``image``
    is the shape of the image's grid, ``prepared_bytes`` the size of the preprocessed array.
    """

    config: NetworkConfig
    grid: WindowGrid
    windows: int
    classes: tuple[int, ...]
    image: Shape3
    probabilities: bool
    prepared_bytes: int

    def need(self, execution: ExecutionPlan, dtype: torch.dtype) -> Need:
        """Memory for windows, accumulators and results; the preprocessed array is there already.

        Args:
            execution: the execution plan.
            dtype: the dtype of the convolutions.

        Returns:
            The memory needed.
        """
        window = slab_window(self.grid.window, execution.slabs, self.config.total_stride)
        activations = activation_bytes(self.config, window, execution.batch, dtype)
        depth, height, width = box_shape(self.grid.region)
        band = min(depth, window[0] if window[0] > 1 else execution.batch)
        accumulators = 4 * (sum(self.classes) + 1) * band * height * width
        if isinstance(self.config, UNetConfig):  # one for each member, in half precision
            accumulators = max(accumulators, accumulators * self.config.members // 2)
        results = sum(output_bytes(self.image, count, self.probabilities) for count in self.classes)
        results += 8 * max(self.classes) * self.image[1] * self.image[2]  # planes on their way back
        if execution.device.type == "cpu":
            return Need(device=0, main=activations + accumulators + results)
        on_device = execution.accumulate_on == execution.device
        return Need(
            device=activations + (accumulators if on_device else 0),
            main=results + (0 if on_device else accumulators),
        )


def workload_before(image: Image, plans: Sequence[TaskPlan], config: NetworkConfig, overlap: float) -> Workload:
    """Estimate a pass before preprocessing, by shapes alone, as if nothing were cropped.

    Args:
        image: (C, D, H, W).
        plans: the plans of the tasks that share the pass.
        config: the architecture.
        overlap: overlap of neighbouring windows, a fraction of their size.

    Returns:
        The workload.

    Raises:
        BadInputError: the image's voxel size is impossible.
    """
    plan = plans[0]
    geometry = working_geometry(image, plan)
    check_working_size(geometry, plan, image.name)
    shape = target_shape(geometry, whole_box(geometry.shape), plan)
    if plan.dimension == 2 and not image.is_2d and plan.scheme is None:
        shape = geometry.shape[0], shape[1], shape[2]
    grid = plan_windows(plan, shape, config.total_stride, overlap)
    return Workload(
        config=config,
        grid=grid,
        windows=len(grid),
        classes=tuple(p.outputs for p in plans),
        image=image.geometry.shape,
        probabilities=False,
        prepared_bytes=4 * len(plan.channels) * shape[0] * shape[1] * shape[2],
    )


def estimate(
    loads: Sequence[tuple[Workload, Sequence[TaskPlan], int]],
    device: torch.device,
    dtype: torch.dtype,
    tta: bool,
    pace: float | None,
) -> Estimate:
    """Add up passes that run one after the other.

    Args:
        loads: for each pass its workload, its plans and the number of windows at a time.
        device: where the passes run.
        dtype: the dtype of the convolutions.
        tta: whether test-time augmentation by mirroring is on.
        pace: seconds per voxel of a window; None if not measured yet.

    Returns:
        The estimate.
    """
    main = on_device = windows = 0
    seconds = 0.0
    kept = 0
    for load, plans, batch in loads:
        need = load.need(ExecutionPlan(device, batch, device), dtype)
        main = max(main, kept + need.main + 2 * load.prepared_bytes)
        on_device = max(on_device, need.device)
        kept += sum(output_bytes(load.image, count, load.probabilities) for count in load.classes) // 2
        passes = passes_of([plan.mirror_axes for plan in plans], load.grid.window) if tta else 1
        windows += load.windows * passes
        d, h, w = load.grid.window
        seconds += load.windows * passes * d * h * w * (pace or 0.0)
    return Estimate(bytes=main, device_bytes=on_device, windows=windows, seconds=None if pace is None else seconds)
