"""What a pass will need, reckoned before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from meduniseg_core.images import Image
from meduniseg_core.images.boxes import box_shape, whole_box
from meduniseg_core.images.geometry import Shape3
from meduniseg_core.inference.export import output_bytes
from meduniseg_core.inference.memory import ExecutionPlan, Need, activation_bytes, slab_window
from meduniseg_core.inference.plan_windows import plan_windows
from meduniseg_core.inference.sliding_window import passes_of
from meduniseg_core.inference.windows import WindowGrid
from meduniseg_core.model.networks import NetworkConfig
from meduniseg_core.model.unet_config import UNetConfig
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.preprocessing.scheme_pipeline import working_geometry
from meduniseg_core.preprocessing.working_size import check_working_size, target_shape


@dataclass(frozen=True)
class Estimate:
    """Upper bounds for one call of ``Predictor.segment``.

    ``bytes``: main memory beside the image and the model, at its highest; ``device_bytes``: the accelerator's (0 on the
    CPU). ``windows``: encoder passes over one window each. ``seconds``: None until the session has a pace to go by.
    """

    bytes: int
    device_bytes: int
    windows: int
    seconds: float | None


@dataclass(frozen=True)
class Workload:
    """One pass over one image for tasks with ``classes`` output channels each (background included).

    ``grid`` holds the windows, of which all slices of a stack are counted in ``windows``; ``image`` is the shape of the
    input's grid, ``prepared_bytes`` the size of the preprocessed array.
    """

    config: NetworkConfig
    grid: WindowGrid
    windows: int
    classes: tuple[int, ...]
    image: Shape3
    probabilities: bool
    prepared_bytes: int

    def need(self, execution: ExecutionPlan, dtype: torch.dtype) -> Need:
        """Bytes of windows, accumulators and results on ``execution``; the preprocessed array is there already."""
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
    """The pass over ``image`` by shapes alone, as if nothing were cropped.

    BadInputError for a voxel size that cannot be.
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
    """The sum of passes that run one after the other: (workload, its plans, windows at a time)."""
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
