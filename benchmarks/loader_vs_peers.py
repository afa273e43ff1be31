"""Patches per second and core: this program's loader, nnU-Net's (batchgeneratorsv2) and MONAI's, on the same arrays.

    python benchmarks/loader_vs_peers.py --peer ENVIRONMENT/bin/python [--patches 40] [--turns 3]

ENVIRONMENT is nnU-Net's (benchmarks/peers/nnunet/README.md). Each side reads patches of the paper's sizes from
memory-mapped arrays and augments them as nnU-Net does (the paper's recipe; MONAI's transforms of the same kinds, with
the same probabilities and ranges), in turns, one thread each. The process's own time counts, so that other programs
matter little. Then: how many patches named GPUs would consume (`gpus.py`), and how many cores of each side feed one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SIDES = ("ours", "device", "batchgeneratorsv2", "MONAI")
NAMES = {
    "ours": "ours",
    "device": "ours, the rest on the GPU",
    "batchgeneratorsv2": "batchgeneratorsv2",
    "MONAI": "MONAI",
}
PATCHES = {3: (64, 192, 192), 2: (1, 512, 512)}
SHAPES = {3: (1, 110, 260, 260), 2: (3, 1, 512, 560)}  # of the images: a CT on the paper's grid, a photograph
Draw = Callable[[np.random.Generator], object]


def main() -> None:
    """Measure in turns, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the python of nnU-Net's environment; without it, ours alone")
    parser.add_argument("--patches", type=int, default=40, help="of each kind and turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        measure(arguments.side, arguments.folder, arguments.patches)
        return
    sides = SIDES if arguments.peer else SIDES[:2]
    found: dict[tuple[str, int], list[float]] = {(side, dimension): [] for side in sides for dimension in PATCHES}
    with tempfile.TemporaryDirectory() as scratch:
        write_images(Path(scratch))
        for _ in range(arguments.turns):
            for side in sides:
                python = arguments.peer if side == "batchgeneratorsv2" else sys.executable
                for dimension, rate in answers(python, side, Path(scratch), arguments.patches).items():
                    found[side, dimension].append(rate)
    report({key: statistics.median(rates) for key, rates in found.items()}, sides)


def answers(python: str, side: str, folder: Path, patches: int) -> dict[int, float]:
    """What a side measures, in a process of its own."""
    command = [
        python,
        str(Path(__file__).resolve()),
        "--side",
        side,
        "--folder",
        str(folder),
        "--patches",
        str(patches),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return {int(dimension): rate for dimension, rate in json.loads(line).items()}


def write_images(folder: Path) -> None:
    """One image and label map of each kind, as they lie in a cache."""
    rng = np.random.default_rng(0)
    for dimension, shape in SHAPES.items():
        np.save(folder / f"image{dimension}.npy", rng.normal(size=shape).astype(np.float16))
        np.save(folder / f"labels{dimension}.npy", rng.integers(0, 3, shape[1:]).astype(np.uint8))


def measure(side: str, folder: Path, patches: int) -> None:
    """Print patches per second of this process's own time, for volumes and pictures."""
    import torch

    torch.set_num_threads(1)
    make = {"ours": ours, "device": ours_drawn, "batchgeneratorsv2": batchgenerators, "MONAI": monai_pipeline}[side]
    rates = {}
    for dimension in PATCHES:
        image = np.load(folder / f"image{dimension}.npy", mmap_mode="r")
        labels = np.load(folder / f"labels{dimension}.npy", mmap_mode="r")
        draw, rng = make(image, labels, dimension), np.random.default_rng(1)
        torch.manual_seed(1)
        np.random.seed(1)  # batchgenerators draws from it
        for _ in range(min(5, patches)):
            draw(rng)
        began = time.process_time()
        for _ in range(patches):
            draw(rng)
        rates[dimension] = patches / (time.process_time() - began)
    print(json.dumps(rates))


def centre_in(shape: tuple[int, ...], patch: tuple[int, ...], rng: np.random.Generator) -> list[int]:
    """Any centre whose patch stays inside the image."""
    return [
        int(rng.integers(min(p // 2, s // 2), max(s - (p - p // 2), s // 2) + 1))
        for p, s in zip(patch, shape, strict=True)
    ]


def ours(image: np.ndarray, labels: np.ndarray, dimension: int) -> Draw:
    """This program's worker."""
    from meduniseg_core.training.augmentation import AugmentationConfig, sample_maps

    config, patch = AugmentationConfig(presets="none"), PATCHES[dimension]
    axes = (0, 1, 2) if dimension == 3 else (1, 2)
    return lambda rng: sample_maps(image, (labels,), centre_in(labels.shape, patch, rng), patch, axes, rng, config)


def ours_drawn(image: np.ndarray, labels: np.ndarray, dimension: int) -> Draw:
    """This program's worker where the GPU augments: it draws and reads."""
    from meduniseg_core.training.augmentation import AugmentationConfig, draw_sample

    config, patch = AugmentationConfig(presets="none"), PATCHES[dimension]
    axes = (0, 1, 2) if dimension == 3 else (1, 2)
    return lambda rng: draw_sample(image, (labels,), centre_in(labels.shape, patch, rng), patch, axes, rng, config)


def batchgenerators(image: np.ndarray, labels: np.ndarray, dimension: int) -> Draw:
    """nnU-Net's loader: a larger patch, padded where the image ends, through its trainer's transforms."""
    import torch
    from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    patch = PATCHES[dimension][3 - dimension :]
    angle = np.deg2rad(30.0 if dimension == 3 else 180.0)
    read = [int(size) for size in get_patch_size(patch, *((-angle, angle),) * 3, (0.85, 1.25))]
    transforms = nnUNetTrainer.get_training_transforms(
        patch, (-angle, angle), None, tuple(range(dimension)), do_dummy_2d_data_aug=False
    )
    read = read if dimension == 3 else [1, *read]

    def draw(rng: np.random.Generator) -> object:
        centre = centre_in(labels.shape, PATCHES[dimension], rng)
        box = [[c - size // 2, c - size // 2 + size] for c, size in zip(centre, read, strict=True)]
        data = torch.from_numpy(crop_and_pad_nd(image, box, 0)).float()
        seg = torch.from_numpy(crop_and_pad_nd(labels[None], box, -1, cast_cropped_to=np.int16)).to(torch.int16)
        if dimension == 2:
            data, seg = data[:, 0], seg[:, 0]
        with torch.no_grad():
            return transforms(image=data, segmentation=seg)

    return draw


def monai_pipeline(image: np.ndarray, labels: np.ndarray, dimension: int) -> Draw:
    """MONAI's transforms of the same kinds, on a patch that is cropped first."""
    import torch
    from monai import transforms as monai

    patch = PATCHES[dimension][3 - dimension :]
    angle = np.deg2rad(30.0 if dimension == 3 else 180.0)
    turn = (angle,) * 3 if dimension == 3 else angle
    both, modes = ["image", "labels"], ["bilinear", "nearest"]

    def affine(**what: object) -> object:
        return monai.RandAffined(both, prob=0.2, mode=modes, padding_mode="zeros", cache_grid=True, **what)

    pipeline = monai.Compose(
        [
            monai.SpatialPadd(both, patch),
            monai.RandSpatialCropd(both, patch, random_size=False),
            affine(spatial_size=patch, rotate_range=turn),
            affine(spatial_size=patch, scale_range=((-0.3, 0.4),) * dimension),
            monai.RandGaussianNoised("image", prob=0.1, std=0.1),
            monai.RandGaussianSmoothd(
                "image", prob=0.2, **dict.fromkeys(("sigma_x", "sigma_y", "sigma_z"), (0.5, 1.0))
            ),
            monai.RandScaleIntensityd("image", prob=0.15, factors=0.25),
            monai.RandAdjustContrastd("image", prob=0.15, gamma=(0.75, 1.25)),
            monai.RandSimulateLowResolutiond(
                "image", prob=0.25, zoom_range=(0.5, 1.0), upsample_mode="trilinear" if dimension == 3 else "bilinear"
            ),
            monai.RandAdjustContrastd("image", prob=0.1, gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
            monai.RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
            *(monai.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(dimension)),
        ]
    )
    flat = 0 if dimension == 3 else 1
    pipeline.set_random_state(1)

    def draw(_: np.random.Generator) -> object:
        # a crop of a memory map reads what it needs; MONAI's own reads a whole array
        shape = labels.shape
        low = [int(pipeline.R.randint(0, max(1, s - p + 1))) for s, p in zip(shape, PATCHES[dimension], strict=True)]
        box = tuple(slice(a, a + size) for a, size in zip(low, PATCHES[dimension], strict=True))
        data = torch.from_numpy(np.ascontiguousarray(image[(slice(None), *box)])).float()
        seg = torch.from_numpy(np.ascontiguousarray(labels[box]))[None]
        if flat:
            data, seg = data[:, 0], seg[:, 0]
        return pipeline({"image": data, "labels": seg})

    return draw


def report(rates: dict[tuple[str, int], float], sides: tuple[str, ...]) -> None:
    """Print what was measured, and what GPUs would consume."""
    from gpus import GPUS, HOPED_SHARE, MEASURED_SHARE
    from training_cost import counted, kinds

    print("Patches per second of one core:\n\n| loader | 3D, 64x192x192 | 2D, 512x512 |\n| --- | --- | --- |")
    for side in sides:
        print(f"| {NAMES[side]} | {rates[side, 3]:.2f} | {rates[side, 2]:.2f} |")
    if len(sides) > 2:
        for side in sides[2:]:
            ratios = ", ".join(f"{d}D {rates['ours', d] / rates[side, d]:.1f} times" for d in PATCHES)
            print(f"\nOurs on the CPU against {NAMES[side]}: {ratios}.")
    shares = f"{MEASURED_SHARE:.0%} (measured once) / {HOPED_SHARE:.0%} of its peak"
    print(f"\nA GPU consumes, at {shares}, so many patches a second; so many cores feed it at the latter:\n")
    print(f"| GPU | 3D | 2D | {' | '.join(f'cores 3D, 2D: {NAMES[side]}' for side in sides)} |")
    print("| --- | --- | --- |" + " --- |" * len(sides))
    need = {int(kind.name[0]): (kind.shape[0], counted(kind)) for kind in kinds()}
    for gpu in GPUS:
        eaten = {
            (d, share): batch / (operations / (gpu.peak * 1e12 * share))
            for d, (batch, operations) in need.items()
            for share in (MEASURED_SHARE, HOPED_SHARE)
        }
        cells = [f"{eaten[d, MEASURED_SHARE]:.1f} / {eaten[d, HOPED_SHARE]:.1f}" for d in PATCHES]
        cores = [", ".join(f"{eaten[d, HOPED_SHARE] / rates[s, d]:.1f}" for d in PATCHES) for s in sides]
        print(f"| {gpu.name} | {' | '.join([*cells, *cores])} |")


if __name__ == "__main__":
    main()
