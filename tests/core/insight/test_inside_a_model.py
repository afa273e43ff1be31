"""A look inside: priors of patches, their embedding, neighbours, maps, costs, and the page."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from meduniseg_core.errors import UsageError
from meduniseg_core.insight import PriorSample, embed, modal_maps, neighbours, sample_priors
from meduniseg_core.insight.page import explain_model
from meduniseg_core.insight.pictures import scatter_picture
from meduniseg_core.model import ModelConfig, build_model
from meduniseg_core.preprocessing import RawDataset, TaskPlan
from meduniseg_core.weights import Model, ModelInfo


def plan(task: str, dimension: int, modality: str) -> TaskPlan:
    flat = dimension == 2
    return TaskPlan.model_validate(
        {
            "task": task,
            "modality": modality,
            "dimension": dimension,
            "channels": ("grey",),
            "classes": ("it",),
            "longest_side": 32 if flat else None,
            "spacing": None if flat else (1.0, 1.0, 1.0),
            "patch": (1, 32, 32) if flat else (16, 32, 32),
            "normalisation": ("zscore",),
            "figures": (None,),
            "crop_to_body": False,
        }
    )


def model_of(*plans: TaskPlan, **changes: object) -> Model:
    torch.manual_seed(0)
    modalities = tuple(dict.fromkeys(plan.modality for plan in plans))
    settings: dict[str, object] = {
        "features": (4, 8, 8),
        "strides": ((1, 2, 2), (2, 2, 2)),
        "stems": (1,),
        "classes": 2,
        "modalities": len(modalities),
        "modal_prompt_length": 8,
        "tasks": len(plans),
        "task_prompt_channels": 4,
        "task_prompt_size": (2, 3, 3),
    }
    config = ModelConfig.model_validate({**settings, **changes})
    info = ModelInfo(name="tiny", config=config, tasks=plans, modalities=modalities if config.modalities else ())
    return Model(info=info, network=build_model(config).eval(), sha256="0" * 64)


def dataset(folder: Path, task: str, modality: str, *, flat: bool, bright: bool = False) -> RawDataset:
    """Three images: noise, with a bright half if so asked."""
    (folder / "imagesTr").mkdir(parents=True)
    rng = np.random.default_rng(len(task))
    for number in range(3):
        array = rng.normal(100, 20, (40, 36) if flat else (10, 40, 36))
        array[..., :18] += 100 * bright
        if flat:
            PillowImage.fromarray(array.clip(0, 255).astype(np.uint8)).save(folder / "imagesTr" / f"c{number}_0000.png")
        else:
            image = nibabel.Nifti1Image(array.T.astype(np.float32), np.eye(4))
            nibabel.save(image, folder / "imagesTr" / f"c{number}_0000.nii.gz")
    content = {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, "it": 1},
        "file_ending": ".png" if flat else ".nii.gz",
        "task": task,
        "modality": modality,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return RawDataset.open(folder)


@pytest.mark.parametrize("design", [{}, {"task_prompts": "each"}, {"task_prior_at": "decoder"}])
def test_priors_are_those_that_the_decoder_gets(tmp_path: Path, design: dict[str, str]) -> None:
    first, second = plan("flat", 2, "xray"), plan("deep", 3, "mri")
    model = model_of(first, second, **design)
    found = sample_priors(model, dataset(tmp_path / "a", "deep", "mri", flat=False), second, count=7)
    assert found.own.shape == (7, 2 * 3 * 3) and found.all_tasks.shape == (7, 2 * 18)
    assert np.array_equal(found.own, found.all_tasks[:, 18:]) and set(found.cases) == {"c0", "c1", "c2"}
    again = sample_priors(model, RawDataset.open(tmp_path / "a"), second, count=7)
    assert np.array_equal(found.own, again.own)
    assert not np.array_equal(found.own[0], found.own[1])
    image = torch.randn(1, 1, 16, 32, 32)
    network = model.universal_network
    with torch.inference_mode():
        prior = network.task_prior(network.encode(image, torch.tensor([1])), torch.tensor([1]))
    assert prior is not None and prior.shape == (1, 1, 8, 8, 8)


def test_what_has_no_priors_is_refused(tmp_path: Path) -> None:
    second = plan("deep", 3, "mri")
    images = dataset(tmp_path / "a", "deep", "mri", flat=False)
    with pytest.raises(UsageError, match="no task priors"):
        sample_priors(model_of(second, tasks=0), images, second, count=2)
    with pytest.raises(UsageError, match="no modal prior"):
        modal_maps(model_of(second, modalities=0))
    with pytest.raises(UsageError, match="no prompt for 'ct'"):
        sample_priors(model_of(second), images, plan("deep", 3, "ct"), count=2)
    with pytest.raises(UsageError, match="another network than MedUniSeg, with no prior to look at"):
        explain_model(model_of(second, method="dodnet", modalities=0), [], [], tmp_path / "out")


def sample(task: str, centre: float, seed: int) -> PriorSample:
    rows = np.random.default_rng(seed).normal(centre, 0.1, (20, 6))
    return PriorSample(task, tuple(f"c{n}" for n in range(20)), rows, np.hstack([rows, rows * 2]))


def test_tasks_that_lie_apart_have_a_high_silhouette() -> None:
    apart = embed([sample("a", 0.0, 1), sample("b", 5.0, 2)])
    mixed = embed([sample("a", 0.0, 1), sample("b", 0.0, 2)])
    assert apart.silhouette > 0.9 > 0.2 > mixed.silhouette
    assert set(apart.by_task) == {"a", "b"} and apart.pca.shape == apart.tsne.shape == (40, 2)
    groups = [apart.pca[:20, 0], apart.pca[20:, 0]]
    assert max(groups[0]) < min(groups[1]) or max(groups[1]) < min(groups[0])
    with pytest.raises(UsageError, match="two tasks"):
        embed([sample("a", 0.0, 1)])


def test_a_task_left_out_is_nearest_to_its_like() -> None:
    known = [sample("retina", 1.0, 1), sample("disc", 1.2, 2), sample("lung", 6.0, 3)]
    ranked = neighbours(known[0], known)
    assert [one.task for one in ranked] == ["disc", "lung"]
    assert ranked[0].distance < 0.5 < ranked[1].distance
    with pytest.raises(UsageError, match="no known task"):
        neighbours(known[0], known[:1])


def test_priors_that_are_all_the_same_are_said() -> None:
    same = [PriorSample(task, ("a", "b"), np.ones((2, 5)), np.ones((2, 10))) for task in ("flat", "deep")]
    with pytest.raises(UsageError, match="All task priors of the model are the same"):
        embed(same)


def test_maps_are_those_that_are_added_to_images() -> None:
    model = model_of(plan("flat", 2, "xray"), plan("deep", 3, "mri"))
    maps = modal_maps(model)
    network = model.universal_network
    assert network.modal_map is not None
    with torch.inference_mode():
        added = network.modal_map(torch.tensor([1]), (12, 12))[0, 0].numpy()
    assert list(maps) == ["xray", "mri"] and np.array_equal(maps["mri"][0], added)
    assert maps["mri"][1].shape == (4, 6, 6) and not np.array_equal(maps["xray"][0], maps["mri"][0])


def test_points_have_the_colour_of_their_task() -> None:
    places = np.array([[0.0, 0.0], [1.0, 1.0]])
    picture = np.asarray(PillowImage.open(io.BytesIO(scatter_picture(places, ["a", "b"], "two"))))
    left, right = picture[100:, :280].reshape(-1, 3), picture[:, 280:560].reshape(-1, 3)
    assert [230, 25, 75] in left.tolist() and [60, 180, 75] in right.tolist()
    assert [60, 180, 75] not in left.tolist()


def test_the_page_and_its_files(tmp_path: Path) -> None:
    first, second = plan("flat", 2, "xray"), plan("deep", 3, "mri")
    model = model_of(first, second)
    sets = [
        dataset(tmp_path / "a", "flat", "xray", flat=True),
        dataset(tmp_path / "b", "deep", "mri", flat=False, bright=True),
    ]
    new = dataset(tmp_path / "c", "film", "xray", flat=True)
    out = tmp_path / "out"
    found = explain_model(model, sets, [new], out, samples=6, device="cpu", precision="fp32")
    assert {path.name for path in out.iterdir()} == {
        *("explain.html", "explain.json", "priors.csv", "resources.csv", "nearest.csv"),
        *("tsne.png", "pca.png", "modal_priors.png"),
    }
    assert [row["network"] for row in found["resources"]] == ["tiny", "2D backbone", "tiny", "3D backbone"]
    assert found["resources"][0]["parameters"] > found["resources"][1]["parameters"]
    assert found["resources"][2]["gflop"] > found["resources"][3]["gflop"] > 0
    assert found["ratio_to_2d_backbone"] > 0
    assert {one["task"] for one in found["nearest"]["c"]} == {"flat", "deep"}
    rows = list(csv.DictReader((out / "priors.csv").read_text().splitlines()))
    assert len(rows) == 12 and {row["task"] for row in rows} == {"flat", "deep"}
    page = (out / "explain.html").read_text()
    assert "Nearest known task of c" in page and page.count("data:image/png;base64") == 3
    assert json.loads((out / "explain.json").read_text())["silhouette"] == found["silhouette"]
    assert explain_model(model, [], [], tmp_path / "bare", device="cpu", precision="fp32")["silhouette"] is None
    with pytest.raises(UsageError, match="of the task flat"):
        explain_model(model, [sets[0], sets[1], sets[0]], [], out)
    with pytest.raises(UsageError, match="compared with known ones"):
        explain_model(model, [], [new], out)
