"""UniSeg's original code, narrow and with random weights, wrote these numbers; the import must repeat them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from meduniseg_core.importers.uniseg import Imported, import_uniseg
from meduniseg_core.weights import load_model, save_model

TOLERANCE = 1e-4
CHANNELS = (1, 2, 4)

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def reference(shared_data: Path) -> Path:
    folder = shared_data / "uniseg_reference"
    if not folder.is_dir():
        pytest.skip("shared/data has no uniseg_reference")
    return folder


@pytest.fixture(scope="module")
def imported(reference: Path) -> Imported:
    return import_uniseg(reference / "uniseg_narrow.model")


def test_widths_tasks_and_patch_come_from_the_tensors(imported: Imported) -> None:
    config = imported.info.config
    assert config.features == (4, 8, 16, 32, 40, 40)
    assert config.strides == ((1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert config.stems == CHANNELS
    assert (config.classes, config.modalities, config.tasks, config.task_prompt_channels) == (4, 0, 11, 11)
    assert config.task_prompt_size == (2, 2, 2)
    assert {plan.patch for plan in imported.info.tasks} == {(32, 64, 64)}
    assert imported.info.provenance["epoch"] == 1000


@pytest.mark.parametrize("index", range(3))
def test_logits_of_all_levels_equal_the_reference(
    index: int, imported: Imported, reference: Path, tmp_path: Path
) -> None:
    path = tmp_path / "uniseg.safetensors"
    save_model(path, imported.info, imported.state_dict)
    network = load_model(path).network
    with np.load(reference / "uniseg_narrow.npz") as numbers:
        image = torch.from_numpy(numbers[f"image_{index}"])
        task = torch.tensor([int(numbers[f"task_{index}"])])
        expected = [numbers[f"logits_{index}_level_{level}"] for level in range(5)]
    assert image.shape[1] == CHANNELS[index]
    with torch.inference_mode():
        logits = network(image, task)
    assert len(logits) == len(expected)
    for ours, theirs in zip(logits, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=TOLERANCE)


def test_samples_of_different_tasks_in_one_batch_equal_the_reference(imported: Imported, reference: Path) -> None:
    """The original takes one task per batch; ours one per sample."""
    from meduniseg_core.model import build_model

    network = build_model(imported.info.config).eval()
    network.load_state_dict(imported.state_dict)
    with np.load(reference / "uniseg_narrow.npz") as numbers:
        images = [torch.from_numpy(numbers[f"image_{index}"][0]) for index in range(3)]
        tasks = torch.tensor([int(numbers[f"task_{index}"]) for index in range(3)])
        expected = [numbers[f"logits_{index}_level_0"][0] for index in range(3)]
    with torch.inference_mode():
        logits = network(images, tasks)[0]
    for ours, theirs in zip(logits, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=TOLERANCE)
