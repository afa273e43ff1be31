"""The class of the image, from a head that the user chose: beside the result table, in its CSV and in the JSON."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from napari.components import ViewerModel
from small_inputs import write_volume
from test_segmenting import add_volume, run

from meduniseg_core.errors import UsageError
from meduniseg_core.events import CancelToken, ignore
from meduniseg_core.inference import Predictor
from meduniseg_core.inference.quality.features import VERSION
from meduniseg_core.weights import load_model
from meduniseg_core.weights.classifier import ClassifierHead, read_head, write_head
from napari_meduniseg._compute_options import ComputeOptions
from napari_meduniseg._layer_input import read_layers, snapshot_layers
from napari_meduniseg._segmentation_job import Predictors, SegmentChoice, forecast, prepare_job, run_job
from napari_meduniseg.widgets.opening import open_panel

_BIAS = (0.0, 1.0986123)
"""Of which a head that weighs nothing makes the probabilities 0.25 and 0.75."""


@pytest.fixture
def head(tiny_home: Path, tmp_path: Path) -> Path:
    """A head of the model's task 'organ', whose classes are as probable for every image."""
    model, viewer = load_model("tiny"), ViewerModel()
    image = read_layers(snapshot_layers([add_volume(viewer)])).image
    evidence = Predictor(model, "cpu", "fp32").segment(image, "organ", evidence=True)["organ"].evidence
    assert evidence is not None and evidence.features.size
    count = evidence.features.size
    found = ClassifierHead(
        model="tiny",
        model_sha256=model.sha256,
        task="organ",
        features_version=VERSION,
        inputs="features",
        classes=("benign", "malignant"),
        centre=(0.0,) * count,
        scale=(1.0,) * count,
        weights=((0.0,) * count, (0.0,) * count),
        bias=_BIAS,
    )
    path = tmp_path / "grade.json"
    write_head(found, path)
    return path


def test_the_head_s_task_alone_gets_a_class_and_labels_stay_as_they_are(tiny_home: Path, head: Path) -> None:
    viewer = ViewerModel()
    add_volume(viewer)
    (plain,) = run(viewer)
    organ, vessel = run(viewer, tasks=("organ", "vessel"), compute=ComputeOptions(precision="fp32", head=head))
    said = organ.metadata["meduniseg"]["provenance"]["image_class"]
    assert said["class"] == "malignant" and said["head_sha256"] == read_head(head).sha256
    assert said["probabilities"] == pytest.approx({"benign": 0.25, "malignant": 0.75})
    for other in (plain, vessel):
        assert "image_class" not in other.metadata["meduniseg"]["provenance"]
    assert (organ.data == plain.data).all()


def test_a_head_of_another_network_is_refused_before_it_runs_and_one_of_another_task_is_said(
    tiny_home: Path, head: Path
) -> None:
    viewer = ViewerModel()
    layer, compute = add_volume(viewer), ComputeOptions(precision="fp32", head=head)
    idle = prepare_job(SegmentChoice(layers=(layer,), tasks=("vessel",), model="tiny", compute=compute), viewer)
    assert "No class of the image: the head is for organ" in forecast(idle, Predictors()).text
    order = prepare_job(SegmentChoice(layers=(layer,), tasks=("organ",), model="tiny", compute=compute), viewer)
    assert "No class" not in forecast(order, Predictors()).text
    write_head(read_head(head).model_copy(update={"model": "other", "model_sha256": "cd" * 32}), head)
    for work in (
        lambda: forecast(order, Predictors()),
        lambda: run_job(order, Predictors(), ignore, CancelToken()),
    ):
        with pytest.raises(UsageError, match=r"The head was fitted to other \(cdcd.*, not to tiny"):
            work()


def test_the_class_is_seen_copied_exported_and_saved(gui: Any, qtbot: Any, head: Path, tmp_path: Path) -> None:
    def run_to_the_end() -> None:
        widget.run()
        qtbot.waitUntil(lambda: not widget.busy, timeout=120_000)

    widget = open_panel(gui, "Segment")
    gui.open(str(write_volume(tmp_path / "mr.nii.gz")), plugin="napari-meduniseg")
    widget.form.choose(model="tiny", modality="mri", tasks=("organ",))
    widget.form.compute.precision.value = "fp32"
    run_to_the_end()
    assert widget.table.isVisibleTo(widget) and not widget.table.image_class.isVisibleTo(widget)
    widget.form.compute.head.value = head
    run_to_the_end()
    said = "Class of the image: malignant (0.75), benign (0.25)"
    assert widget.table.image_class.isVisibleTo(widget) and widget.table.image_class.text() == said
    assert said.replace(": ", "\t") in widget.table.text().splitlines()
    widget.table.export(tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text("utf-8").splitlines()))
    shares = {row["class"]: float(row["size"]) for row in rows if row["unit"] == "probability"}
    assert shares == pytest.approx({"image: malignant": 0.75, "image: benign": 0.25})
    gui.layers.selection = {gui.layers[-1]}
    assert gui.layers.save(str(tmp_path / "saved.nii.gz"), selected=True, plugin="napari-meduniseg")
    record = json.loads((tmp_path / "saved.json").read_text("utf-8"))
    assert record["image_class"]["class"] == "malignant"
    write_head(read_head(head).model_copy(update={"model_sha256": "cd" * 32}), head)
    run_to_the_end()
    assert "The head was fitted to" in widget.said.text() and len(gui.layers) == 3
