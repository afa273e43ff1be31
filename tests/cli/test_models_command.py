"""``meduniseg models``."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile

import pytest
import torch

SPECIFIED = {
    "backbone-3d": 31_168_160,
    "backbone-2d": 10_710_688,
    "downstream-siim": 31_242_544,
    "meduniseg": 32_804_563,
}


@pytest.mark.parametrize(("name", "parameters"), SPECIFIED.items())
def test_architectures_have_the_specified_parameters(meduniseg, name, parameters) -> None:
    done = meduniseg("models", "info", "--architecture", name, "--json")
    report = json.loads(done.stdout)
    assert report["architecture"] == name
    assert report["parameters"] == parameters == sum(report["by_part"].values())


def test_the_refined_architecture_says_what_it_adds(meduniseg) -> None:
    report = json.loads(meduniseg("models", "info", "--architecture", "meduniseg-star", "--json").stdout)
    assert report["added_parameters"] == sum(report["added"].values()) == pytest.approx(6.8e6, abs=0.1e6)
    assert report["parameters"] == 32_804_563 + report["added_parameters"]
    assert set(report["added"]) == {"low-rank updates", "transposed convolutions", "heads"}


def test_an_unknown_architecture_is_wrong_usage_and_the_known_ones_are_named(meduniseg) -> None:
    done = meduniseg("models", "info", "--architecture", "resnet")
    assert done.returncode == 2
    assert "resnet" in done.stderr and "backbone-3d" in done.stderr


def test_a_model_goes_in_and_out_again(meduniseg, tiny_model, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path / "home"))
    sha256 = hashlib.sha256(tiny_model.read_bytes()).hexdigest()
    assert meduniseg("models", "install", tiny_model, "--sha256", sha256).returncode == 0
    listed = json.loads(meduniseg("models", "list", "--json").stdout)["models"]
    assert "tiny" in [model["name"] for model in listed]
    verified = json.loads(meduniseg("models", "verify", "tiny", "--json").stdout)
    assert verified == {"name": "tiny", "sha256": sha256, "recorded": True}
    exported = tmp_path / "given_away.safetensors"
    assert meduniseg("models", "export", "tiny", "-o", exported).returncode == 0
    assert exported.read_bytes() == tiny_model.read_bytes()
    assert meduniseg("models", "remove", "tiny").returncode == 0
    assert meduniseg("models", "verify", "tiny").returncode == 2


def test_options_that_a_model_file_decides_itself_are_refused_not_ignored(
    meduniseg, tiny_model, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path / "home"))
    for option in (("--name", "mine"), ("--spacing", 3, 1, 1), ("--planner-spacings",)):
        done = meduniseg("models", "import", tiny_model, *option)
        assert done.returncode == 2 and option[0] in done.stderr and len(done.stderr.splitlines()) == 1
    assert list((tmp_path / "home").rglob("*.safetensors")) == []


def test_a_wrong_sha256_installs_nothing(meduniseg, tiny_model, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path / "home"))
    done = meduniseg("models", "install", tiny_model, "--sha256", "0" * 64)
    assert done.returncode == 3
    assert str(tiny_model) in done.stderr
    assert list((tmp_path / "home").rglob("*.safetensors")) == []


def test_a_model_file_is_described(meduniseg, tiny_model) -> None:
    report = json.loads(meduniseg("models", "info", tiny_model, "--json").stdout)
    assert [task["task"] for task in report["tasks"]] == ["organ", "vessel", "disc_cup"]
    printed = meduniseg("models", "info", tiny_model).stdout
    assert "Not for clinical use" in printed and "artery, vein" in printed


def test_tasks_of_a_model_file(meduniseg, tiny_model) -> None:
    tasks = json.loads(meduniseg("tasks", "--model", tiny_model, "--json").stdout)["tasks"]
    assert {task["task"]: task["spacing"] for task in tasks}["organ"] == [2.0, 2.0, 2.0]


def test_a_file_that_is_no_model_is_bad_input(meduniseg, tmp_path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a model")
    done = meduniseg("models", "import", broken)
    assert done.returncode == 3
    assert str(broken) in done.stderr and "Traceback" not in done.stderr


def test_a_checkpoint_of_any_other_kind_is_one_sentence_and_suggests_nothing_unsafe(meduniseg, tmp_path) -> None:
    whole = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), whole)
    old = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, old, _use_new_zipfile_serialization=False)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({"a": 1}))
    for content in (whole.getvalue(), whole.getvalue()[:400], old.getvalue(), archive.getvalue(), b"", b"text\n" * 40):
        path = tmp_path / "strange.model"
        path.write_bytes(content)
        done = meduniseg("models", "import", path)
        assert done.returncode == 3 and done.stdout == ""
        (sentence,) = done.stderr.splitlines()
        assert sentence.startswith(f"meduniseg: {path}: ") and sentence.endswith(".")
        assert "weights_only" not in sentence and "torch.load" not in sentence


def test_uniseg_s_checkpoint_is_imported(meduniseg, shared_data, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path / "home"))
    checkpoint = shared_data / "uniseg_reference" / "uniseg_narrow.model"
    done = meduniseg("models", "import", checkpoint, "--name", "narrow", "--spacing", 4, 2, 2, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tasks"][:2] == ["liver", "kidney"]
    assert "is assumed" in done.stderr
    tasks = json.loads(meduniseg("models", "info", "narrow", "--json").stdout)["tasks"]
    assert {tuple(task["spacing"]) for task in tasks} == {(4.0, 2.0, 2.0)}
    assert meduniseg("models", "import", checkpoint, "--sha256", "0" * 64).returncode == 3


def test_a_checkpoint_may_be_imported_with_other_tasks_and_spacings(
    meduniseg, shared_data, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path / "home"))
    checkpoint = shared_data / "uniseg_reference" / "uniseg_narrow.model"
    assert meduniseg("models", "import", checkpoint, "--name", "planned", "--planner-spacings").returncode == 0
    tasks = json.loads(meduniseg("models", "info", "planned", "--json").stdout)["tasks"]
    spacings = {task["task"]: task["spacing"] for task in tasks}
    assert spacings["vertebrae"] == [4.0, 2.0, 2.0] and spacings["liver"] == [3.0, 1.5, 1.5]

    options = tmp_path / "options.json"
    own = [{"task": f"own{n}", "modality": "ct", "channels": ["CT"], "classes": ["thing"]} for n in range(11)]
    options.write_text(json.dumps({"tasks": own, "task_spacings": {"own3": [5, 1, 1]}}))
    assert meduniseg("models", "import", checkpoint, "--name", "own", "--options", options).returncode == 0
    tasks = json.loads(meduniseg("models", "info", "own", "--json").stdout)["tasks"]
    assert [task["task"] for task in tasks] == [f"own{n}" for n in range(11)]
    assert tasks[3]["spacing"] == [5.0, 1.0, 1.0]

    options.write_text('{"spacings": 1}')
    refused = meduniseg("models", "import", checkpoint, "--name", "other", "--options", options)
    assert refused.returncode == 2 and str(options) in refused.stderr and "Traceback" not in refused.stderr


def test_a_model_of_nnunet_without_its_folder_is_asked_for(meduniseg) -> None:
    done = meduniseg("models", "import", "nnunet", "--name", "mine")
    assert done.returncode == 2 and "import nnunet FOLDER --name NAME" in done.stderr
