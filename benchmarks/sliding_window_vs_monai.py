"""Our sliding window against MONAI's SlidingWindowInferer: same network, window, overlap, batch and precision.

Both end with the label map of one volume and run in processes of their own, in turns. Printed: time (best of the
rounds) and peak memory above what there was before (network and image), and their ratios; below 1 we are ahead.

    python benchmarks/sliding_window_vs_monai.py [--shape 96 256 256] [--classes 14] [--precision fp32]
"""

from __future__ import annotations

import argparse
import time

import torch
from measure import Peak, in_own_process, report

from meduniseg_core.inference.sliding_window import Output, SlidingWindow
from meduniseg_core.inference.windows import WindowGrid, window_shape
from meduniseg_core.model import MedUniSeg, ModelConfig, build_model, optimised_for, resolve_precision

CPU = torch.device("cpu")
FEATURES = (16, 32, 64, 128, 160, 160)
PATCH = (64, 192, 192)
OVERLAP = 0.5


class Labels:
    """A sink that keeps the strongest class, plane by plane."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.labels = torch.zeros(shape, dtype=torch.uint8)

    def write(self, first: int, logits: torch.Tensor) -> None:
        from meduniseg_core.inference.export import strongest

        for offset in range(logits.shape[1]):
            self.labels[first + offset] = strongest(logits[:, offset])


def network(classes: int, dtype: torch.dtype) -> MedUniSeg:
    """A network of half the paper's width with random weights."""
    torch.manual_seed(0)
    config = ModelConfig(features=FEATURES, classes=classes, stems=(1,), modalities=1, tasks=1)
    return optimised_for(build_model(config), CPU, dtype)


@torch.inference_mode()
def ours(net: MedUniSeg, image: torch.Tensor, window: tuple[int, int, int], classes: int) -> torch.Tensor:
    """Labels by our sliding window."""
    zero = torch.zeros(1, dtype=torch.int64)

    def run(images: torch.Tensor, _outputs: object) -> list[torch.Tensor]:
        return [net(images, zero, zero, 1)[0]]

    d, h, w = image.shape[1:]
    sink = Labels((d, h, w))
    SlidingWindow().run(image, WindowGrid.over((d, h, w), window, OVERLAP), run, [Output(classes, sink)])
    return sink.labels


@torch.inference_mode()
def monais(net: MedUniSeg, image: torch.Tensor, window: tuple[int, int, int]) -> torch.Tensor:
    """Labels by MONAI's inferer, at its documented settings for blending."""
    from monai.inferers import SlidingWindowInferer

    zero = torch.zeros(1, dtype=torch.int64)
    inferer = SlidingWindowInferer(window, sw_batch_size=1, overlap=OVERLAP, mode="gaussian")
    logits = inferer(image[None], lambda images: net(images, zero, zero, 1)[0].float())
    return logits[0].argmax(dim=0).to(torch.uint8)


def child(arguments: argparse.Namespace) -> None:
    """Measure one of the two."""
    dtype = resolve_precision(arguments.precision, CPU)
    net = network(arguments.classes, dtype)
    shape = tuple(arguments.shape)
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    window = window_shape((shape[0], shape[1], shape[2]), PATCH, net.config.total_stride)
    zero = torch.zeros(1, dtype=torch.int64)
    with torch.inference_mode():
        net(torch.zeros(1, 1, 32, 64, 64), zero, zero, 1)  # warm up the libraries, not the memory
    if arguments.child == "monai":
        import monai.inferers  # noqa: F401  (not part of the time)
    with Peak() as peak:
        start = time.perf_counter()
        if arguments.child == "network":
            with torch.inference_mode():
                for _ in range(len(WindowGrid.over((shape[0], shape[1], shape[2]), window, OVERLAP))):
                    net(image[None, :, : window[0], : window[1], : window[2]], zero, zero, 1)
            labels = torch.zeros(1)
        elif arguments.child == "ours":
            labels = ours(net, image, window, arguments.classes)
        else:
            labels = monais(net, image, window)
        seconds = time.perf_counter() - start
    report(seconds=seconds, mib=peak.mib, checksum=float(labels.float().mean()))


def main() -> None:
    """Run all in turns and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=[96, 256, 256], metavar=("D", "H", "W"))
    parser.add_argument("--classes", type=int, default=14)
    parser.add_argument("--precision", default="fp32", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--child", choices=["ours", "monai", "network"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    common = [
        *("--shape", *map(str, arguments.shape)),
        *("--classes", str(arguments.classes), "--precision", arguments.precision),
    ]
    best: dict[str, dict[str, float]] = {}
    for _ in range(arguments.rounds):
        for who in ("network", "ours", "monai"):
            result = in_own_process(__file__, [*common, "--child", who])
            if who not in best or result["seconds"] < best[who]["seconds"]:
                best[who] = result
    for who, label in (("network", "the windows alone"), ("ours", "ours"), ("monai", "MONAI")):
        print(f"{label:18} {best[who]['seconds']:7.2f} s   peak {best[who]['mib']:6.0f} MiB")
    time_ratio = best["ours"]["seconds"] / best["monai"]["seconds"]
    memory_ratio = best["ours"]["mib"] / best["monai"]["mib"]
    print(f"ours / MONAI: time {time_ratio:.2f}, memory {memory_ratio:.2f} (below 1: ours ahead)")


if __name__ == "__main__":
    main()
