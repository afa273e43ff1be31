"""The windows over an image of a task: where its plan has a say in their size and weights."""

from __future__ import annotations

from meduniseg_core.images.boxes import Box
from meduniseg_core.images.geometry import Shape3
from meduniseg_core.inference.memory import slab_window
from meduniseg_core.inference.windows import WindowGrid, window_shape
from meduniseg_core.preprocessing import TaskPlan


def plan_windows(
    plan: TaskPlan, shape: Shape3, stride: Shape3, overlap: float, region: Box | None = None, slabs: int = 1
) -> WindowGrid:
    """Lay windows over an image.

    A network of nnU-Net always sees windows of the size that it was trained with.

    Args:
        plan: of the task.
        shape: of the network's grid, (D, H, W).
        stride: the network's total.
        overlap: of neighbouring windows, a share of their size.
        region: what is to be covered; None: all.
        slabs: as in `ExecutionPlan`.

    Returns:
        The windows.
    """
    window = slab_window(window_shape(shape, plan.patch, stride, shrink=plan.scheme is None), slabs, stride)
    return WindowGrid.over(shape, window, overlap, region, peak_on_voxel=plan.scheme is not None)
