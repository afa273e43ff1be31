"""Segment and Batch use what is in use for the task, say so beside Run, and let the user take the shipped model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_inputs import plan, write_photograph

from meduniseg_core.events import CancelToken
from meduniseg_core.model import ModelConfig, build_model
from meduniseg_core.weights import ActiveModels, ModelInfo, Registry, save_model
from napari_meduniseg._segmentation_job import Predictors, prepare_job, run_job
from napari_meduniseg._signals import signals
from napari_meduniseg.widgets.in_use_line import IN_USE


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder in which the model ``mine`` was adopted for the shipped model's task polyp."""
    torch.manual_seed(0)
    config = ModelConfig(
        features=(4, 4, 4),
        strides=((1, 2, 2), (2, 2, 2)),
        classes=2,
        modalities=1,
        modal_prompt_length=8,
        tasks=1,
        task_prompt_channels=4,
        task_prompt_size=(2, 2, 2),
    )
    tasks = (plan("polyp", "endoscopy", 2, ("polyp",)),)
    info = ModelInfo(name="mine", config=config, tasks=tasks, modalities=("endoscopy",))
    save_model(tmp_path / "mine.safetensors", info, build_model(config).state_dict())
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path / "home"))
    Registry().import_file(tmp_path / "mine.safetensors")
    ActiveModels().adopt("polyp", "mine", "starter")
    return tmp_path / "home"


@pytest.fixture
def viewer(gui_screen: None, home: Path, make_napari_viewer: Any) -> Any:
    return make_napari_viewer()


def dock(viewer: Any, name: str) -> Any:
    return viewer.window.add_plugin_dock_widget("napari-meduniseg", name)[1]


def test_segment_runs_what_is_in_use_says_so_and_can_be_told_otherwise(viewer: Any, qtbot: Any, tmp_path: Path) -> None:
    panel = dock(viewer, "Segment")
    form, line = panel.form, panel.form.in_use
    viewer.open(str(write_photograph(tmp_path / "photo.png")), plugin="napari-meduniseg")
    assert form.modality() is None and line.isHidden()  # random colours are no picture of a known kind: it is asked
    form.choose(modality="dermoscopy")
    assert line.isHidden()  # nothing is in use for that
    form.choose(modality="endoscopy", tasks=("polyp",))
    assert form.choice().by_model() == {"mine": ["polyp"]}
    assert "mine is used for polyp: it was adopted" in line.text() and not line.isHidden()

    def model_of_result() -> str:
        job = prepare_job(form.choice(), viewer)
        outcome = run_job(job, Predictors(), lambda _event: None, CancelToken())
        return str(outcome.results["polyp"].provenance()["model"])

    assert model_of_result() == "mine"
    line.linkActivated.emit("starter")
    assert form.choice().by_model() == {"starter": ["polyp"]}
    assert "mine was adopted for polyp" in line.text()
    assert model_of_result() == "starter"
    line.linkActivated.emit("#in_use")
    assert form.choice().by_model() == {"mine": ["polyp"]}
    form.choose(model="starter")
    signals().models_changed.emit("mine")  # it was adopted just now, in another panel
    assert form.model.currentData() == IN_USE


def test_batch_runs_what_is_in_use_says_so_and_can_be_told_otherwise(viewer: Any, tmp_path: Path) -> None:
    panel = dock(viewer, "Batch")
    panel.folder.setText(str(tmp_path))
    panel.output.setText(str(tmp_path / "out"))
    panel.task.choose("skin_lesion")
    assert panel.in_use.isHidden()
    panel.task.choose("polyp")
    assert "mine is used for polyp" in panel.in_use.text() and "--model" not in panel.arguments()
    panel.in_use.linkActivated.emit("starter")
    assert (panel.task.task(), panel.task.currentText()) == ("polyp", "Polyp")
    assert panel.arguments()[-2:] == ["--model", "starter"]
    assert "mine was adopted for polyp" in panel.in_use.text()


def test_what_cannot_be_read_is_said(viewer: Any, home: Path) -> None:
    (home / "adopted.json").write_text("{")
    panel = dock(viewer, "Segment")
    assert "cannot be read" in panel.form.in_use.text()
    assert "skin_lesion" in [plan.task for plan in panel.form._offer.plans.values()]
