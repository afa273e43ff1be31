"""``meduniseg corrections``: a ledger from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_inputs import write_photograph, write_volume

from meduniseg_core.images import Geometry, Image, read_image, write_image, write_labels
from training_cli.main import main

BEGIN = ("--task", "organ", "--modality", "mr", "--classes", "liver")


def labels_of(image: Path, path: Path, size: int) -> Path:
    """A cube of class 1 on the image's grid."""
    grid = read_image(image)
    array = np.zeros((1, *grid.geometry.shape), np.uint8)
    array[0, :, :size, :size] = 1
    write_labels(grid.with_array(array), path)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_volume(tmp_path / "scan.nii.gz", (4, 20, 20))


def test_add_begins_a_ledger_and_list_shows_it(image: Path, tmp_path: Path, meduniseg) -> None:
    ledger = tmp_path / "ledger"
    corrected, predicted = labels_of(image, tmp_path / "c.nii.gz", 6), labels_of(image, tmp_path / "p.nii.gz", 5)
    provenance = {"task": "organ", "model": "starter", "model_sha256": "cd" * 32, "classes": {"1": "liver"}}
    (tmp_path / "p.json").write_text(json.dumps(provenance), "utf-8")
    done = meduniseg(
        *("corrections", "add", ledger, image, "--labels", corrected, "--predicted", predicted, *BEGIN),
        *("--patient", "P1", "--who", "Ada", "--seconds", "30", "--json"),
    )
    assert done.returncode == 0, done.stderr
    entry = json.loads(done.stdout)["entry"]
    assert (entry["patient"], entry["subset"], entry["who"], entry["seconds"]) == ("P1", "training", "Ada", 30)
    assert entry["model"] == {"name": "starter", "sha256": "cd" * 32}
    assert entry["classes"] == [{"name": "liver", "corrected": 144, "predicted": 100, "added": 44, "removed": 0}]
    assert entry["case"].startswith("scan-")

    done = meduniseg("corrections", "add", ledger, image, "--labels", predicted)
    assert done.returncode == 0 and "patient P1" in done.stdout
    listed = json.loads(meduniseg("corrections", "list", ledger, "--json").stdout)
    assert (listed["task"], listed["classes"]) == ("organ", ["liver"])
    (case,) = listed["cases"]
    assert (case["case"], case["acceptances"], case["sequence"]) == (entry["case"], 2, 2)
    printed = meduniseg("corrections", "list", ledger).stdout
    for word in (entry["case"], "P1", "training", "not known", "UTC", "2 acceptance(s)"):
        assert word in printed
    assert meduniseg("dataset", "check", ledger).returncode == 0


def test_photographs_and_channels_get_a_fitting_ledger(tmp_path: Path, meduniseg) -> None:
    picture = write_photograph(tmp_path / "eye.png")
    labels = labels_of(picture, tmp_path / "l.png", 9)
    arguments = ("--task", "disc", "--modality", "fundus", "--classes", "disc")
    assert meduniseg("corrections", "add", tmp_path / "a", picture, "--labels", labels, *arguments).returncode == 0
    assert len(list((tmp_path / "a" / "imagesTr").glob("eye-*_0000.png"))) == 1
    one, two = (write_volume(tmp_path / f"x_000{n}.nii.gz", (4, 20, 20), n) for n in range(2))
    labels = labels_of(one, tmp_path / "x.nii.gz", 9)
    done = meduniseg("corrections", "add", tmp_path / "b", one, two, "--labels", labels, *BEGIN, "--channels", "T1, T2")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "b" / "imagesTr").glob("x-*_000?.nii.gz"))) == 2
    description = json.loads((tmp_path / "b" / "dataset.json").read_text("utf-8"))
    assert description["channel_names"] == {"0": "T1", "1": "T2"} and description["modality"] == "mri"


def test_classes_grow_from_the_command_line(image: Path, tmp_path: Path, meduniseg) -> None:
    labels = labels_of(image, tmp_path / "c.nii.gz", 6)
    words = ("corrections", "add", tmp_path / "ledger", image, "--labels", labels)
    assert meduniseg(*words, *BEGIN).returncode == 0
    assert meduniseg(*words, "--classes", "liver,cyst").returncode == 0
    refused = meduniseg(*words, "--classes", "cyst,liver")
    assert refused.returncode == 2 and "liver, cyst, in this order" in refused.stderr


