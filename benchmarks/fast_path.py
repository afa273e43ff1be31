"""What the fast paths of the paper's network gain on this CPU; every ratio within one run, calls in turns.

2D: MedUniSeg on 3 x 1 x 512 x 512 against the plain 2D backbone (Conv2d modules, no prompts) in the same layout, norm
and precision. 3D: the window 1 x 64 x 192 x 192 in ``--precision auto`` against fp32 eager, that is plain layout and
``torch.nn.functional.instance_norm``, and against our own fp32.

    python benchmarks/fast_path.py [--rounds 5] [--skip-3d]
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F

from meduniseg_core.model import MedUniSeg, build_model, optimised_for, resolve_precision
from meduniseg_core.model.blocks import NORM_EPS, InstanceNorm
from meduniseg_core.model.compute import inference_autocast, probe_cpu
from meduniseg_core.model.config import ARCHITECTURES

CPU = torch.device("cpu")
ZERO = torch.zeros(1, dtype=torch.int64)


def seconds(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median time of every call; they take turns, so a slow minute hits all alike. One round warms up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(own[1:]) for name, own in times.items()}


def eager_norm(self: InstanceNorm, x: Tensor) -> Tensor:
    """InstanceNorm as one would write it without a thought for the layout."""
    return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=NORM_EPS)


def run_2d(rounds: int) -> None:
    """MedUniSeg's 2D path against a 2D network."""
    torch.manual_seed(0)
    full, plain = build_model(ARCHITECTURES["meduniseg"]), build_model(ARCHITECTURES["backbone-2d"])
    image = torch.randn(1, 3, 1, 512, 512)
    for name in dict.fromkeys(("fp32", "auto")):
        dtype = resolve_precision(name, CPU)
        ours, theirs = (optimised_for(copy.deepcopy(net), CPU, dtype) for net in (full, plain))
        x = image.to(memory_format=torch.channels_last_3d)
        found = seconds(
            {
                "MedUniSeg": lambda net=ours, x=x: net(x, ZERO, ZERO, 1),
                "2D backbone": lambda net=theirs, x=x: net(x, levels=1),
            },
            rounds,
        )
        ratio = found["MedUniSeg"] / found["2D backbone"]
        print(
            f"2D 512x512, {name} ({dtype}): MedUniSeg {found['MedUniSeg']:.3f} s, 2D backbone "
            f"{found['2D backbone']:.3f} s, ratio {ratio:.3f} (wanted: at most 1.15)",
            flush=True,
        )


def run_3d(rounds: int) -> None:
    """The paper's window."""
    torch.manual_seed(0)
    eager = build_model(ARCHITECTURES["meduniseg"]).eval()
    own = optimised_for(copy.deepcopy(eager), CPU, torch.float32)
    dtype = resolve_precision("auto", CPU)
    auto = optimised_for(copy.deepcopy(eager), CPU, dtype)
    image = torch.randn(1, 1, 64, 192, 192)
    laid_out = image.to(memory_format=torch.channels_last_3d)

    def plainly() -> None:
        with patch.object(InstanceNorm, "forward", eager_norm):
            eager(image, ZERO, ZERO, 1)

    def fast(net: MedUniSeg, kind: torch.dtype) -> None:
        with inference_autocast(CPU, kind):
            net(laid_out, ZERO, ZERO, 1)

    found = seconds(
        {
            "fp32 eager": plainly,
            "fp32": lambda: fast(own, torch.float32),
            "auto": lambda: fast(auto, dtype),
        },
        rounds,
    )
    print(
        f"3D 64x192x192: fp32 eager {found['fp32 eager']:.2f} s, our fp32 {found['fp32']:.2f} s, auto ({dtype}) "
        f"{found['auto']:.2f} s; auto is {found['fp32 eager'] / found['auto']:.1f}x faster than fp32 eager (wanted "
        f"where the CPU has bf16 units: at least 4x) and {found['fp32'] / found['auto']:.1f}x faster than our fp32",
        flush=True,
    )


def main() -> None:
    """Print all ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-3d", action="store_true")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, bf16/fp32 probe {probe_cpu()['ratio']:.2f}")
    with torch.inference_mode():
        run_2d(arguments.rounds)
        if not arguments.skip_3d:
            run_3d(max(1, arguments.rounds // 2))


if __name__ == "__main__":
    main()
