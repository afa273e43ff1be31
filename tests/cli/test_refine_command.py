"""``meduniseg refine`` and ``meduniseg models packs``: from a weak task to a pack in use, and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_inputs import save_tiny_model, write_dataset

from meduniseg_core.corrections import Ledger
from meduniseg_core.evaluation import CaseScores, ClassScores, Report
from meduniseg_core.evaluation.writing import write_report
from meduniseg_core.files import sha256_of
from meduniseg_core.images import read_image, read_labels

QUICK = ("--iterations", 50, "--rank", 2, "--device", "cpu", "--precision", "fp32", "--json")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data folder of each test's own."""
    return tmp_path / "home"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "tiny.safetensors")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Of the base's task 'organ'."""
    folder = write_dataset(tmp_path / "Dataset001_Organ", ("a", "b", "c", "d"))
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "task": "organ", "modality": "mri"}))
    return folder


def segmented(meduniseg, dataset: Path, base: Path, folder: Path, task: str, *options: object) -> tuple[dict, Path]:
    done = meduniseg(
        "segment", dataset / "imagesTr", "-o", folder, "--model", base, "--task", task, "--device", "cpu",
        "--precision", "fp32", *options, "--json"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), folder / "a.nii.gz"


def voxels(path: Path) -> np.ndarray:
    return read_labels(path).array


def test_a_task_is_refined_taken_into_use_and_out_again(meduniseg, dataset, base, home, tmp_path) -> None:
    before = sha256_of(base)
    done = meduniseg("refine", dataset, "--base", base, "-o", "better", *QUICK)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["pack"] == str(home / "runs" / "better" / "run" / "better.safetensors")
    assert answer["installed"] is True and answer["in_use_for"] == []
    assert set(answer["gate"]) == {"organ"} and Path(answer["gate"]["organ"]["html"]).is_file()

    _, plain = segmented(meduniseg, dataset, base, tmp_path / "before", "organ")
    done = meduniseg("models", "packs", "activate", "better", "--json")
    assert json.loads(done.stdout) == {"name": "better", "in_use_for": ["organ"]}
    listed = json.loads(meduniseg("models", "packs", "list", "--json").stdout)["packs"]
    assert [(pack["name"], pack["tasks"], pack["in_use_for"]) for pack in listed] == [("better", ["organ"], ["organ"])]
    report, refined = segmented(meduniseg, dataset, base, tmp_path / "after", "organ")
    assert report["packs"]["organ"]["name"] == "better" and report["results"][0]["pack"] == "better"
    record = json.loads(refined.with_name("a.json").read_text())
    assert record["pack_sha256"] == report["packs"]["organ"]["sha256"] == sha256_of(Path(answer["pack"]))
    assert not np.array_equal(voxels(plain), voxels(refined))
    report, alone = segmented(meduniseg, dataset, base, tmp_path / "alone", "organ", "--no-packs")
    assert report["packs"] == {} and np.array_equal(voxels(plain), voxels(alone))
    report, _ = segmented(meduniseg, dataset, base, tmp_path / "other", "vessel")
    assert report["packs"] == {}

    for side in ("before", "after"):
        words = (tmp_path / side, dataset / "labelsTr", "-o", tmp_path / "reports" / side / "any")
        assert meduniseg("evaluate", *words).returncode == 0
    done = meduniseg("refine", "--suggest", tmp_path / "reports" / "before", tmp_path / "reports" / "after", "--json")
    (gap,) = json.loads(done.stdout)["tasks"]
    assert (gap["task"], gap["cases"]) == ("organ", 4), "the report knows its task from the data set"

    assert meduniseg("models", "packs", "deactivate", "better").returncode == 0
    report, off = segmented(meduniseg, dataset, base, tmp_path / "off", "organ")
    assert report["packs"] == {} and np.array_equal(voxels(plain), voxels(off))
    report, named = segmented(meduniseg, dataset, base, tmp_path / "named", "organ", "--pack", "better")
    assert np.array_equal(voxels(refined), voxels(named))
    assert sha256_of(base) == before


