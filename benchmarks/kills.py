"""kill -9 of the training process, of a batch and of napari, at random moments: what is left must be whole, and go on.

    xvfb-run -a -s "-screen 0 1280x800x24" python benchmarks/kills.py [--kills 20] [--seed 0]

napari: a viewer whose user accepts corrections without a pause is killed; every acceptance that was confirmed on screen
must be in the ledger, with image and labels as they were, and the next acceptance must work. Fine-tuning:
`training_kills.py`. Preprocessing, and training in two processes: `run_kills.py`. Batch, and two programs on one output
folder: `batch_kills.py`. Runs with a manifest, and a full disk: `archive_kills.py`. Acceptances and installations of
models, and two programs on one ledger: `store_kills.py`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from archive_kills import fill_disk, kill_archive
from batch_kills import kill_batch, two_programs
from run_kills import kill_preprocessing, kill_together
from store_kills import kill_install, kill_ledger, two_on_one_ledger
from training_kills import kill_training

from meduniseg_core.corrections import Ledger
from meduniseg_core.images import Geometry, Image, read_image, read_labels
from meduniseg_core.model import ModelConfig, build_model
from meduniseg_core.preprocessing import TaskPlan
from meduniseg_core.weights import ModelInfo, Registry, save_model

SHAPE = (16, 32, 32)
CHOICES = ("training", "preprocessing", "together", "napari", "batch", "archive", "ledger", "install")


def main() -> None:
    """Kill, look, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=CHOICES)
    parser.add_argument("--annotate", metavar="LEDGER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.annotate:
        annotate(Path(arguments.annotate))
        return
    rng = np.random.default_rng(arguments.seed)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDUNISEG_HOME"] = folder
        home = Path(folder)
        if arguments.only in (None, "batch"):
            save_base(home)
            print(kill_batch(home, home / "base.safetensors", arguments.kills, rng), flush=True)
            print(two_programs(home, home / "base.safetensors", 5), flush=True)
        if arguments.only in (None, "archive"):
            save_base(home)
            print(kill_archive(home, home / "base.safetensors", arguments.kills, rng), flush=True)
            print(fill_disk(home, home / "base.safetensors"), flush=True)
        if arguments.only in (None, "ledger"):
            ledger = new_ledger(home / "corrections" / "killed")
            print(kill_ledger(ledger, ball, arguments.kills, rng), flush=True)
            print(two_on_one_ledger(ledger, ball, 10), flush=True)
        if arguments.only in (None, "install"):
            save_base(home)
            print(kill_install(home, home / "base.safetensors", arguments.kills, rng), flush=True)
        if arguments.only in (None, "training"):
            ledger = new_ledger(home / "corrections" / "ball")
            for seed in range(5):
                ledger.accept(*ball(seed))
            save_base(home)
            print(kill_training(ledger.folder, arguments.kills, rng), flush=True)
        if arguments.only in (None, "preprocessing"):
            print(kill_preprocessing(home, ball, arguments.kills, rng), flush=True)
        if arguments.only in (None, "together"):
            print(kill_together(home, ball, arguments.kills, rng), flush=True)
        if arguments.only in (None, "napari"):
            print(kill_napari(home, arguments.kills, rng), flush=True)


def ball(seed: int) -> tuple[Image, Image]:
    """A bright ball in noise, and its label map."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    centre = rng.uniform((6, 12, 12), (10, 20, 20))
    inside = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < 25
    image = Image((rng.normal(size=SHAPE) + 6 * inside).astype(np.float32)[None], Geometry(SHAPE, (2.0, 2.0, 2.0)))
    return image, image.with_array(inside[None].astype(np.uint8))


def new_ledger(folder: Path) -> Ledger:
    """An empty ledger of balls."""
    return Ledger.create(folder, task="ball", modality="mri", classes=["ball"], channels=["MRI"])


def kill_napari(home: Path, kills: int, rng: np.random.Generator) -> str:
    """A viewer that accepts without a pause, killed ``kills`` times."""
    folder = home / "corrections" / "annotated"
    new_ledger(folder)
    confirmed = written = 0
    for _ in range(kills):
        command = [sys.executable, str(Path(__file__).resolve()), "--annotate", str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        first = process.stdout.readline()  # the viewer is up and has accepted once
        assert first, "the viewer did not come up"
        time.sleep(float(rng.uniform(0.0, 2.0)))
        process.kill()
        lines = [first, *process.stdout.readlines()]
        process.wait()
        ledger = Ledger.open(folder)
        entries = ledger.entries()
        names = [line.split()[1] for line in lines if line.endswith("\n")]
        confirmed += len(names)
        known = {entry.case for entry in entries}
        assert set(names) <= known, "a confirmed acceptance is missing"
        for case in ledger.dataset.cases("Tr"):
            entry = ledger.cases()[case.case]
            assert case.label is not None
            assert read_image(case.images).sha256 == entry.image_sha256
            assert read_labels(case.label).sha256 == entry.labels_sha256
        assert len(ledger.dataset.cases("Tr")) == len(known)
        written = len(entries)
    return (
        f"napari killed {kills} times while accepting: {confirmed} acceptances confirmed on screen, {written} in the "
        "ledger, every image and label map as its line says"
    )


def annotate(folder: Path) -> None:
    """A user who accepts one correction after the other in a real viewer; prints what was confirmed."""
    import napari
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer()
    _, edit = viewer.window.add_plugin_dock_widget("napari-meduniseg", "Edit")
    accepting = edit.accepting

    def wait() -> None:
        while accepting.busy:
            QApplication.processEvents()
            time.sleep(0.005)

    wait()
    seed = len(Ledger.open(folder).entries())
    while True:
        image, labels = ball(seed % 30)  # the same image again, now and then
        viewer.layers.clear()
        viewer.add_image(image.array[0], name=f"ball{seed % 30}", scale=(2, 2, 2), units="mm")
        features = {"index": [0, 1], "name": ["background", "ball"]}
        drawn = labels.array[0].copy()
        drawn[0, 0, seed % 32] = 1
        viewer.add_labels(drawn, name="drawn", scale=(2, 2, 2), units="mm", features=features)
        accepting.collection.choose_folder(folder)
        wait()
        accepting.accept()
        wait()
        said = accepting.said.text()
        assert said.startswith("Accepted as "), said
        print("accepted", said.removeprefix("Accepted as ").split(",")[0], flush=True)
        seed += 1


def save_base(home: Path) -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        features=(4, 4, 4), strides=((1, 2, 2), (2, 2, 2)), classes=2, modalities=1, modal_prompt_length=8, tasks=1,
        task_prompt_channels=4, task_prompt_size=(2, 2, 2),
    )  # fmt: skip
    plan = TaskPlan(
        task="ball", modality="mri", dimension=3, channels=("MRI",), classes=("ball",), spacing=(2.0, 2.0, 2.0),
        patch=(8, 16, 16), normalisation=("zscore",), figures=(None,), crop_to_body=False,
    )  # fmt: skip
    info = ModelInfo(name="base", config=config, tasks=(plan,), modalities=("mri",))
    save_model(home / "base.safetensors", info, build_model(config).state_dict())
    Registry().import_file(home / "base.safetensors")


if __name__ == "__main__":
    main()
