"""Peak memory of segmenting a 512 x 512 x 400 volume with 14 classes, besides the network's own window.

The predictor runs in a process of its own, from an int16 array in memory to the label map; so does the network on one
window. Printed: the peak above what there was before (program, network, image), for both, and the difference.

    python benchmarks/big_volume.py [--shape 400 512 512] [--classes 14] [--precision auto]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from measure import Peak, in_own_process, report

from meduniseg_core.images import Geometry, Image
from meduniseg_core.inference import Predictor
from meduniseg_core.model import ModelConfig, build_model
from meduniseg_core.preprocessing import IntensityStatistics, TaskPlan
from meduniseg_core.weights import Model, ModelInfo

PATCH = (64, 192, 192)
FEATURES = (8, 16, 32, 64, 128, 128)
LIMIT_GIB = 6.0


def model(classes: int) -> Model:
    """A narrow network with random weights; the plan resamples 0.7 x 0.7 x 1 mm to 0.8 mm in plane."""
    torch.manual_seed(0)
    plan = TaskPlan(
        task="organs",
        modality="ct",
        dimension=3,
        channels=("CT",),
        classes=tuple(f"organ {n}" for n in range(1, classes)),
        spacing=(1.0, 0.8, 0.8),
        patch=PATCH,
        normalisation=("ct",),
        figures=(IntensityStatistics(mean=0.0, std=300.0, percentile_00_5=-900.0, percentile_99_5=900.0),),
        mirror_axes=(0, 1, 2),
        crop_to_body=False,
    )
    config = ModelConfig(features=FEATURES, classes=classes, stems=(1,), modalities=1, tasks=1)
    info = ModelInfo(name="big", config=config, tasks=(plan,), modalities=("ct",))
    return Model(info=info, network=build_model(config).eval(), sha256="0" * 64)


def volume(shape: tuple[int, int, int]) -> Image:
    """Soft blobs with noise, nowhere air, so that no window is skipped."""
    generator = np.random.default_rng(0)
    coarse = torch.from_numpy(generator.normal(0, 300, (1, 1, 10, 12, 12)).astype(np.float32))
    array = np.empty(shape, dtype=np.int16)
    smooth = torch.nn.functional.interpolate(coarse, size=(shape[0], 64, 64), mode="trilinear")[0, 0]
    for plane, small in zip(array, smooth, strict=True):
        large = torch.nn.functional.interpolate(small[None, None], size=shape[1:], mode="bilinear")[0, 0].numpy()
        plane[:] = np.clip(large + generator.normal(0, 30, shape[1:]), -800, 800)
    return Image(array[None], Geometry(shape, (1.0, 0.7, 0.7)))


def child(arguments: argparse.Namespace) -> None:
    """Measure the whole or the window."""
    predictor = Predictor(model(arguments.classes), device="cpu", precision=arguments.precision)
    if arguments.child == "window":
        network = predictor.engine(predictor.device).for_tasks([0], 0)
        window = torch.zeros(1, 1, *PATCH).to(memory_format=torch.channels_last_3d)
        with torch.inference_mode(), Peak() as peak:
            start = time.perf_counter()
            for _ in network(window, [0]):
                pass
            seconds = time.perf_counter() - start
        report(seconds=seconds, mib=peak.mib)
        return
    image = volume(tuple(arguments.shape))
    estimated = predictor.estimate(image, "organs").bytes / 2**20
    with Peak() as peak:
        start = time.perf_counter()
        result = predictor.segment(image, "organs")["organs"]
        seconds = time.perf_counter() - start
    report(seconds=seconds, mib=peak.mib, classes=len(np.unique(result.labels.array)), estimated=estimated)


def main() -> None:
    """Run both and print the difference; the exit status tells whether it keeps the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=[400, 512, 512], metavar=("D", "H", "W"))
    parser.add_argument("--classes", type=int, default=14, help="background included")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--child", choices=["whole", "window"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    common = [
        *("--shape", *map(str, arguments.shape)),
        *("--classes", str(arguments.classes), "--precision", arguments.precision),
    ]
    window = in_own_process(__file__, [*common, "--child", "window"])
    whole = in_own_process(__file__, [*common, "--child", "whole"])
    besides = (whole["mib"] - window["mib"]) / 2**10
    print(f"one window:       peak {window['mib']:6.0f} MiB, {window['seconds']:.2f} s")
    print(
        f"the whole volume: peak {whole['mib']:6.0f} MiB (estimated before: {whole['estimated']:.0f} MiB), "
        f"{whole['seconds']:.0f} s, {whole['classes']:.0f} classes in the result"
    )
    print(f"besides the window: {besides:.2f} GiB (limit {LIMIT_GIB:.0f})")
    raise SystemExit(besides > LIMIT_GIB)


if __name__ == "__main__":
    main()
