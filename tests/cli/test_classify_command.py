"""``classify-fit`` and ``classify``, from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    """Twelve photographs: six dark ones without any label and six bright ones with a cup."""
    folder = tmp_path / "Dataset900_Eyes"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(12):
        bright = number % 2
        pixels = rng.integers(0, 60, (48, 64, 3)) + (150 if bright else 0) * (
            np.indices((48, 64)).sum(0)[..., None] < 50
        )
        Picture.fromarray(pixels.astype(np.uint8)).save(folder / "imagesTr" / f"eye{number}_0000.png")
        mask = np.zeros((48, 64), dtype=np.uint8)
        mask[4:12, 4:12] = bright
        Picture.fromarray(mask).save(folder / "labelsTr" / f"eye{number}.png")
    description = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "cup": 1, "disc": 2},
        "numTraining": 12,
        "file_ending": ".png",
        "modality": "fundus",
        "task": "disc_cup",
    }
    (folder / "dataset.json").write_text(json.dumps(description), "utf-8")
    return folder


def test_a_head_is_fitted_and_says_classes_with_intervals(meduniseg, tiny_model, eyes, tmp_path) -> None:
    head, labels = tmp_path / "head.json", tmp_path / "classes.csv"
    rows = [f"eye{number},{'bright' if number % 2 else 'dark'}" for number in range(12)]
    labels.write_text("case,class\n" + "\n".join(rows) + "\n", "utf-8")
    labels.write_text(
        "case; class\n" + "\n".join(row.replace(",", "; ") for row in rows) + "\n", "utf-8"
    )  # a spreadsheet's
    done = meduniseg("classify-fit", eyes, "-o", head, "-m", tiny_model, "--labels", labels)
    assert done.returncode == 0, done.stderr
    labels.write_text("case,class\n" + "\n".join(rows) + "\n", "utf-8")
    options = ("--head", head, "-m", tiny_model)
    done = meduniseg("classify", eyes / "imagesTr", *options, "--labels", labels, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [(one["case"], one["class"]) for one in report["results"]] == [
        (row.split(",")[0], row.split(",")[1]) for row in sorted(rows)
    ]
    assert report["summary"]["auroc"] == 1.0 and report["summary"]["images"] == {"bright": 6, "dark": 6}
    alone = meduniseg("classify", eyes / "imagesTr" / "eye3_0000.png", *options)
    assert alone.returncode == 0 and alone.stdout == "eye3: bright\n", alone.stderr
    labels.write_text("case,class\neye0,dark\neye1,glaucoma\n", "utf-8")
    refused = meduniseg("classify", eyes / "imagesTr", *options, "--labels", labels)
    assert refused.returncode == 2 and "not glaucoma" in refused.stderr
    labels.write_text("case,class\neye0,dark\n", "utf-8")
    refused = meduniseg("classify", eyes / "imagesTr", *options, "--labels", labels)
    assert refused.returncode == 2 and "none is of bright" in refused.stderr
    labels.write_text("case,class\nEye0,dark\nEye1,bright\n", "utf-8")
    refused = meduniseg("classify", eyes / "imagesTr", *options, "--labels", labels)
    assert refused.returncode == 3 and "names none of the images" in refused.stderr and "eye0" in refused.stderr
    labels.write_text("Case,Class\neye0,dark \neye1, bright\nEye2,dark\n,\n", "utf-8")
    some = meduniseg("classify", eyes / "imagesTr", *options, "--labels", labels, "--json", "--progress", "lines")
    assert some.returncode == 0 and json.loads(some.stdout)["summary"]["images"] == {"bright": 1, "dark": 1}
    assert "names 1 case (Eye2) not among the images" in some.stderr
    assert "has no class for 10 cases (eye10, eye11, eye2, ...)" in some.stderr


def test_one_bad_file_is_named_and_the_others_are_classified(meduniseg, tiny_model, eyes, tmp_path) -> None:
    head, labels = tmp_path / "head.json", tmp_path / "classes.csv"
    done = meduniseg("classify-fit", eyes, "-o", head, "-m", tiny_model, "--present", "cup")
    assert done.returncode == 0, done.stderr
    images = tmp_path / "images"
    images.mkdir()
    for number in (2, 3):
        shutil.copy(eyes / "imagesTr" / f"eye{number}_0000.png", images / f"eye{number}.png")
    bad = images / "eye1.png"
    bad.write_bytes(b"no picture")
    options = ("--head", head, "-m", tiny_model, "--json", "--progress", "lines")
    done = meduniseg("classify", images, *options)
    assert done.returncode == 3, done.stderr
    report, said = json.loads(done.stdout), done.stderr.splitlines()
    assert [(one["case"], one["class"]) for one in report["results"]] == [("eye2", "absent"), ("eye3", "present")]
    assert [one["case"] for one in report["failed"]] == ["eye1"] and "eye1.png" in report["failed"][0]["error"]
    assert f"meduniseg: eye1: {report['failed'][0]['error']}" in said
    assert said[-1] == "meduniseg: 1 of 3 cases failed: eye1."
    # the one image of a class: what is known of the others stays
    labels.write_text("case,class\neye1,present\neye2,absent\n", "utf-8")
    done = meduniseg("classify", images, *options, "--labels", labels)
    assert done.returncode == 3 and "all of present failed" in done.stderr
    assert json.loads(done.stdout)["summary"] is None and len(json.loads(done.stdout)["results"]) == 2
    alone = meduniseg("classify", bad, *options)
    assert alone.returncode == 3 and alone.stdout == "" and "cases failed" not in alone.stderr


def test_images_that_cannot_be_used_are_named_and_the_others_fitted(meduniseg, tiny_model, eyes, tmp_path) -> None:
    head = tmp_path / "head.json"
    done = meduniseg("classify-fit", eyes, "-o", head, "-m", tiny_model, "--present", "cup")
    assert done.returncode == 0, done.stderr
    Picture.fromarray(np.zeros((48, 64, 3), dtype=np.uint8)).save(eyes / "imagesTr" / "eye4_0000.png")
    refusal = "eye4_0000.png holds only background, of which nothing can be said; leave it out."
    done = meduniseg("classify", eyes / "imagesTr" / "eye4_0000.png", "--head", head, "-m", tiny_model)
    assert done.returncode == 3 and refusal in done.stderr, done.stderr
    (eyes / "imagesTr" / "eye6_0000.png").write_bytes(b"no picture")
    (eyes / "labelsTr" / "eye7.png").write_bytes(b"no labels")
    head.unlink()
    done = meduniseg("classify-fit", eyes, "-o", head, "-m", tiny_model, "--present", "cup", "--json")
    assert done.returncode == 3 and refusal in done.stderr, done.stderr
    assert "3 of 12 cases failed: eye4, eye6, eye7." in done.stderr
    report = json.loads(done.stdout)
    assert [one["case"] for one in report["failed"]] == ["eye4", "eye6", "eye7"] and head.is_file()
    assert report["images"] == {"absent": 4, "present": 5}


def test_classes_may_be_whether_a_label_is_there(meduniseg, tiny_model, eyes, tmp_path) -> None:
    head = tmp_path / "head.json"
    done = meduniseg("classify-fit", eyes, "-o", head, "-m", tiny_model, "--present", "cup", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["classes"] == ["absent", "present"]
    assert json.loads(done.stdout)["images"] == {"absent": 6, "present": 6}


def test_what_cannot_be_fitted_is_said_at_once(meduniseg, tiny_model, eyes, tmp_path) -> None:
    head, labels = tmp_path / "head.json", tmp_path / "classes.csv"
    for options, code, word in (
        ((), 2, "--labels CSV or by --present"),
        (("--present", "lesion"), 2, "has no class 'lesion'"),
        (("--labels", labels), 3, "classes.csv"),
    ):
        done = meduniseg("classify-fit", eyes, "-o", head, "-m", tiny_model, *options)
        assert done.returncode == code and word in done.stderr, done.stderr
    for text, word in (
        ("name,kind\neye0,dark\n", "has no column case in its first line"),
        ("case,class\neye0,dark\neye0,bright\n", "line 3: case eye0 has two classes"),
        ("case,class\n", "holds no row"),
        ("case,class\nother,dark\n", "names no case"),
    ):
        labels.write_text(text, "utf-8")
        done = meduniseg("classify-fit", eyes, "-o", head, "-m", tiny_model, "--labels", labels)
        assert done.returncode == 3 and word in done.stderr, done.stderr
    description = eyes / "dataset.json"
    before = description.read_bytes()
    done = meduniseg("classify-fit", eyes, "-o", description, "-m", tiny_model, "--present", "cup")
    assert done.returncode == 2 and "exists already and is not a head" in done.stderr
    assert description.read_bytes() == before
    done = meduniseg("classify-fit", eyes, "-o", tmp_path / "head.safetensors", "-m", tiny_model, "--present", "cup")
    assert done.returncode == 2 and ".json" in done.stderr and not head.exists()
    for file in (eyes / "labelsTr").iterdir():
        file.unlink()
    done = meduniseg("classify-fit", eyes, "-o", head, "-m", tiny_model, "--present", "cup")
    assert done.returncode == 2 and "images of two classes at least, not only none" in done.stderr, done.stderr
