"""A training step of refinement against one of full fine-tuning: CPU time, memory, and what has to be kept.

Each in a process of its own, in turns, the best of each counts: the same network, batch, loss, optimizer (SGD with
momentum) and precision; all weights learn, or only a refinement's. Times are the process's own CPU time, so that other
work on the machine does not count.

    python benchmarks/refinement_step.py [--architecture starter|meduniseg] [--patch 32 64 64] [--batch 2] [--steps 3]
"""

from __future__ import annotations

import argparse
import time

import torch
from measure import Peak, in_own_process, report
from torch import nn

from meduniseg_core.model import ARCHITECTURES, MedUniSeg, autocast, build_model
from meduniseg_core.model.lora import Refinement
from meduniseg_core.training.losses import deep_supervision_loss, deep_supervision_weights
from meduniseg_core.weights import load_model

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def child(arguments: argparse.Namespace) -> None:
    """Some steps of one kind; the first makes the optimizer's memory and is not timed."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    starter = arguments.architecture == "starter"
    network: MedUniSeg = load_model("starter").network if starter else build_model(ARCHITECTURES["meduniseg"])
    network.train()
    learner: nn.Module = Refinement(network) if arguments.child == "refinement" else network
    images = torch.randn(arguments.batch, 1, *arguments.patch)
    labels = torch.randint(0, 2, (arguments.batch, *arguments.patch))
    index = torch.zeros(arguments.batch, dtype=torch.long)
    levels = network.levels - 1
    weights = deep_supervision_weights(network.levels)[:levels]
    seconds = []
    with Peak() as peak:
        optimizer = torch.optim.SGD(learner.parameters(), lr=1e-4, momentum=0.9, nesterov=True)
        for _ in range(arguments.steps + 1):
            began = time.process_time()
            with autocast(torch.device("cpu"), DTYPES[arguments.precision]):
                outputs = network(images, index, index, levels=levels)
            loss = deep_supervision_loss(outputs, labels, 2, weights=weights)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(learner.parameters(), 12.0)
            optimizer.step()
            seconds.append(time.process_time() - began)
    learning = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    kept = sum(4 * parameter.numel() for parameter in learning)
    states = sum(4 * parameter.numel() for parameter in learning if parameter in optimizer.state)
    report(seconds=min(seconds[1:]), mib=peak.mib, learning_mib=kept / 2**20, optimizer_mib=states / 2**20)


def main() -> None:
    """Run both in turns and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", choices=["starter", "meduniseg"], default="starter")
    parser.add_argument("--patch", type=int, nargs=3, default=[32, 64, 64], metavar=("D", "H", "W"))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--precision", choices=list(DTYPES), default="fp32")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--child", choices=["full", "refinement"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    common = [
        *("--architecture", arguments.architecture, "--patch", *map(str, arguments.patch)),
        *("--batch", str(arguments.batch), "--precision", arguments.precision, "--steps", str(arguments.steps)),
    ]
    best: dict[str, dict[str, float]] = {}
    for _ in range(arguments.rounds):
        for kind in ("full", "refinement"):
            found = in_own_process(__file__, [*common, "--child", kind])
            before = best.setdefault(kind, found)
            best[kind] = {name: min(before[name], value) for name, value in found.items()}
    size = "x".join(map(str, arguments.patch))
    print(f"{arguments.architecture}, {arguments.precision}, {arguments.batch} patches of {size}, one thread")
    for kind, label in (("full", "full fine-tuning"), ("refinement", "refinement")):
        one = best[kind]
        print(
            f"{label:17} {one['seconds']:6.2f} s CPU a step, peak {one['mib']:5.0f} MiB; "
            f"weights that learn {one['learning_mib']:5.1f} MiB, optimizer {one['optimizer_mib']:5.1f} MiB"
        )
    ratios = {name: best["refinement"][name] / best["full"][name] for name in ("seconds", "mib", "learning_mib")}
    print(
        f"refinement / full: time {ratios['seconds']:.2f}, memory {ratios['mib']:.2f}, "
        f"what a checkpoint holds {ratios['learning_mib']:.2f}"
    )


if __name__ == "__main__":
    main()
