"""Each of the faster layers of inference beside torch's own, in single precision: `fast_layers.GAINS` comes from this.

    python benchmarks/fast_layers.py [--threads 1] [--rounds 8]

Calls in turns, medians; above 1: ours is faster.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from meduniseg_core.model.blocks import Conv, UpConv
from meduniseg_core.model.fast_layers import MatmulUpConv, NarrowConv, PointConv, gains_here
from meduniseg_core.model.winograd import WinogradConv

Size = tuple[int, int, int]
LAST = torch.channels_last_3d

# (input channels, output channels, (D, H, W))
WIDE: tuple[tuple[int, int, Size], ...] = (
    (32, 32, (32, 96, 96)),
    (64, 64, (32, 48, 48)),
    (128, 64, (32, 48, 48)),
    (128, 128, (16, 24, 24)),
    (256, 128, (16, 24, 24)),
    (256, 256, (8, 12, 12)),
)
NARROW: tuple[tuple[int, Size, Size], ...] = (
    (1, (1, 3, 3), (32, 96, 96)),
    (1, (3, 3, 3), (64, 96, 96)),
    (2, (3, 3, 3), (64, 96, 96)),
    (4, (3, 3, 3), (32, 96, 96)),
    (3, (1, 3, 3), (1, 512, 512)),
)
HEADS: tuple[tuple[int, Size], ...] = ((14, (32, 96, 96)), (14, (1, 512, 512)), (2, (64, 96, 96)))
UPS: tuple[tuple[int, int, Size, Size], ...] = (
    (64, 32, (1, 2, 2), (32, 48, 48)),
    (128, 64, (2, 2, 2), (16, 24, 24)),
    (256, 128, (2, 2, 2), (8, 12, 12)),
)


def features(channels: int, size: Size) -> Tensor:
    """Random features, channels last."""
    return torch.randn(1, channels, *size).to(memory_format=LAST)


def show(name: str, theirs: Callable[[], Tensor], ours: Callable[[], Tensor], rounds: int) -> None:
    """Take turns; print both medians and their ratio."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):  # the first warms up
        for own, call in zip(times, (theirs, ours), strict=True):
            start = time.perf_counter()
            call()
            own.append(time.perf_counter() - start)
    slow, fast = (statistics.median(own[1:]) * 1000 for own in times)
    print(f"{name:52}{slow:9.1f} ms{fast:9.1f} ms{slow / fast:7.2f}x", flush=True)


def main() -> None:
    """Measure every layer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"torch {torch.__version__}, {capability}, {options.threads} thread(s); in use here: {gains_here()}")
    print(f"{'':52}{'torch':>12}{'ours':>12}")
    for kernel in ((3, 3, 3), (1, 3, 3)):
        for inputs, outputs, size in WIDE:
            wide, x = Conv(inputs, outputs, kernel).to(memory_format=LAST), features(inputs, size)
            winograd = WinogradConv(wide)
            name = f"Winograd {kernel}, {inputs} -> {outputs}, {size}"
            show(name, lambda wide=wide, x=x: wide(x), lambda ours=winograd, x=x: ours(x), options.rounds)
    for channels, kernel, size in NARROW:
        first, x = Conv(channels, 32, kernel).to(memory_format=LAST), features(channels, size)
        narrow = NarrowConv(first)
        name = f"few channels {kernel}, {channels} -> 32, {size}"
        show(name, lambda first=first, x=x: first(x), lambda ours=narrow, x=x: ours(x), options.rounds)
    for classes, size in HEADS:
        head, x = Conv(32, classes, (1, 1, 1)).to(memory_format=LAST), features(32, size)
        point = PointConv(head)
        name = f"head, 32 -> {classes}, {size}"
        show(name, lambda head=head, x=x: head(x).contiguous(), lambda ours=point, x=x: ours(x), options.rounds)
    for inputs, outputs, stride, size in UPS:
        up, x = UpConv(inputs, outputs, stride).to(memory_format=LAST), features(inputs, size)
        matmul = MatmulUpConv(up)
        deep, high, wide_ = (count * step for count, step in zip(size, stride, strict=True))
        skip = features(outputs, (deep, high, wide_))
        name = f"transposed {stride}, {inputs} -> {outputs}, {size}"
        show(
            name,
            lambda up=up, x=x, skip=skip: up.join(x, skip),
            lambda ours=matmul, x=x, skip=skip: ours.join(x, skip),
            options.rounds,
        )


if __name__ == "__main__":
    main()
