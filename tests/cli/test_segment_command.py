"""``meduniseg segment``, from the command line to the files it writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_inputs import save_tiny_model, write_photograph, write_volume

from meduniseg_core.files import sha256_of
from meduniseg_core.images import read_image, read_labels
from meduniseg_core.inference.quality.assessment import NOT_CALIBRATED
from meduniseg_core.weights import ActiveModels, Registry, read_model


@pytest.fixture
def volume(tmp_path) -> Path:
    return write_volume(tmp_path / "scan.nii.gz")


def files_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_volume_becomes_labels_on_its_own_grid_with_their_provenance(meduniseg, tiny_model, volume, tmp_path) -> None:
    done = meduniseg("segment", volume, "-o", tmp_path / "out", "--task", "organ", "--model", tiny_model)
    assert done.returncode == 0, done.stderr
    assert files_under(tmp_path / "out") == ["scan.json", "scan.nii.gz"]
    assert done.stdout == f"{tmp_path / 'out' / 'scan.nii.gz'}\n"
    assert "liver" in done.stderr and "Not for clinical use" in done.stderr
    labels = read_labels(tmp_path / "out" / "scan.nii.gz")
    assert labels.geometry.is_close(read_image(volume).geometry)
    assert set(np.unique(labels.array)) <= {0, 1}
    provenance = json.loads((tmp_path / "out" / "scan.json").read_text())
    assert (provenance["task"], provenance["modality"]) == ("organ", "mri")
    assert provenance["model_sha256"] == sha256_of(tiny_model)
    voxels = int((labels.array == 1).sum())
    size = pytest.approx(voxels * labels.geometry.voxel_volume / 1000)
    assert provenance["measurements"] == {"1": {"voxels": voxels, "size": size, "unit": "ml"}}


def test_json_is_one_object_and_nothing_else_on_stdout(meduniseg_process, tiny_model, volume, tmp_path) -> None:
    done = meduniseg_process(
        "segment", volume, "-o", tmp_path / "out", "-t", "vessel", "-m", tiny_model, "--json", "--progress", "json"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (result,) = report["results"]
    assert result["labels"] == str(tmp_path / "out" / "scan.nii.gz")
    assert [row["name"] for row in result["classes"]] == ["artery", "vein"]
    array = read_labels(Path(result["labels"])).array
    assert [row["voxels"] for row in result["classes"]] == [int((array == label).sum()) for label in (1, 2)]
    assert result["classes"][0]["size"] == pytest.approx(result["classes"][0]["voxels"] * 8 / 1000)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    progress = [event for event in events if event["event"] == "progress" and event["stage"] == "segment"]
    assert progress[-1]["done"] == progress[-1]["total"]
    (written,) = [event for event in events if event["event"] == "casedone"]
    assert written == {
        "event": "casedone",
        "case": "scan",
        "task": "vessel",
        "path": result["labels"],
        "seconds": result["seconds"],
        "warnings": [],
        "quality": {"calibrated": False, "sentence": NOT_CALIBRATED},
    }


def test_several_tasks_get_folders_and_a_photograph_gets_png(meduniseg, tiny_model, volume, tmp_path) -> None:
    photograph = write_photograph(tmp_path / "eye.png")
    out = tmp_path / "out"
    done = meduniseg("segment", volume, "-o", out, "-t", "organ,vessel", "-m", tiny_model)
    assert done.returncode == 0, done.stderr
    assert files_under(out) == ["organ/scan.json", "organ/scan.nii.gz", "vessel/scan.json", "vessel/scan.nii.gz"]
    assert (
        meduniseg("segment", photograph, "-o", tmp_path / "eye_out", "-t", "disc_cup", "-m", tiny_model).returncode == 0
    )
    assert files_under(tmp_path / "eye_out") == ["eye.json", "eye.png"]
    assert read_labels(tmp_path / "eye_out" / "eye.png").array.shape == (1, 1, 48, 64)


def test_all_tasks_are_those_that_fit_the_image_s_dimension(meduniseg, tiny_model, volume, tmp_path) -> None:
    done = meduniseg("segment", volume, "-o", tmp_path / "out", "-t", "all", "-m", tiny_model, "--json")
    assert done.returncode == 0, done.stderr
    assert [result["task"] for result in json.loads(done.stdout)["results"]] == ["organ", "vessel"]
    assert "left out (disc_cup)" in done.stderr


def test_all_tasks_are_those_of_the_modality_that_the_image_shows(meduniseg, shared_data, tmp_path) -> None:
    """An endoscopic photograph: not the fundus task too, and not the tasks of pictures in grey."""
    case = shared_data / "Dataset109_Polyp" / "imagesTs" / "polyp_000_0000.png"
    done = meduniseg("segment", case, "-o", tmp_path / "out", "-t", "all", "--json")
    assert done.returncode == 0, done.stderr
    assert [result["task"] for result in json.loads(done.stdout)["results"]] == ["polyp"]
    assert "looks like endoscopy" in done.stderr
    done = meduniseg("segment", case, "-o", tmp_path / "eye", "-t", "all", "--modality", "fundus", "--json")
    assert {result["task"] for result in json.loads(done.stdout)["results"]} == {"disc_cup", "retinal_vessel"}


def test_all_tasks_of_a_ct_are_those_of_ct(meduniseg, shared_data, tmp_path) -> None:
    scan = shared_data / "Dataset301_Geometry" / "ct_sm.nii.gz"
    done = meduniseg("segment", scan, "-o", tmp_path / "out", "-t", "all", "--json")
    assert done.returncode == 0, done.stderr
    assert [result["task"] for result in json.loads(done.stdout)["results"]] == ["head_neck_organs"]
    assert "hippocampus" in done.stderr and "looks like ct" in done.stderr


def test_the_modality_is_understood_in_its_other_spellings(meduniseg, tiny_model, volume, tmp_path) -> None:
    done = meduniseg("segment", volume, "-o", tmp_path / "out", "-t", "organ", "-m", tiny_model, "--modality", "MR")
    assert done.returncode == 0, done.stderr


def test_another_format_and_probabilities(meduniseg, tiny_model, volume, tmp_path) -> None:
    done = meduniseg(
        "segment",
        volume,
        "-o",
        tmp_path / "out",
        "-t",
        "organ",
        "-m",
        tiny_model,
        "--format",
        "nrrd",
        "--probabilities",
    )
    assert done.returncode == 0, done.stderr
    assert files_under(tmp_path / "out") == ["scan.json", "scan.nrrd", "scan_probabilities.nrrd"]


def test_boxes_are_listed_beside_the_labels_and_evaluated(meduniseg, tiny_model, volume, tmp_path) -> None:
    out = tmp_path / "out"
    done = meduniseg("segment", volume, "-o", out, "-t", "organ", "-m", tiny_model, "--boxes", "--json")
    assert done.returncode == 0, done.stderr
    assert files_under(out) == ["scan.json", "scan.nii.gz", "scan_boxes.json"]
    (result,) = json.loads(done.stdout)["results"]
    listed = json.loads((out / "scan_boxes.json").read_text("utf-8"))["instances"]
    assert result["boxes"] == str(out / "scan_boxes.json")
    assert [one["box"] for one in listed] == [one["box"] for one in result["instances"]]
    assert sum(one["voxels"] for one in listed) == result["classes"][0]["voxels"] > 0
    again = meduniseg("evaluate", out / "scan.nii.gz", out / "scan.nii.gz", "--boxes", "--overlap", "1", "--json")
    assert again.returncode == 0, again.stderr
    assert [one["found"] for one in json.loads(again.stdout)["detection"]] == [len(listed)]
    # a former run's list is replaced like the labels, and an edited one is kept
    assert meduniseg("segment", volume, "-o", out, "-t", "organ", "-m", tiny_model, "--boxes").returncode == 0
    refused = meduniseg("segment", volume, "-o", out, "-t", "organ", "-m", tiny_model, "--boxes", "--layout", "bids")
    assert refused.returncode == 2 and "--boxes and --layout bids exclude" in refused.stderr
    zero = meduniseg("evaluate", out / "scan.nii.gz", out / "scan.nii.gz", "--boxes", "--overlap", "0")
    assert zero.returncode == 2 and "above 0" in zero.stderr


def test_a_failing_case_is_named_and_the_others_go_on(meduniseg, tiny_model, volume, tmp_path) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(volume.read_bytes()[:2000])
    done = meduniseg("segment", broken, volume, "-o", tmp_path / "out", "-t", "organ", "-m", tiny_model, "--json")
    assert done.returncode == 3
    assert "broken" in done.stderr and "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    assert [failure["case"] for failure in report["failed"]] == ["broken"]
    assert [result["case"] for result in report["results"]] == ["scan"]
    assert files_under(tmp_path / "out") == ["scan.json", "scan.nii.gz"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("-t", "spleen"), "organ, vessel, disc_cup"),
        ((), "--task"),
        (("-t", "organ", "--modality", "radar"), "radar"),
        (("-t", "organ", "--modality", "fundus"), "fundus"),
        (("-t", "organ", "--format", "jpg"), "jpg"),
    ],
)
def test_what_the_model_cannot_do_is_wrong_usage(meduniseg, tiny_model, volume, tmp_path, options, word) -> None:
    done = meduniseg("segment", volume, "-o", tmp_path / "out", "-m", tiny_model, *options)
    assert done.returncode == 2
    assert word in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_image_s_own_folder_as_output_does_not_overwrite_the_image(meduniseg, tiny_model, volume) -> None:
    before = volume.read_bytes()
    done = meduniseg("segment", volume, "-o", volume.parent, "-t", "organ", "-m", tiny_model)
    assert done.returncode == 2 and str(volume) in done.stderr
    assert volume.read_bytes() == before


def test_interrupting_in_the_middle_leaves_nothing_half_written(tiny_model, tmp_path, interrupt) -> None:
    large = write_volume(tmp_path / "large.nii.gz", (96, 192, 192))
    command = ("segment", large, "-o", tmp_path / "out", "-t", "organ", "-m", tiny_model, "--overlap", "0.9")
    ended = interrupt(*command, at=lambda event: event["stage"] == "segment" and 0 < event["done"] < event["total"])
    assert ended.returncode == 130
    assert ended.seconds < 20
    assert ended.stdout == ""
    assert ended.error["exit_code"] == 130
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_one_of_a_folder_s_series_is_chosen_by_name(meduniseg, tiny_model, tmp_path) -> None:
    import SimpleITK as sitk  # noqa: N813

    folder = tmp_path / "study"
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, (name, depth) in enumerate((("thin", 20), ("thick", 18)), start=1):
        for index in range(depth):
            plane = sitk.GetImageFromArray(np.random.default_rng(index).integers(0, 99, (40, 40)).astype(np.int16))
            plane.SetSpacing((2.0, 2.0))
            for tag, text in {
                "0008|0060": "MR",
                "0020|000e": f"1.2.3.{number}",
                "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
                "0008|0018": f"1.2.3.{number}.{index + 1}",
                "0008|103e": name,
                "0020|0032": f"0\\0\\{2 * index}",
                "0020|0037": "1\\0\\0\\0\\1\\0",
            }.items():
                plane.SetMetaData(tag, text)
            writer.SetFileName(str(folder / f"{name}{index:02d}.dcm"))
            writer.Execute(plane)
    common = ("-o", tmp_path / "out", "--task", "organ", "--model", tiny_model)
    refused = meduniseg("segment", folder, *common)
    assert refused.returncode == 3 and "--series" in refused.stderr and "'thick'" in refused.stderr
    done = meduniseg("segment", folder, *common, "--series", "thick")
    assert done.returncode == 0, done.stderr
    assert read_labels(tmp_path / "out" / "study.nii.gz").geometry.shape == (18, 40, 40)


def test_a_model_that_was_adopted_for_the_task_is_pointed_to_unless_it_is_the_one_that_runs(
    meduniseg, tiny_model, volume, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path / "home"))
    Registry().install(save_tiny_model(tmp_path / "better.safetensors", "better"))
    ActiveModels().adopt("organ", "better", "tiny")
    hint = "better was adopted for organ; '--model better' would use it."

    def said(task: str, model: object) -> str:
        done = meduniseg("segment", volume, "-o", tmp_path / task, "-t", task, "-m", model)
        assert done.returncode == 0, done.stderr
        return " ".join(done.stderr.split())

    assert hint in said("organ", tiny_model)
    assert "was adopted for" not in said("organ", "better") + said("vessel", tiny_model)
    (tmp_path / "home" / "adopted.json").write_text("{")
    assert "delete it to begin with no adopted model" in said("organ", tiny_model)


FP32 = ("--precision", "fp32", "--device", "cpu")  # nothing to probe in a new home


@pytest.fixture
def adopted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, meduniseg, tiny_model: Path) -> None:
    """The default model is the tiny one; 'better' was adopted for its organ, and 'mine' for a task it does not have."""
    monkeypatch.setenv("MEDUNISEG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("meduniseg_core.weights.offer.DEFAULT_MODEL", "tiny")
    for name in ("tiny", "better"):
        Registry().install(save_tiny_model(tmp_path / f"{name}.safetensors", name))
    model = read_model(tiny_model)
    renamed = model.info.tasks[1].model_copy(update={"task": "mine"})
    info = model.info.model_copy(update={"name": "mine", "tasks": (model.info.tasks[0], renamed)})
    Registry().save(info, model.network.state_dict())
    ActiveModels().adopt("organ", "better", "tiny")
    ActiveModels().adopt("mine", "mine", "tiny")


@pytest.mark.usefixtures("adopted")
def test_without_a_model_every_task_is_done_by_the_one_that_was_adopted_for_it(meduniseg, volume, tmp_path) -> None:
    done = meduniseg("segment", volume, *FP32, "-o", tmp_path / "out", "-t", "organ,vessel,mine", "--json")
    assert done.returncode == 0, done.stderr
    used = {"organ": "better", "vessel": "tiny", "mine": "mine"}
    answer = json.loads(done.stdout)
    assert {result["task"]: result["model"] for result in answer["results"]} == used
    assert {task: model["name"] for model in answer["models"] for task in model["tasks"]} == used
    for task, model in used.items():
        beside = json.loads((tmp_path / "out" / task / f"{answer['results'][0]['case']}.json").read_text())
        assert (beside["model"], beside["model_sha256"]) == (model, Registry().recorded(model))
    said = " ".join(done.stderr.split())
    assert "better is used for organ: it was adopted; '--model tiny' would use tiny." in said
    assert "vessel:" not in said
    chosen = meduniseg("segment", volume, *FP32, "-o", tmp_path / "own", "-t", "organ", "-m", "tiny", "--json")
    assert [result["model"] for result in json.loads(chosen.stdout)["results"]] == ["tiny"]


@pytest.mark.usefixtures("adopted")
def test_all_tasks_are_those_of_the_default_model_and_of_what_was_adopted(meduniseg, volume, tmp_path) -> None:
    done = meduniseg("segment", volume, *FP32, "-o", tmp_path / "out", "-t", "all", "--json")
    assert {result["task"] for result in json.loads(done.stdout)["results"]} == {"organ", "vessel", "mine"}
    refused = meduniseg("segment", volume, *FP32, "-o", tmp_path / "out", "-t", "nothing")
    assert refused.returncode == 2 and "mine" in refused.stderr


@pytest.mark.usefixtures("adopted")
def test_rolling_back_and_removing_bring_the_default_model_back_and_that_is_said(meduniseg, volume, tmp_path) -> None:
    def used(folder: str) -> tuple[str, str]:
        done = meduniseg("segment", volume, *FP32, "-o", tmp_path / folder, "-t", "organ", "--json")
        return json.loads(done.stdout)["results"][0]["model"], " ".join(done.stderr.split())

    Registry().remove("better")
    model, said = used("a")
    assert model == "tiny" and "better, which was adopted for organ, was removed or replaced since" in said
    Registry().install(save_tiny_model(tmp_path / "again.safetensors", "better"))
    assert used("b")[0] == "better"
    assert meduniseg("runs", "rollback", "organ").returncode == 0
    model, said = used("c")
    assert model == "tiny" and "adopted" not in said


@pytest.mark.usefixtures("adopted")
def test_adoptions_that_cannot_be_read_stop_what_would_need_them(meduniseg, volume, tmp_path) -> None:
    (tmp_path / "home" / "adopted.json").write_text("{")
    refused = meduniseg("segment", volume, *FP32, "-o", tmp_path / "out", "-t", "organ")
    assert refused.returncode == 3 and "adopted.json" in refused.stderr
    assert meduniseg("segment", volume, *FP32, "-o", tmp_path / "out", "-t", "organ", "-m", "tiny").returncode == 0
