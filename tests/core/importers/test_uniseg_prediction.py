"""From file to label file: an imported UniSeg against what its own program does, also where images are small."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from test_uniseg_import import save_checkpoint, uniseg_state
from uniseg_original import predict

from meduniseg_core.images import read_image
from meduniseg_core.importers.uniseg import Imported, import_uniseg
from meduniseg_core.inference import Predictor
from meduniseg_core.model import build_model
from meduniseg_core.weights import Model

PATCH = (32, 64, 64)
AGREEMENT = 0.995

AXIAL = np.eye(3)
FLIPPED = np.diag([-1.0, -1.0, 1.0])
SAGITTAL = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    """A narrow UniSeg of random weights with a small patch."""
    state = uniseg_state(features=(4, 6, 8, 8, 8, 8))
    state["intermedia_prompt"] = torch.randn(1, 11, 2, 2, 2, generator=torch.Generator().manual_seed(5))
    return import_uniseg(save_checkpoint(tmp_path_factory.mktemp("uniseg") / "narrow.model", state))


@pytest.fixture(scope="module")
def model(imported: Imported) -> Model:
    network = build_model(imported.info.config)
    network.load_state_dict(imported.state_dict)
    return Model(imported.info, network.eval(), "0" * 64)


@cache
def body(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """HU of something with organs: smooth values in an ellipsoid, within nothing (0) at the border."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(0, 250, (1, 1, 6, 7, 7)).astype(np.float32))
    values = torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear")[0, 0].numpy()
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    values = np.where(z**2 / 2 + y**2 + x**2 < 0.9, values + rng.normal(0, 15, shape), -1000)
    values[:, :3], values[:, :, -5:] = 0, 0
    return values.round().astype(np.int16)


def write(folder: Path, arrays: list[np.ndarray], spacing: tuple[float, float, float], axes: np.ndarray) -> list[Path]:
    files = []
    for channel, array in enumerate(arrays):
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing(spacing[::-1])
        image.SetOrigin((-40.0, 12.0, 7.0))
        image.SetDirection(axes.flatten().tolist())
        files.append(folder / f"case_{channel:04}.nii.gz")
        SimpleITK.WriteImage(image, str(files[-1]))
    return files


def original(model: Model, task: str, files: list[Path], ct: list[bool], mirror: bool = False) -> np.ndarray:
    plan = model.info.plan_of(task)
    position = torch.tensor([model.info.task_index(task)])

    def network(window: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model.network(torch.from_numpy(window)[None], position, levels=1)[0][0].numpy()  # type: ignore[arg-type]

    assert plan.spacing is not None
    return predict(files, network, classes=plan.class_count, spacing=plan.spacing, patch=PATCH, ct=ct, mirror=mirror)


def agreement(
    model: Model, task: str, files: list[Path], ct: list[bool], folder: Path, mirror: bool = False
) -> tuple[float, float]:
    """Of all voxels, and of those that are foreground in either."""
    expected = original(model, task, files, ct, mirror)
    result = Predictor(model, "cpu", "fp32").segment(read_image(files), task, tta=mirror)[task]
    result.save(folder / "ours.nii.gz")
    ours = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder / "ours.nii.gz")))
    assert ours.shape == expected.shape
    foreground = (ours > 0) | (expected > 0)
    assert 0.02 < foreground.mean() < 0.98
    return float((ours == expected).mean()), float((ours == expected)[foreground].mean())


@pytest.mark.parametrize("axes", [AXIAL, FLIPPED, SAGITTAL], ids=["axial", "flipped", "sagittal"])
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((54, 116, 60), (2.0, 0.9, 0.9)),  # larger than the patch
        ((14, 124, 90), (5.0, 0.8, 0.8)),  # slices apart; smaller than the patch in depth
        ((30, 44, 40), (1.5, 1.5, 1.5)),  # smaller in all
        ((50, 40, 90), (3.0, 1.5, 1.5)),  # on the network's grid, smaller in one
    ],
)
def test_labels_of_a_ct_are_the_original_s(
    model: Model, tmp_path: Path, shape: tuple[int, int, int], spacing: tuple[float, float, float], axes: np.ndarray
) -> None:
    files = write(tmp_path, [body(shape)], spacing, axes)
    whole, foreground = agreement(model, "liver", files, [True], tmp_path)
    assert whole >= AGREEMENT and foreground >= AGREEMENT, (whole, foreground)


@pytest.mark.parametrize(
    ("task", "ct"), [("prostate", [False]), ("whole_body_tumour", [True, False]), ("colon", [True])]
)
def test_labels_of_other_channels_and_fewer_classes(model: Model, tmp_path: Path, task: str, ct: list[bool]) -> None:
    """Probabilities are of all four outputs before those that are no classes of the task are left out."""
    arrays = [body((20, 100, 80), seed) for seed in range(len(ct))]
    files = write(tmp_path, arrays, (3.5, 1.0, 1.0), AXIAL)
    whole, foreground = agreement(model, task, files, ct, tmp_path)
    assert whole >= AGREEMENT and foreground >= AGREEMENT, (whole, foreground)


def test_labels_with_mirroring(model: Model, tmp_path: Path) -> None:
    files = write(tmp_path, [body((14, 60, 70))], (4.0, 1.2, 1.2), AXIAL)
    whole, foreground = agreement(model, "kidney", files, [True], tmp_path, mirror=True)
    assert whole >= AGREEMENT and foreground >= AGREEMENT, (whole, foreground)
