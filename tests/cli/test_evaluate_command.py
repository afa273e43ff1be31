"""``meduniseg evaluate``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from meduniseg_core.images import Geometry, Image, write_labels
from training_cli.main import main

SHAPE = (4, 8, 8)


def label_map(path: Path, width: int) -> None:
    """Class 1 in the first ``width`` columns."""
    array = np.zeros((1, *SHAPE), np.uint8)
    array[..., :width] = 1
    write_labels(Image(array, Geometry(SHAPE, (1.0, 1.0, 1.0))), path)


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    predictions, references = tmp_path / "predictions", tmp_path / "Dataset001_Blob" / "labelsTs"
    for folder, widths in ((predictions, (4, 2)), (references, (4, 4))):
        folder.mkdir(parents=True)
        for case, width in zip("ab", widths, strict=True):
            label_map(folder / f"{case}.nii.gz", width)
    return predictions, references


def test_the_report_as_json(folders, capsys) -> None:
    assert main(("evaluate", *map(str, folders), "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert [case["classes"][0]["dice"] for case in report["cases"]] == pytest.approx([1.0, 2 / 3])
    assert report["dice"]["mean"] == pytest.approx(5 / 6)
    assert report["files"] == {}


def test_class_names_come_from_the_data_set_beside_the_references(folders, capsys) -> None:
    description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "blob": 1}, "file_ending": ".nii.gz"}
    (folders[1].parent / "dataset.json").write_text(json.dumps(description))
    assert main(("evaluate", *map(str, folders), "--json")) == 0
    assert json.loads(capsys.readouterr().out)["classes"][0]["name"] == "blob"
    assert main(("evaluate", *map(str, folders), "--json", "--classes", "liver")) == 0
    assert json.loads(capsys.readouterr().out)["classes"][0]["name"] == "liver"


def test_the_report_folder(folders, tmp_path, capsys) -> None:
    assert main(("evaluate", *map(str, folders), "-o", str(tmp_path / "report"))) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("Mean Dice 0.8333")
    assert {"report.json", "report.csv", "report.html"} <= {Path(line).name for line in printed[1:]}
    assert all(Path(line).is_file() for line in printed[1:])


def test_a_missing_prediction_counts_as_empty_or_is_refused(folders, capsys) -> None:
    (folders[0] / "b.nii.gz").unlink()
    assert main(("evaluate", *map(str, folders), "--json")) == 0
    assert json.loads(capsys.readouterr().out)["dice"]["mean"] == pytest.approx(0.5)
    assert main(("evaluate", *map(str, folders), "--refuse-missing")) == 3
    assert "b" in capsys.readouterr().err


def test_an_empty_name_between_two_commas_is_refused_because_it_would_shift_the_others(meduniseg, tmp_path) -> None:
    done = meduniseg("evaluate", tmp_path, tmp_path, "--classes", "liver,,kidney")
    assert done.returncode == 2 and "nothing between two commas" in done.stderr


def test_two_classes_of_one_name_are_refused(meduniseg, tmp_path) -> None:
    done = meduniseg("evaluate", tmp_path, tmp_path, "--classes", "cup, cup")
    assert done.returncode == 2 and "The class 'cup' is named twice" in done.stderr


@pytest.mark.parametrize(("option", "wants"), [(("--overlap", "0.1"), "--boxes"), (("--images", "."), "--output")])
def test_an_option_that_would_do_nothing_is_refused(folders, capsys, option, wants) -> None:
    assert main(("evaluate", *map(str, folders), *option)) == 2
    said = capsys.readouterr()
    assert wants in said.err and not said.out


def test_a_label_map_without_orientation_is_told_of_no_option_that_evaluate_lacks(meduniseg, tmp_path) -> None:
    array = np.zeros((8, 8, 4), np.uint8)
    array[:4] = 1
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(array, None), path)
    done = meduniseg("evaluate", path, path, "--progress", "none")
    assert done.returncode == 0 and "save it with its orientation" in done.stderr
    assert "--assume-orientation" not in meduniseg("evaluate", "--help").stdout
    assert "--assume-orientation" not in done.stderr


def test_reports_become_the_paper_s_table(folders, tmp_path, capsys) -> None:
    predictions, references = folders
    description = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "spleen": 1}, "file_ending": ".nii.gz"}
    (references.parent / "dataset.json").write_text(json.dumps({**description, "task": "spleen"}))
    run = tmp_path / "mine"
    assert main(("evaluate", str(predictions), str(references), "-o", str(run / "spleen"))) == 0
    capsys.readouterr()
    assert main(("paper-table", str(run))) == 0
    printed = capsys.readouterr().out
    assert "mine" in printed and "MedUniSeg 80.5" in printed
    rows = [line for line in printed.splitlines() if line.startswith(("Spleen", "3D mean"))]
    assert len(rows) == 2 and all(re.search(r" 83\.3 \[\d+\.\d, \d+\.\d\]$", row) for row in rows)
    assert "1 of the paper's 17 data sets" in printed
    assert re.search(r"Not measured on the paper's test images, by their number: Spleen \(\d+, not \d+\)\.", printed)
    assert main(("paper-table", str(run), "--json")) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    assert table["rows"][0]["scores"] == [pytest.approx(100 * 5 / 6)]
    assert main(("paper-table", str(tmp_path / "nowhere"))) == 3


def test_warnings_are_printed_however_little_progress_is_shown(meduniseg, tmp_path) -> None:
    for folder in ("predictions", "references"):
        (tmp_path / folder).mkdir()
        empty = Image(np.zeros((1, 3, 4, 5), np.uint8), Geometry((3, 4, 5), (1, 1, 1)))
        write_labels(empty, tmp_path / folder / "a.nii.gz")
    done = meduniseg("evaluate", tmp_path / "predictions", tmp_path / "references", "--progress", "none")
    assert done.returncode == 0 and "holds any label" in done.stderr and "evaluate: " not in done.stderr