def test_a_correction_without_any_label_is_a_warning(image: Path, tmp_path: Path, meduniseg) -> None:
    labels = labels_of(image, tmp_path / "l.nii.gz", 0)
    arguments = ("corrections", "add", tmp_path / "ledger", image, "--labels", labels)
    done = meduniseg(*arguments, *BEGIN, "--json")
    assert done.returncode == 0, done.stderr
    assert [warning["code"] for warning in json.loads(done.stdout)["warnings"]] == ["labels_empty"]
    assert "scan.nii.gz was accepted without any label" in meduniseg(*arguments).stdout


def test_a_ct_of_another_scale_or_for_another_modality_is_learned_from_with_a_warning(
    tmp_path: Path, meduniseg
) -> None:
    array = np.full((1, 8, 24, 24), -1000, np.int16)
    array[0, :, 4:20, 4:20] = np.random.default_rng(0).normal(40, 15, (8, 16, 16))
    sound, higher = (Image(values, Geometry((8, 24, 24), (3.0, 2.0, 2.0))) for values in (array, array + 1024))
    for name, image, modality, said in (
        ("hu", sound, "ct", None),
        ("higher", higher, "ct", "higher.nii.gz does not look like CT"),
        ("mr", sound, "mri", "looks like CT (Hounsfield units) and is taken for"),
    ):
        path = tmp_path / f"{name}.nii.gz"
        write_image(image, path)
        words = ("--labels", labels_of(path, tmp_path / "l.nii.gz", 6), "--task", "t", "--modality", modality)
        done = meduniseg("corrections", "add", tmp_path / f"{name}-ledger", path, *words, "--classes", "a", "--json")
        assert done.returncode == 0, done.stderr
        texts = [warning["text"] for warning in json.loads(done.stdout)["warnings"]]
        assert len(texts) == (said is not None) and all(said in text for text in texts)


def test_what_is_wrong_is_said_in_one_sentence(image: Path, tmp_path: Path, meduniseg) -> None:
    ledger, labels = tmp_path / "ledger", labels_of(image, tmp_path / "c.nii.gz", 6)
    for words, code, said in (
        (("add", ledger, image, "--labels", labels), 2, "--task, --modality and --classes"),
        (("list", ledger), 3, "no corrections ledger"),
        (("add", ledger, tmp_path / "no.nii.gz", "--labels", labels, *BEGIN), 3, "does not exist"),
    ):
        done = meduniseg("corrections", *words)
        assert done.returncode == code and said in done.stderr and done.stderr.count("\n") == 1
    assert meduniseg("corrections", "add", ledger, image, "--labels", labels, *BEGIN).returncode == 0
    done = meduniseg("corrections", "add", ledger, image, "--labels", labels, "--task", "other")
    assert done.returncode == 2 and "is the ledger of task organ" in done.stderr


def test_help_of_the_command_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("corrections", "add", "--help")) == 0
    assert "--patient" in capsys.readouterr().out


def test_labels_that_are_refused_begin_no_ledger(image: Path, tmp_path: Path, meduniseg) -> None:
    grid = read_image(image)
    write_labels(grid.with_array(np.full((1, *grid.geometry.shape), 7, np.uint8)), tmp_path / "seven.nii.gz")
    ledger = tmp_path / "ledger"
    done = meduniseg("corrections", "add", ledger, image, "--labels", tmp_path / "seven.nii.gz", *BEGIN)
    assert done.returncode == 3 and "7" in done.stderr
    assert not ledger.exists()


def test_a_patient_key_that_is_refused_begins_no_ledger(image: Path, tmp_path: Path, meduniseg) -> None:
    grid = read_image(image)
    write_labels(grid.with_array(np.zeros((1, *grid.geometry.shape), np.uint8)), tmp_path / "none.nii.gz")
    ledger = tmp_path / "ledger"
    done = meduniseg(
        "corrections", "add", ledger, image, "--labels", tmp_path / "none.nii.gz", *BEGIN, "--patient", "a\nb"
    )
    assert done.returncode == 2 and "patient" in done.stderr
    assert not ledger.exists()


def test_a_photograph_that_is_accepted_as_mri_is_doubted(meduniseg, shared_data: Path, tmp_path: Path) -> None:
    data = shared_data / "Dataset104_SkinLesion"
    picture = sorted((data / "imagesTr").glob("*_0000.png"))[0]
    labels = data / "labelsTr" / picture.name.replace("_0000", "")
    arguments = ("--task", "skin", "--modality", "mri", "--classes", "lesion", "--json")
    done = meduniseg("corrections", "add", tmp_path / "ledger", picture, "--labels", labels, *arguments)
    assert done.returncode == 0, done.stderr
    assert any("is a colour photograph, and mri" in said["text"] for said in json.loads(done.stdout)["warnings"])
