"""One process that works all day: 500 segmentations, 100 times edit, undo, save. Memory, handles and threads stay flat.

    python benchmarks/soak.py [--segmentations 500] [--edits 100]

Segments a small volume with the starter by way of the plugin's own path (layer, order, result layer), and checks that
every answer is bit for bit the first one. Prints one line per tenth of the work; exit code 1 where something grew.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from napari.components import ViewerModel

from meduniseg_core.events import CancelToken, ignore
from meduniseg_core.images import Geometry, Image, read_labels, write_image
from napari_meduniseg._editing import Rule, apply, operation
from napari_meduniseg._reader import read
from napari_meduniseg._result_layers import add_results
from napari_meduniseg._segmentation_job import Predictors, SegmentChoice, prepare_job, run_job
from napari_meduniseg._writer import write_labels_layer

MEMORY_MB, HANDLES, THREADS = 60, 3, 2
"""What the last tenth may have more than the second (the first fills caches)."""


def main() -> int:
    """Run both loops and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segmentations", type=int, default=500)
    parser.add_argument("--edits", type=int, default=100)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nii.gz"
        write_volume(path)
        first = loop("segmentations", chosen.segmentations, segmenting(path))
        second = loop("edit, undo, save", chosen.edits, editing(path, Path(folder) / "labels.nii.gz"))
    return 0 if first and second else 1


def write_volume(path: Path) -> None:
    """An MR-like volume that the starter's hippocampus task takes: a bright ball in noise."""
    z, y, x = np.mgrid[:32, :48, :40]
    ball = ((z - 16) ** 2 + (y - 24) ** 2 + (x - 20) ** 2 < 81) * 400.0
    array = (np.random.default_rng(0).normal(300, 40, ball.shape) + ball).astype(np.float32)
    write_image(Image(array[None], Geometry(ball.shape, (1.0, 1.0, 1.0))), path)


def segmenting(path: Path):  # type: ignore[no-untyped-def]
    """What is done again and again: a layer in, a result layer out and removed; its answer as a hash."""
    viewer = ViewerModel()
    (data, options, _) = read(str(path))[0]
    image = viewer.add_image(data, **options)
    predictors = Predictors()

    def once() -> str:
        order = prepare_job(SegmentChoice((image,), ("hippocampus",), model="starter"), viewer)
        outcome = run_job(order, predictors, ignore, CancelToken())
        (labels,) = add_results(order, outcome, viewer)
        digest = hashlib.sha256(np.ascontiguousarray(labels.data)).hexdigest()
        viewer.layers.remove(labels)
        return digest

    return once


def editing(path: Path, target: Path):  # type: ignore[no-untyped-def]
    """A stroke, an operation, all undone, a stroke again, saved and read back; then as at the start."""
    viewer = ViewerModel()
    (data, options, _) = read(str(path))[0]
    image = viewer.add_image(data, **options)
    labels = viewer.add_labels(
        (np.asarray(image.data) > 550).astype(np.uint8), scale=image.scale, translate=image.translate, units=image.units
    )
    labels.selected_label = 1

    def once() -> str:
        begun = np.array(labels.data)
        labels.paint((16, 24, 20), 1)
        apply(labels, operation("grow", labels, Rule(), viewer, 2.0)())
        apply(labels, operation("fill_holes", labels, Rule(), viewer, 2.0)())
        for _ in range(4):
            labels.undo()
        assert np.array_equal(labels.data, begun), "undo is not exact"
        labels.paint((8, 10, 10), 1)
        layer_data, attributes, _ = labels.as_layer_data_tuple()
        write_labels_layer(str(target), layer_data, attributes)
        digest = hashlib.sha256(read_labels(target).array.tobytes()).hexdigest()
        labels.undo()
        assert np.array_equal(labels.data, begun), "undo is not exact"
        return digest

    return once


def loop(title: str, count: int, once) -> bool:  # type: ignore[no-untyped-def]
    """Do it ``count`` times; whether results are identical and nothing grew."""
    process, began, answers, seen = psutil.Process(), time.monotonic(), set(), []
    print(f"{title}: {count} times\n  {'done':>5} {'MB':>8} {'handles':>8} {'threads':>8} {'seconds':>8}")
    for number in range(1, count + 1):
        answers.add(once())
        if number % max(1, count // 10) == 0:
            gc.collect()
            handles = process.num_handles() if os.name == "nt" else process.num_fds()
            seen.append((process.memory_info().rss / 2**20, handles, process.num_threads()))
            figures = "{:>8.1f} {:>8} {:>8}".format(*seen[-1])
            print(f"  {number:>5} {figures} {time.monotonic() - began:>8.1f}", flush=True)
    grown = [last - early for early, last in zip(seen[1], seen[-1], strict=True)]
    flat = grown[0] <= MEMORY_MB and grown[1] <= HANDLES and grown[2] <= THREADS
    same = "identical answers" if len(answers) == 1 else f"{len(answers)} DIFFERENT answers"
    print(f"  {same}; since the second tenth {grown[0]:+.1f} MB, {grown[1]:+d} handles, "
          f"{grown[2]:+d} threads (Python's: {threading.active_count()}): {'flat' if flat else 'GREW'}")  # fmt: skip
    return flat and len(answers) == 1


if __name__ == "__main__":
    sys.exit(main())
