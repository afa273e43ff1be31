"""What the paper's training costs: operations of a step, counted; with --measure its time here; and 850,000 of them.

Operations are counted on tensors without content, so that takes seconds anywhere. --measure trains for a few steps with
the paper's network, patch and batch (batch 2 of volumes needs 20 GiB in fp32), the shortest of which counts.

    python benchmarks/training_cost.py [--measure] [--device cuda] [--precision bf16] [--recompute] [--steps 5]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from meduniseg_core.catalog import UPSTREAM
from meduniseg_core.model import ARCHITECTURES, MedUniSeg, autocast, build_model, resolve_device, resolve_precision
from meduniseg_core.training.losses import deep_supervision_loss, deep_supervision_weights

STEPS = 850_000


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


def measured(network: MedUniSeg, kind: Kind, arguments: argparse.Namespace) -> float:
    """Seconds of a step."""
    device = resolve_device(arguments.device)
    dtype = resolve_precision(arguments.precision, device)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.99, nesterov=True)
    images = torch.randn(kind.shape, device=device)
    labels = torch.randint(0, 3, (kind.shape[0], *kind.shape[2:]), device=device)
    index = torch.zeros(kind.shape[0], dtype=torch.long, device=device)
    levels = network.levels - 1
    weights = deep_supervision_weights(network.levels)[:levels]
    times = []
    for _ in range(arguments.steps + 2):
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, dtype):
            outputs = network(images, index, index, levels=levels)
        deep_supervision_loss(outputs, labels, 3, weights=weights).backward()  # type: ignore[no-untyped-call]
        # reading the norm waits for the device
        float(torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0))
        optimizer.step()
        times.append(time.perf_counter() - began)
    return min(times[2:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="time the steps on --device")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--recompute", action="store_true", help="with activation checkpointing")
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    rows = [(kind, counted(kind)) for kind in kinds()]
    tasks = sum(kind.tasks for kind, _ in rows)
    for kind, operations in rows:
        print(f"{kind.name}: {operations / 1e12:.2f} TFLOP a step, {kind.tasks} of {tasks} tasks")
    mean = sum(kind.tasks * operations for kind, operations in rows) / tasks
    print(f"mean: {mean / 1e12:.2f} TFLOP a step, {STEPS * mean / 1e18:.2f} EFLOP for {STEPS:,} steps")
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
