"""Plans a data set by a planner's name; figures of images that did not change are taken from the cache."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meduniseg_core.events import CancelToken, EventSink, ignore
from meduniseg_core.images.geometry import Shape3
from meduniseg_core.preprocessing.cache import SOURCES
from meduniseg_core.preprocessing.dataset import RawDataset
from meduniseg_core.preprocessing.fingerprint import extract_fingerprint
from meduniseg_core.preprocessing.plan import TaskPlan
from meduniseg_core.preprocessing.planners import PAPER_WIDTH, Planner, plan_options
from meduniseg_core.preprocessing.planning import TOTAL_STRIDE, make_plan
from meduniseg_core.preprocessing.source_files import SourceFiles


def plan_dataset(
    dataset: RawDataset,
    planner: Planner = "default",
    *,
    gpu_memory: float | None = None,
    width: int = PAPER_WIDTH,
    total_stride: Shape3 = TOTAL_STRIDE,
    fixed: Mapping[str, Any] | None = None,
    parallel: int = 1,
    cache_dir: Path | None = None,
    sources: SourceFiles | None = None,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> TaskPlan:
    """Plan a data set's task.

    Args:
        dataset: The data set.
        planner: Who chooses what is not ``fixed``.
        gpu_memory: GiB of the GPU that patch and batch should fit; None for the paper's sizes.
        width: Number of features of the network's finest stage.
        total_stride: How much the network shrinks an image, along (D, H, W).
        fixed: Arguments of :func:`make_plan` that take precedence: spacing, longest_side, patch, batch,
            patch_voxels, batch_voxels.
        parallel: Number of processes that look at images.
        cache_dir: The folder of the preprocessed cases, which keeps what was found out about each image; None keeps
            nothing.
        sources: Hashes the data set's files, where there is a cache.
        events: Receives progress.
        cancel: Ends the work between two cases.

    Returns:
        The plan.

    Raises:
        UsageError: Options contradict the data or each other.
        BadInputError: The data set cannot be planned.
        CancelledError: ``cancel`` was set.
    """
    store = None if cache_dir is None else Path(cache_dir) / SOURCES / dataset.task
    marks = extract_fingerprint(dataset, parallel=parallel, store=store, sources=sources, events=events, cancel=cancel)
    options = plan_options(planner, marks, gpu_memory=gpu_memory, width=width)
    given = {name: value for name, value in (fixed or {}).items() if value is not None}
    if "spacing" in given or "longest_side" in given:  # the other one of the planner's choice would contradict it
        options = {name: value for name, value in options.items() if name not in ("spacing", "longest_side")}
    if "batch_voxels" in given:  # a step of that size is known to suit, with a single patch, too
        options["least_batch"] = 1
    return make_plan(dataset, figures=marks, total_stride=total_stride, **{**options, **given})
