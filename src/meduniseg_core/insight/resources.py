"""What a model and its backbone cost on a device (the paper's table 8): parameters, operations, seconds of a patch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from meduniseg_core.inference.engine import Engine
from meduniseg_core.model import ModelConfig, build_model, resolve_device, resolve_precision
from meduniseg_core.model.networks import count_parameters
from meduniseg_core.weights import Model

PAPER_RATIO = 0.173 / 0.093
"""Seconds of MedUniSeg for those of its 2D backbone, at 512 x 512 on the paper's GPU (docs/spec.md section 11)."""


@dataclass(frozen=True)
class ResourceRow:
    """One network on one patch (C, D, H, W) of one sample: seconds are the median of several passes."""

    network: str
    patch: tuple[int, int, int, int]
    parameters: int
    gflop: float
    seconds: float


def resource_table(
    model: Model, *, device: str = "auto", precision: str = "auto", passes: int = 5
) -> tuple[list[ResourceRow], float | None]:
    """Measure a model on a patch of its first 2D and its first 3D task, and the plain backbone of its widths beside it.

    Args:
        model: a MedUniSeg.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, fp32, bf16 or fp16.
        passes: how many are timed, in turns, after one that is not.

    Returns:
        The rows, and the model's seconds for those of its 2D backbone (None without a 2D task).
    """
    where = resolve_device(device)
    dtype = resolve_precision(precision, where)
    config = model.universal_network.config
    rows: list[ResourceRow] = []
    ratio = None
    for dimension in (2, 3):
        plan = next((plan for plan in model.info.tasks if plan.dimension == dimension), None)
        if plan is None:
            continue
        channels = len(plan.channels)
        bare = ModelConfig(
            features=config.features,
            strides=config.strides,
            stems=(channels,),
            classes=plan.class_count,
            modalities=0,
            tasks=0,
            dimension=2 if dimension == 2 else 3,
        )
        shape = (1, channels, *plan.patch)
        task, modality = model.info.task_index(plan.task), model.info.modality_index(plan.modality)
        engines = [Engine(model.network, where, dtype), Engine(build_model(bare).eval(), where, dtype)]
        runs = [_runner(engines[0], [task], modality, shape), _runner(engines[1], [0], 0, shape)]
        seconds = _in_turns(runs, passes)
        names = [model.info.name, f"{dimension}D backbone"]
        for name, own, taken in zip(names, (config, bare), seconds, strict=True):
            count, gflop = count_parameters(own)["total"], _operations(own, shape) / 1e9
            rows.append(ResourceRow(name, (channels, *plan.patch), count, gflop, taken))
        if dimension == 2:
            ratio = seconds[0] / seconds[1]
    return rows, ratio


def _runner(engine: Engine, tasks: list[int], modality: int, shape: tuple[int, ...]) -> Callable[[], None]:
    window = torch.zeros(shape, device=engine.device)
    network = engine.for_tasks(tasks, modality)

    def run() -> None:
        with torch.inference_mode():
            for logits in network(window, [0]):
                float(logits.flatten()[0])  # waits for an accelerator

    return run


def _in_turns(runs: list[Callable[[], None]], passes: int) -> list[float]:
    """Median seconds of each, measured in turns: other work on the machine then troubles all alike."""
    taken: list[list[float]] = [[] for _ in runs]
    for number in range(passes + 1):
        for own, run in zip(taken, runs, strict=True):
            began = time.perf_counter()
            run()
            if number:  # the first pass prepares kernels
                own.append(time.perf_counter() - began)
    return [sorted(own)[len(own) // 2] for own in taken]


def _operations(config: ModelConfig, shape: tuple[int, ...]) -> float:
    """Floating-point operations of one pass, counted on tensors without content."""
    with torch.device("meta"):
        network = build_model(config).eval()
        images, index = torch.empty(shape), torch.zeros(1, dtype=torch.long)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(images, index if config.tasks else None, index if config.modalities else None, levels=1)
    return float(counter.get_total_flops())
