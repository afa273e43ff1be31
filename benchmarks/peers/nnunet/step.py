"""A training step by nnU-Net 2.8.1's trainer and by ours, in turns, one thread each: CPU seconds and peak memory.

    python benchmarks/peers/nnunet/step.py --peer ENVIRONMENT/bin/python [--patch 32 128 128] [--batch 2] [--turns 3]

Both train the paper's backbone (features 32 to 320, 31 M parameters, heads for deep supervision) for 13 organs on the
same random batch, with SGD, Dice and cross-entropy, gradients cut at 12: nnU-Net by `nnUNetTrainer.train_step`, we by
`meduniseg_core.training.step.Step`. nnU-Net trains in single precision on a CPU; "bf16" is its step under the autocast
that it uses on a GPU. Each measurement is a process of its own; the first step is not timed, the process's own time
counts, so that other programs matter little. Peak: the process's resident memory above what it had before the network
was made.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil
import torch

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
FEATURES = [32, 64, 128, 256, 320, 320]
STRIDES = [[1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
ORGANS = 13


def main() -> None:
    """Take turns and print the ratios; with --side, be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="the python of nnU-Net's environment")
    parser.add_argument("--patch", type=int, nargs=3, default=[32, 128, 128], metavar=("D", "H", "W"))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--precision", nargs="*", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--side", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        torch.set_num_threads(1)
        make = ours if options.side == "ours" else theirs
        measure(make, options.patch, options.batch, options.precision[0], options.steps)
        return
    size = "x".join(map(str, options.patch))
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"{options.batch} patches of {size}, {ORGANS} organs, torch {torch.__version__}, {capability}, one thread")
    print(f"{'':14}{'CPU s a step':>14}{'peak GiB':>10}  ours over theirs: time, memory")
    for precision in options.precision:
        found: dict[str, list[dict[str, float]]] = {"theirs": [], "ours": []}
        for _ in range(options.turns):
            for side, python in (("theirs", options.peer), ("ours", sys.executable)):
                found[side].append(_answer(python, side, precision, options))
        counts = {round(answers[0]["parameters"] / 1e5) for answers in found.values()}
        if len(counts) != 1:
            raise SystemExit(f"the networks differ: {counts} x 100,000 parameters")
        _report(precision, found)