def test_the_merged_model_segments_like_base_and_pack(meduniseg, dataset, base, tmp_path) -> None:
    done = meduniseg("refine", dataset, "--base", base, "-o", "better", "--no-gate", *QUICK)
    pack = json.loads(done.stdout)["pack"]
    merged = tmp_path / "merged.safetensors"
    done = meduniseg("models", "export", base, "--pack", pack, "-o", merged, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"name": str(base), "path": str(merged)}
    _, theirs = segmented(meduniseg, dataset, base, tmp_path / "theirs", "organ", "--pack", pack)
    _, ours = segmented(meduniseg, dataset, merged, tmp_path / "ours", "organ")
    assert np.mean(voxels(theirs) != voxels(ours)) < 1e-3
    assert meduniseg("models", "export", base, "--pack", pack, "-o", merged).returncode == 2  # it is there already


def test_a_run_of_refinement_is_listed_adopted_and_kept_from_being_discarded(meduniseg, dataset, base, home) -> None:
    done = meduniseg("refine", dataset, "--base", base, "-o", "better", "--no-install", *QUICK)
    assert done.returncode == 0 and json.loads(done.stdout)["installed"] is False, done.stderr
    listed = json.loads(meduniseg("runs", "list", "--json").stdout)["runs"]
    assert [(run["name"], run["kind"], run["task"], run["state"]) for run in listed] == [
        ("better", "refine", "organ", "finished")
    ]
    done = meduniseg("runs", "gate", "better", "--device", "cpu", "--precision", "fp32", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["candidate"] == "better", done.stderr
    done = meduniseg("runs", "adopt", "better", "--anyway", "--json")
    assert done.returncode == 0, done.stderr
    (pack,) = json.loads(meduniseg("models", "packs", "list", "--json").stdout)["packs"]
    assert pack["in_use_for"] == ["organ"]
    done = meduniseg("runs", "discard", "better")
    assert done.returncode == 2 and "in use for organ" in done.stderr
    assert meduniseg("models", "packs", "remove", "better").returncode == 0
    assert meduniseg("runs", "discard", "better").returncode == 0
    assert not (home / "runs" / "better").exists()


def test_a_pack_goes_out_and_in_again_and_an_altered_one_is_refused(meduniseg, dataset, base, tmp_path) -> None:
    meduniseg("refine", dataset, "--base", base, "-o", "better", "--no-gate", "--activate", *QUICK)
    given = tmp_path / "given.safetensors"
    assert meduniseg("models", "packs", "export", "better", "-o", given).returncode == 0
    details = json.loads(meduniseg("models", "packs", "info", given, "--json").stdout)
    assert details["base"] == "tiny" and details["base_sha256"] == sha256_of(base) and details["rank"] == 2
    assert "refines: organ of tiny" in meduniseg("models", "packs", "info", "better").stdout
    assert meduniseg("models", "packs", "remove", "better").returncode == 0
    done = meduniseg("models", "packs", "install", given, "--sha256", sha256_of(given), "--json")
    assert json.loads(done.stdout)["in_use_for"] == [], "installing takes nothing into use"
    assert meduniseg("models", "packs", "activate", "better").returncode == 0
    assert json.loads(meduniseg("models", "packs", "verify", "better", "--json").stdout)["recorded"]
    data = given.read_bytes()
    given.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    installed = Path(json.loads(done.stdout)["path"])
    installed.write_bytes(given.read_bytes())
    for words in (
        ("models", "packs", "verify", "better"),
        ("segment", dataset / "imagesTr", "-o", tmp_path / "out", "--model", base, "--task", "organ"),
    ):
        done = meduniseg(*words)
        assert done.returncode == 3 and "altered since it was installed" in done.stderr
    given.write_bytes(data[:-30])
    done = meduniseg("models", "packs", "install", given)
    assert done.returncode == 3 and str(given) in done.stderr and "Traceback" not in done.stderr


def test_a_pack_of_another_base_and_requests_that_contradict_themselves(meduniseg, dataset, base, tmp_path) -> None:
    done = meduniseg("refine", dataset, "--base", base, "-o", "better", "--no-gate", *QUICK)
    pack = json.loads(done.stdout)["pack"]
    other = save_tiny_model(tmp_path / "other.safetensors", "other")
    words = ("segment", dataset / "imagesTr", "-o", tmp_path / "out", "--device", "cpu", "--task", "organ")
    done = meduniseg(*words, "--model", other, "--pack", pack)
    assert done.returncode == 3 and "use that base" in done.stderr
    done = meduniseg(*words, "--model", base, "--pack", pack, "--no-packs")
    assert done.returncode == 2 and "exclude each other" in done.stderr
    done = meduniseg(*words[:-1], "vessel", "--model", base, "--pack", pack)
    assert done.returncode == 2 and "refines organ" in done.stderr
    done = meduniseg("refine", dataset, "--base", base, "-o", "better", *QUICK)
    assert done.returncode == 2 and "There is a pack 'better' already" in done.stderr
    done = meduniseg("refine", dataset, "--base", base, "-o", "new", "--tasks", "vessel", *QUICK)
    assert done.returncode == 2 and "No data set holds the task 'vessel'" in done.stderr
    done = meduniseg("refine", "--base", base, "-o", "new", "--tasks", "organ")
    assert done.returncode == 2 and "No data set holds the task 'organ' (there is: nothing)" in done.stderr
    done = meduniseg("refine", "--base", base, "-o", "new")
    assert done.returncode == 2 and "Name the data sets" in done.stderr
    done = meduniseg("refine", dataset, "--base", base, "-o", "no name")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    done = meduniseg("refine", dataset, "--base", base, "-o", "new", "--resume", *QUICK)
    assert done.returncode == 3 and "no checkpoint to resume from" in done.stderr


def test_without_data_sets_the_user_s_own_corrections_are_learned_from(meduniseg, dataset, base, home) -> None:
    ledger = Ledger.create(
        home / "corrections" / "mine", task="organ", modality="mri", classes=("blob",), channels=("image",)
    )
    for case in "abcd":
        labels = read_labels(dataset / "labelsTr" / f"{case}.nii.gz")
        ledger.accept(read_image(dataset / "imagesTr" / f"{case}_0000.nii.gz"), labels, patient=case)
    done = meduniseg("refine", "--base", base, "--tasks", "organ", "-o", "better", "--no-gate", *QUICK)
    assert done.returncode == 0, done.stderr
    split = json.loads((home / "runs" / "better" / "run" / "split.json").read_text())["organ"]
    assert len(split["train"]) + len(split["validation"]) == 4 and split["validation"]
    assert dict.fromkeys(split["validation"], "validation").items() <= ledger.split().items()


def test_suggest_says_which_tasks_are_behind(meduniseg, tmp_path) -> None:
    for side, values in (
        ("mine", {"liver": (0.5, 0.6), "skin": (0.9, 0.8)}),
        ("singles", {"liver": (0.8, 0.8), "skin": (0.8, 0.9)}),
    ):
        for task, dice in values.items():
            cases = tuple(
                CaseScores(
                    case=f"case_{index}",
                    dimension=2,
                    unit="px",
                    classes=(
                        ClassScores(label=1, name="x", dice=value, hd95=None, surface_dice=None,
                                    prediction_volume=1, reference_volume=1),
                    ),
                )
                for index, value in enumerate(dice)
            )  # fmt: skip
            write_report(Report(task=task, tolerance=2.0, cases=cases), tmp_path / side / task)
    words = ("refine", "--suggest", tmp_path / "mine", tmp_path / "singles")
    found = json.loads(meduniseg(*words, "--json").stdout)
    assert found["suggested"] == ["liver"] and [entry["task"] for entry in found["tasks"]] == ["liver", "skin"]
    assert found["tasks"][0]["gap"] == pytest.approx(0.25) and found["tasks"][0]["under_performing"] is True
    assert found["tasks"][0]["worst"][0] == {"case": "case_0", "dice": 0.5, "reference_dice": 0.8}
    done = meduniseg(*words)
    assert "Clearly behind: liver" in done.stdout and "case_0 (0.50, 0.80)" in done.stderr
    done = meduniseg(*words, "-o", "name")
    assert done.returncode == 2 and "--suggest only reads" in done.stderr
