"""What must hold on every device. `MEDUNISEG_TEST_DEVICE=cuda` runs it on an accelerator, else on the CPU."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from meduniseg_core.errors import CancelledError
from meduniseg_core.events import Event, Message
from meduniseg_core.images import Geometry, Image
from meduniseg_core.inference import Predictor
from meduniseg_core.training import NetworkSettings, PlanSettings, TrainingConfig, train
from meduniseg_core.training.packed import unpack
from meduniseg_core.weights import load_model
from tests.stopping import StopAfter

DEVICE = os.environ.get("MEDUNISEG_TEST_DEVICE", "cpu")
on_cuda = pytest.mark.skipif(not DEVICE.startswith("cuda"), reason="needs CUDA (MEDUNISEG_TEST_DEVICE=cuda)")


def photograph(size: int = 200) -> Image:
    """A reddish disc with a bright spot on black: what a fundus photograph looks like from afar."""
    rows, columns = np.mgrid[:size, :size]
    disc = ((rows - size / 2) ** 2 + (columns - size / 2) ** 2) < (0.47 * size) ** 2
    spot = np.exp(-((rows - size / 2) ** 2 + (columns - 0.65 * size) ** 2) / (0.05 * size) ** 2)
    array = np.stack([disc * 150 + 90 * spot, disc * 60 + 120 * spot, disc * 30 + 60 * spot])
    array = array + np.random.default_rng(0).normal(0, 4, array.shape)
    pixels = np.clip(array, 0, 255).astype(np.uint8)[:, None]
    return Image(pixels, Geometry((1, size, size), (1.0, 1.0, 1.0)), physical=False, meta={"colour": "rgb"})


def volume() -> Image:
    """Two soft blobs in noise, 1 mm voxels."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (40, 56, 44)), indexing="ij")).astype(float)
    blobs = sum(
        np.exp(-(((grid - np.array(c).reshape(3, 1, 1, 1)) / 8) ** 2).sum(0)) for c in ((20, 24, 22), (20, 38, 22))
    )
    array = 300 * blobs + 100 + np.random.default_rng(1).normal(0, 10, blobs.shape)
    return Image(array[None].astype(np.float32), Geometry((40, 56, 44), (1.0, 1.0, 1.0)))


def probabilities(image: Image, task: str, device: str, precision: str) -> np.ndarray:
    result = Predictor(load_model("starter"), device=device, precision=precision).segment(
        image, task, probabilities=True
    )[task]
    assert result.probabilities is not None
    return np.asarray(result.probabilities.array, dtype=np.float32)


@pytest.mark.parametrize(("image", "task"), [(photograph(), "disc_cup"), (volume(), "hippocampus")])
def test_the_predictor_gives_what_the_cpu_gives(image: Image, task: str) -> None:
    apart = np.abs(probabilities(image, task, DEVICE, "fp32") - probabilities(image, task, "cpu", "fp32"))
    assert float(np.quantile(apart, 0.999)) < 2e-2  # TF32, other orders of sums; stored as float16
    assert float(apart.mean()) < 1e-3


@pytest.mark.parametrize("precision", ["bf16", pytest.param("fp16", marks=on_cuda)])
def test_lower_precision_gives_nearly_the_same_labels(precision: str) -> None:
    low = probabilities(photograph(), "disc_cup", DEVICE, precision).argmax(0)
    full = probabilities(photograph(), "disc_cup", DEVICE, "fp32").argmax(0)
    assert float((low == full).mean()) > 0.99


@on_cuda
def test_too_little_memory_on_the_device_leads_down_the_ladder_to_the_same_result() -> None:
    image = volume()
    expected = probabilities(image, "hippocampus", DEVICE, "fp32").argmax(0)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(0) + (24 << 20)) / total, 0)
    try:
        heard: list[Event] = []
        # the estimate is told that there is room: the device itself has to refuse
        predictor = Predictor(load_model("starter"), device=DEVICE, precision="fp32", free=lambda _device: 1 << 40)
        found = predictor.segment(image, "hippocampus", events=heard.append)["hippocampus"]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)
    assert found.execution != "cuda, 4 windows at a time"
    assert any(isinstance(event, Message) and "memory" in event.text for event in heard)
    assert float((found.labels.array[0] == expected).mean()) > 0.98


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[TrainingConfig]:
    """A run of seconds."""
    folder = tmp_path / "Dataset001_Discs"
    generator = np.random.default_rng(1)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for index in range(4):
        rows, columns = np.mgrid[:48, :56]
        mask = (rows - 24) ** 2 + (columns - generator.uniform(20, 36)) ** 2 < 100
        image = (generator.normal(60, 10, mask.shape) + 80 * mask).clip(0, 255)
        Picture.fromarray(image.astype(np.uint8)).save(folder / "imagesTr" / f"disc_{index}_0000.png")
        Picture.fromarray(mask.astype(np.uint8)).save(folder / "labelsTr" / f"disc_{index}.png")
    content = {
        "channel_names": {"0": "ultrasound"},
        "labels": {"background": 0, "disc": 1},
        "file_ending": ".png",
        "modality": "ultrasound",
        "task": "disc",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    yield TrainingConfig(
        name="tiny",
        datasets=(folder,),
        output=tmp_path / "run",
        cache=tmp_path / "cache",
        network=NetworkSettings(features=(4, 6, 8, 8, 8, 8), task_prompt_channels=4, modal_prompt_length=16),
        plan_2d=PlanSettings(patch=(1, 32, 32), batch=3, longest_side=56),
        epochs=3,
        iterations_per_dataset=3,
        validation_fraction=0.0,
        precision="fp32",
        device=DEVICE,
        select="last",
        average_decay=0.9,
    )


def test_a_run_trains_stops_and_goes_on(tiny: TrainingConfig) -> None:
    whole = train(tiny)
    token = StopAfter(5)
    halved = tiny.model_copy(update={"output": tiny.output.parent / "halved"})
    with pytest.raises(CancelledError):
        train(halved, events=token.listen, cancel=token)
    resumed = train(halved, resume=True)
    first, second = (load_model(result.model).network.state_dict() for result in (whole, resumed))
    tolerance = 0.0 if DEVICE == "cpu" else 1e-2
    assert all(torch.allclose(first[name], second[name], rtol=0, atol=tolerance) for name in first)


@pytest.mark.skipif("MEDUNISEG_TEST_PACK" not in os.environ, reason="needs a packed run (MEDUNISEG_TEST_PACK)")
def test_a_packed_run_is_unpacked(tmp_path: Path) -> None:
    prepared = unpack(Path(os.environ["MEDUNISEG_TEST_PACK"]), tmp_path)
    assert prepared.tasks and all(task.train for task in prepared.tasks)
