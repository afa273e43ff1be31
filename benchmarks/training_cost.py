"""What the paper's training costs: operations of a step, counted; with --measure its time here; and 850,000 of them.

Operations are counted on tensors without content, so that takes seconds anywhere. From them follows what the training
would take on named GPUs (`gpus.py`), with 1, 4 and 8 of them: with the paper's batch, where a GPU without a sample has
nothing to do, and with a batch N times as large for an N-th of the steps. --measure trains for a few steps with the
paper's network, patch and batch (batch 2 of volumes needs 20 GiB in fp32), the shortest of which counts. --part 16
measures on a batch with a 16th of the voxels (1 x 32x96x96, or 12 x 128x128), and multiplies. On the CPU with one
thread the process's own time counts, so that other programs matter less.

    python benchmarks/training_cost.py [--measure] [--part 16] [--device cuda] [--precision bf16] [--recompute]
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass

import torch
from gpus import GPUS, HOPED_SHARE, MEASURED_SHARE
from torch.utils.flop_counter import FlopCounterMode

from meduniseg_core.catalog import UPSTREAM
from meduniseg_core.model import ARCHITECTURES, MedUniSeg, autocast, build_model, resolve_device, resolve_precision
from meduniseg_core.training.losses import deep_supervision_loss, deep_supervision_weights

STEPS = 850_000
EXCHANGE = 0.001  # seconds for 131 MB of gradients between the GPUs of one machine


@dataclass(frozen=True)
class Kind:
    """The steps of one dimension: how many of the paper's tasks have it, and the shape (B, C, D, H, W) of a batch."""

    name: str
    tasks: int
    shape: tuple[int, int, int, int, int]


def kinds() -> list[Kind]:
    volumes = sum(task.dimension == 3 for task in UPSTREAM)
    return [
        Kind("3D, 2 x 64x192x192", volumes, (2, 1, 64, 192, 192)),
        Kind("2D, 12 x 512x512", len(UPSTREAM) - volumes, (12, 3, 1, 512, 512)),
    ]


def counted(kind: Kind) -> float:
    """Floating-point operations of forward and backward."""
    with torch.device("meta"):
        network = build_model(ARCHITECTURES["meduniseg"])
        images, index = torch.empty(kind.shape), torch.zeros(kind.shape[0], dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        outputs = network(images, index, index, levels=network.levels - 1)
        sum(level.sum() for level in outputs).backward()
    return float(counter.get_total_flops())


def projected(rows: list[tuple[Kind, float]], peak: float, share: float, gpus: int, *, larger: bool) -> float:
    """Days of the whole training.

    Args:
        rows: kinds of steps with their operations.
        peak: TFLOP/s of a GPU.
        share: of the peak that is reached.
        gpus: how many.
        larger: whether the batch is ``gpus`` times as large, for that many fewer steps.

    Returns:
        Days.
    """
    tasks, seconds = sum(kind.tasks for kind, _ in rows), 0.0
    for kind, operations in rows:
        alone = operations / (peak * 1e12 * share)
        batch = kind.shape[0]
        # the step takes as long as the process with the most samples
        step = alone if larger else alone * math.ceil(batch / gpus) / batch
        seconds += kind.tasks / tasks * (step + (EXCHANGE if gpus > 1 else 0.0))
    return STEPS / (gpus if larger else 1) * seconds / 86400


def print_projection(rows: list[tuple[Kind, float]]) -> None:
    """The days on named GPUs as a Markdown table."""
    shares = f"{MEASURED_SHARE:.0%} of the peak (measured once) / {HOPED_SHARE:.0%} (hoped for)"
    print(f"\nDays for {STEPS:,} steps at {shares}:\n")
    columns = ("GPU", "peak, TFLOP/s", "1", "4", "8", "4, batch x 4", "8, batch x 8")
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for gpu in GPUS:
        cells = []
        for count, larger in ((1, False), (4, False), (8, False), (4, True), (8, True)):
            days = [projected(rows, gpu.peak, share, count, larger=larger) for share in (MEASURED_SHARE, HOPED_SHARE)]
            cells.append(" / ".join(f"{value:.1f}" for value in days))
        print(f"| {gpu.name} | {gpu.peak:g} | {' | '.join(cells)} |")
    print()


def smaller(kind: Kind, part: int) -> tuple[int, int, int, int, int]:
    """A batch with a 16th of the voxels; the whole one for part 1."""
    batch, channels, depth, height, width = kind.shape
    if part == 1:
        return kind.shape
    return (
        (1, channels, depth // 2, height // 2, width // 2)
        if depth > 1
        else (batch, channels, 1, height // 4, width // 4)
    )


def measured(network: MedUniSeg, kind: Kind, arguments: argparse.Namespace) -> float:
    """Seconds of a step; the first one is not counted."""
    device = resolve_device(arguments.device)
    dtype = resolve_precision(arguments.precision, device)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.99, nesterov=True)
    shape = smaller(kind, arguments.part)
    images = torch.randn(shape, device=device)
    labels = torch.randint(0, 3, (shape[0], *shape[2:]), device=device)
    index = torch.zeros(shape[0], dtype=torch.long, device=device)
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    levels = network.levels - 1
    weights = deep_supervision_weights(network.levels)[:levels]
    times = []
    for _ in range(arguments.steps + 1):
        began = clock()
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, dtype):
            outputs = network(images, index, index, levels=levels)
        deep_supervision_loss(outputs, labels, 3, weights=weights).backward()  # type: ignore[no-untyped-call]
        # reading the norm waits for the device
        float(torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0))
        optimizer.step()
        times.append(clock() - began)
    return arguments.part * min(times[1:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="time the steps on --device")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--recompute", action="store_true", help="with activation checkpointing")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--part", type=int, choices=(1, 16), default=1, help="measure on a 16th of the voxels")
    arguments = parser.parse_args()
    rows = [(kind, counted(kind)) for kind in kinds()]
    tasks = sum(kind.tasks for kind, _ in rows)
    for kind, operations in rows:
        print(f"{kind.name}: {operations / 1e12:.2f} TFLOP a step, {kind.tasks} of {tasks} tasks")
    mean = sum(kind.tasks * operations for kind, operations in rows) / tasks
    print(f"mean: {mean / 1e12:.2f} TFLOP a step, {STEPS * mean / 1e18:.2f} EFLOP for {STEPS:,} steps")
    print_projection(rows)
    if not arguments.measure:
        return
    network = build_model(ARCHITECTURES["meduniseg"]).to(resolve_device(arguments.device)).train()
    if next(network.parameters()).is_cuda:
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    for part in (network.encoder, network.decoder):
        part.recompute = arguments.recompute
    times = [(kind, operations, measured(network, kind, arguments)) for kind, operations in rows]
    for kind, operations, seconds in times:
        print(f"{kind.name}: {seconds:.3f} s a step, {operations / seconds / 1e12:.1f} TFLOP/s")
    one = STEPS * sum(kind.tasks * seconds for kind, _, seconds in times) / tasks
    print(f"{STEPS:,} steps: {one / 86400:.1f} days with one such device")


if __name__ == "__main__":
    main()