def _answer(python: str, side: str, precision: str, options: argparse.Namespace) -> dict[str, float]:
    command = [python, str(Path(__file__).resolve()), "--peer", "-", "--side", side, "--precision", precision]
    command += ["--patch", *map(str, options.patch), "--batch", str(options.batch), "--steps", str(options.steps)]
    own = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": f"{REPOSITORY / 'src'}:{HERE}"}
    done = subprocess.run(command, env={**os.environ, **own}, stdout=subprocess.PIPE, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    answer: dict[str, float] = json.loads(line)
    return answer


def _report(precision: str, found: dict[str, list[dict[str, float]]]) -> None:
    for side, answers in found.items():
        medians = [statistics.median(answer[key] for answer in answers) for key in ("seconds", "peak")]
        text = f"{precision} {side:9}{medians[0]:>14.2f}{medians[1]:>10.2f}"
        if side == "ours":
            time_ratio, memory = (
                statistics.median(a[key] / b[key] for a, b in zip(answers, found["theirs"], strict=True))
                for key in ("seconds", "peak")
            )
            text += f"  {time_ratio:.2f}x, {memory:.2f}x"
        print(text, flush=True)


Steps = Callable[[torch.Tensor, torch.Tensor], float]


def measure(
    make: Callable[[Sequence[int], int, str], tuple[Steps, int]],
    patch: Sequence[int],
    batch: int,
    precision: str,
    steps: int,
) -> None:
    """Make a network and its trainer, make steps, print the shortest and the peak as JSON."""
    torch.manual_seed(0)
    images = torch.randn((batch, 1, *patch))
    labels = torch.randint(0, ORGANS + 1, (batch, *patch))
    before = psutil.Process().memory_info().rss
    step, parameters = make(patch, batch, precision)
    seconds = []
    for _ in range(steps + 1):
        began = time.process_time()
        loss = step(images, labels)
        seconds.append(time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(json.dumps({"seconds": min(seconds[1:]), "peak": peak / 2**30, "parameters": parameters, "loss": loss}))


def theirs(patch: Sequence[int], batch: int, precision: str) -> tuple[Steps, int]:
    """nnU-Net's trainer."""
    import models  # nnU-Net's environment only

    plans, dataset, configuration = models.paper_3d()
    settings = plans["configurations"][configuration]
    settings |= {"patch_size": list(patch), "batch_size": batch}
    kernels = [[1, 3, 3], *[[3, 3, 3]] * 5]
    settings["architecture"] = models._architecture(False, FEATURES, kernels, [[1, 1, 1], *STRIDES], [2] * 6)
    dataset |= {"numTraining": 8, "file_ending": ".nii.gz", "name": plans["dataset_name"]}
    trainer = models._trainer(plans, configuration, 0, dataset)
    for block in trainer.network.decoder.stages[-1].convs:  # the paper's backbone has cubes there, nnU-Net flat kernels
        flat = block.conv
        block.conv = torch.nn.Conv3d(flat.in_channels, flat.out_channels, 3, padding=1)
        block.all_modules[0] = block.conv
    trainer.optimizer, _ = trainer.configure_optimizers()
    trainer.network.train()
    sizes = [np.divide(patch, np.prod([[1, 1, 1], *STRIDES][: level + 1], axis=0)) for level in range(5)]

    def step(images: torch.Tensor, labels: torch.Tensor) -> float:
        full = labels[:, None].float()
        targets = [
            torch.nn.functional.interpolate(full, [int(n) for n in size], mode="nearest-exact") for size in sizes
        ]
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return float(trainer.train_step({"data": images, "target": targets})["loss"])

    return step, sum(weights.numel() for weights in trainer.network.parameters())


def ours(patch: Sequence[int], batch: int, precision: str) -> tuple[Steps, int]:
    """This program's step, with what a run prepares from a data set of two volumes."""
    import SimpleITK

    from meduniseg_core.model import build_model
    from meduniseg_core.training import NetworkSettings, PlanSettings, TrainingConfig
    from meduniseg_core.training.batches import Batch
    from meduniseg_core.training.group import ALONE
    from meduniseg_core.training.prepare import prepare
    from meduniseg_core.training.step import Step

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "Dataset906_Organs"
        for name in ("imagesTr", "labelsTr"):
            (folder / name).mkdir(parents=True)
        labels = {"background": 0, **{f"organ{label}": label for label in range(1, ORGANS + 1)}}
        about = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz", "modality": "ct"}
        (folder / "dataset.json").write_text(json.dumps({**about, "task": "organs", "numTraining": 2}))
        rng = np.random.default_rng(0)
        for case in ("a", "b"):
            volume = SimpleITK.GetImageFromArray(rng.normal(50, 100, (24, 48, 48)).astype(np.float32))
            organs = SimpleITK.GetImageFromArray(rng.integers(0, ORGANS + 1, (24, 48, 48)).astype(np.uint8))
            SimpleITK.WriteImage(volume, folder / "imagesTr" / f"{case}_0000.nii.gz")
            SimpleITK.WriteImage(organs, folder / "labelsTr" / f"{case}.nii.gz")
        config = TrainingConfig(
            name="step",
            datasets=(folder,),
            output=Path(scratch) / "run",
            cache=Path(scratch) / "cache",
            network=NetworkSettings(features=tuple(FEATURES), strides=tuple(map(tuple, STRIDES)), priors=False),
            plan_3d=PlanSettings(patch=tuple(patch), batch=batch),
            device="cpu",
            threads=1,
        )
        prepared = prepare(config)
        network = build_model(prepared.info.universal_config)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        trainer = Step(config, prepared, network, network, dtype, ALONE)

    def step(images: torch.Tensor, labels: torch.Tensor) -> float:
        return trainer.run(Batch(0, images, labels, ("a", "b")), 0).loss

    return step, sum(weights.numel() for weights in network.parameters())


if __name__ == "__main__":
    main()
