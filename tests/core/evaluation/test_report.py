"""Folders in, one report out: names matched, gaps named, grids checked, means and files right."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from meduniseg_core.errors import BadInputError, CancelledError
from meduniseg_core.evaluation import (
    EMPTY_MASK_POLICY,
    Report,
    bootstrap_interval,
    evaluate_case,
    evaluate_folders,
    summarise,
    write_report,
)
from meduniseg_core.evaluation.writing import is_output
from meduniseg_core.events import CancelToken, Event, Progress
from meduniseg_core.images import Geometry, Image, write_image, write_labels
from meduniseg_core.images.cases import folder_cases

GEOMETRY = Geometry((4, 10, 10), (3.0, 1.0, 1.0))


def label_map(width: int, label: int = 1, geometry: Geometry = GEOMETRY) -> Image:
    ids = np.zeros((1, *geometry.shape), dtype=np.uint8)
    ids[0, :, 2:8, 1 : 1 + width] = label
    return Image(ids, geometry)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three cases of width 4, predicted perfectly, half and not at all (a file, but empty)."""
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    for case, width in (("a_0001", 4), ("b_0002", 2), ("c_0003", 0)):
        write_labels(label_map(width), predictions / f"{case}.nii.gz")
        write_labels(label_map(4), references / f"{case}.nii.gz")
    return predictions, references


def test_dice_is_averaged_over_classes_then_cases(folders: tuple[Path, Path]) -> None:
    report = evaluate_folders(*folders, class_names=["organ", "tumour"])
    assert [case.case for case in report.cases] == ["a_0001", "b_0002", "c_0003"]
    # the tumour is in none of them: 1 each by the policy
    assert [case.dice for case in report.cases] == pytest.approx([1.0, (2 / 3 + 1) / 2, 0.5])
    assert report.dice.mean == pytest.approx((1 + 5 / 6 + 0.5) / 3)
    assert report.dice.mean_2d is None and report.dice.mean_3d == report.dice.mean
    assert [(c.name, round(c.dice, 6)) for c in report.classes] == [("organ", round(5 / 9, 6)), ("tumour", 1.0)]
    assert report.cases[2].classes[0].hd95 == pytest.approx(float(np.linalg.norm((12, 10, 10))))
    assert report.cases[1].classes[0].hd95 == pytest.approx(2.0)
    assert report.cases[1].classes[0].reference_volume == pytest.approx(4 * 6 * 4 * 3 / 1000)


def test_without_names_every_label_that_occurs_counts_in_every_case(folders: tuple[Path, Path]) -> None:
    write_labels(label_map(4, label=7), folders[0] / "a_0001.nii.gz")
    report = evaluate_folders(*folders)
    assert [c.name for c in report.classes] == ["label 1", "label 7"]
    assert report.cases[0].dice == 0.0
    assert report.cases[1].dice == pytest.approx((2 / 3 + 1) / 2)
    named = evaluate_folders(*folders, class_names={1: "organ"})
    assert [c.name for c in named.classes] == ["organ"]
    assert named.notes == ("Labels without a class name were left out: 7.",)


def test_a_missing_prediction_is_named_and_empty_or_refused(folders: tuple[Path, Path]) -> None:
    (folders[0] / "b_0002.nii.gz").unlink()
    write_labels(label_map(4), folders[0] / "extra.nii.gz")
    report = evaluate_folders(*folders, class_names=["organ"])
    assert [case.missing for case in report.cases] == [False, True, False]
    assert report.cases[1].dice == 0.0
    assert report.notes == (
        "Predictions are missing and count as empty: b_0002.",
        "Predictions without a reference were passed over: extra.",
    )
    with pytest.raises(BadInputError, match="no prediction of b_0002"):
        evaluate_folders(*folders, missing="refuse")


def test_other_grids_are_refused_by_name(folders: tuple[Path, Path]) -> None:
    write_labels(label_map(4, geometry=Geometry((5, 10, 10), (2.4, 1.0, 1.0))), folders[0] / "a_0001.nii.gz")
    with pytest.raises(BadInputError, match=r"case a_0001 .*another grid \(5x10x10 voxels of 2\.4"):
        evaluate_folders(*folders)
    moved = Geometry((4, 10, 10), (3.0, 1.0, 1.0), origin=(0.0, 0.5, 0.0))
    write_labels(label_map(4, geometry=moved), folders[0] / "a_0001.nii.gz")
    with pytest.raises(BadInputError, match="a_0001 and its reference lie differently in space"):
        evaluate_folders(*folders)


def test_folders_that_cannot_be_matched_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BadInputError, match="holds no label maps"):
        evaluate_folders(folders[0], empty)
    with pytest.raises(BadInputError, match="has the name of a case"):
        evaluate_folders(empty, folders[1])
    with pytest.raises(BadInputError, match=r"a_0001\.nii\.gz is not a folder; give two folders"):
        evaluate_folders(folders[0] / "a_0001.nii.gz", folders[1])
    file = folders[0] / "a_0001.nii.gz"
    for there in (folders[0], file):
        for sides in ((there, tmp_path / "nowhere"), (tmp_path / "nowhere", there)):
            with pytest.raises(BadInputError, match=r"nowhere does not exist; check the path\."):
                evaluate_folders(*sides)
    write_labels(label_map(4), folders[1] / "a_0001.nrrd")
    with pytest.raises(BadInputError, match="a_0001 is there more than once"):
        evaluate_folders(*folders)


@pytest.mark.parametrize("present", ["a_0001.nii.gz", "a_0001.nrrd"])
def test_of_several_predictions_the_one_that_its_record_lists_is_taken(
    folders: tuple[Path, Path], present: str
) -> None:
    """The format of the reference says nothing: the file of that format may be the one of a run long ago."""
    write_labels(label_map(0), folders[0] / "a_0001.nrrd")
    record = folders[0] / "a_0001.json"
    for content in (None, {}, {"task": "organ", "model_sha256": "", "files": {"a_0001.nii.gz": "", "a_0001.nrrd": ""}}):
        if content is not None:
            record.write_text(json.dumps(content))
        with pytest.raises(BadInputError, match=r"a_0001 is there more than once in .*\(a_0001.nii.gz, a_0001.nrrd\)"):
            evaluate_folders(*folders)
    (other,) = {"a_0001.nii.gz", "a_0001.nrrd"} - {present}
    listed = {"files": {present: ""}, "earlier_files": {other: ""}}
    record.write_text(json.dumps({"task": "organ", "model_sha256": "", **listed}))
    report = evaluate_folders(*folders)
    assert report.cases[0].dice == (1.0 if present == "a_0001.nii.gz" else 0.0)
    (finding,) = report.warnings
    assert f"{present} was taken" in finding.text and f"{other} was left out" in finding.text
    assert finding.text in report.notes


def test_a_report_of_measurements_beside_a_label_map_is_no_label_map(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        (folder / "a_0001.sr.dcm").write_bytes(b"measurements")
        (folder / "more.sr.dcm").write_bytes(b"measurements")
    report = evaluate_folders(*folders)
    assert report.cases[0].dice == 1.0 and report.notes == ()


def test_images_to_draw_on_are_asked_for_before_anything_is_computed(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meduniseg_core.evaluation.folders.evaluate_case", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(BadInputError, match="nowhere is not a folder"):
        evaluate_folders(*folders, images=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match="holds no known image files"):
        evaluate_folders(*folders, images=tmp_path / "empty")


def test_an_image_that_cannot_be_drawn_on_costs_its_background_only(folders: tuple[Path, Path], tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("other.nii.gz", "other.nrrd"):  # there twice, and no case here
        write_labels(label_map(4), images / name)
    cases = [case.case for case in evaluate_folders(*folders).cases]
    for name in cases:
        write_labels(label_map(4), images / f"{name}.nii.gz")
    assert evaluate_folders(*folders, images=images).notes == ()
    (images / f"{cases[0]}.nii.gz").write_bytes(b"damaged")
    write_labels(label_map(4), images / f"{cases[1]}.nrrd")
    (images / f"{cases[2]}.nii.gz").unlink()
    report = evaluate_folders(*folders, images=images)
    assert len(report.pictures) == 3
    told = {name: next(note for note in report.notes if f"case {name} " in note) for name in cases}
    assert "is not a NIfTI file" in told[cases[0]]
    assert "more than once" in told[cases[1]] and "none of this name" in told[cases[2]]


def test_results_among_the_images_are_no_images(folders: tuple[Path, Path], tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for case in evaluate_folders(*folders).cases:
        for ending in ("nii.gz", "nrrd"):
            write_labels(label_map(4), images / f"{case.case}.{ending}")
        listed = {"task": "organ", "model_sha256": "", "files": {f"{case.case}.nrrd": ""}}
        (images / f"{case.case}.json").write_text(json.dumps(listed))
    assert evaluate_folders(*folders, images=images).notes == ()


def test_an_accent_is_one_letter_however_it_is_encoded(folders: tuple[Path, Path]) -> None:
    """macOS stores "é" as two characters: counted as another name, its prediction would be a missing one."""
    (folders[0] / "a_0001.nii.gz").rename(folders[0] / "cafe\u0301.nii.gz")
    (folders[1] / "a_0001.nii.gz").rename(folders[1] / "caf\u00e9.nii.gz")
    report = evaluate_folders(*folders)
    assert report.notes == () and not any(case.missing for case in report.cases)


def test_a_report_among_the_label_maps_is_no_case(folders: tuple[Path, Path]) -> None:
    first = evaluate_folders(*folders)
    for folder in folders:
        assert (write_report(first, folder)["worst"]).is_file()
    again = evaluate_folders(*folders)
    assert [case.case for case in again.cases] == [case.case for case in first.cases] and again.notes == first.notes
    (folders[1] / "report.json").unlink()  # nothing vouches for the picture any more
    with pytest.raises(BadInputError, match=r"\.png is a colour picture"):
        evaluate_folders(*folders)


def test_two_files_are_one_case(folders: tuple[Path, Path]) -> None:
    report = evaluate_folders(folders[0] / "b_0002.nii.gz", folders[1] / "a_0001.nii.gz", surface=False)
    assert [case.case for case in report.cases] == ["a_0001"]
    assert report.dice.mean == pytest.approx(2 / 3)
    assert report.cases[0].classes[0].hd95 is None and report.classes[0].surface_dice is None


def test_2d_images_without_size_are_measured_in_pixels(tmp_path: Path) -> None:
    geometry = Geometry((1, 10, 10), (1.0, 1.0, 1.0))
    for folder, width in (("p", 3), ("r", 4)):
        labels = Image(label_map(width, geometry=geometry).array, geometry, physical=False)
        write_labels(labels, tmp_path / folder / "case.png")
    report = evaluate_folders(tmp_path / "p", tmp_path / "r")
    assert (report.cases[0].dimension, report.cases[0].unit) == (2, "px")
    assert report.dice.mean_2d == pytest.approx(6 / 7) and report.dice.mean_3d is None
    assert report.cases[0].classes[0].hd95 == pytest.approx(1.0)
    assert report.cases[0].classes[0].reference_volume == 24.0


def test_the_files_of_a_report_are_no_images_to_segment(folders: tuple[Path, Path], tmp_path: Path) -> None:
    written = write_report(evaluate_folders(*folders), tmp_path)
    photo = tmp_path / "photo.png"
    shutil.copy(written["worst"], photo)
    assert all(is_output(path) for path in written.values()) and not is_output(photo)
    assert [case.name for case in folder_cases(tmp_path, passed_over=is_output)] == ["photo"]


def test_the_report_is_written_as_json_csv_html_and_pictures(folders: tuple[Path, Path], tmp_path: Path) -> None:
    images = tmp_path / "images"
    noise = np.random.default_rng(0).normal(size=(1, *GEOMETRY.shape)).astype(np.float32)
    for case in ("a_0001", "b_0002", "c_0003"):
        write_image(Image(noise, GEOMETRY), images / f"{case}_0000.nii.gz")
    report = evaluate_folders(*folders, class_names=["<b>organ</b>"], images=images, title="A & B")
    written = write_report(report, tmp_path / "report")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == sorted(p.name for p in written.values())
    assert set(written) == {"json", "csv", "html", "worst", "median", "best"}
    assert [(p.rank, p.case) for p in report.pictures] == [
        ("worst", "c_0003"),
        ("median", "b_0002"),
        ("best", "a_0001"),
    ]
    assert written["worst"].read_bytes().startswith(b"\x89PNG")

    data = json.loads(written["json"].read_text("utf-8"))
    assert data["policy"] == EMPTY_MASK_POLICY
    assert data["dice"]["mean"] == pytest.approx(5 / 9)
    assert "pictures" not in data
    assert Report.model_validate_json(written["json"].read_text("utf-8")).dice == report.dice

    rows = list(csv.DictReader(io.StringIO(written["csv"].read_text("utf-8"))))
    assert [row["case"] for row in rows] == ["a_0001", "b_0002", "c_0003"]
    assert float(rows[1]["dice"]) == pytest.approx(2 / 3, abs=1e-5)

    page = written["html"].read_text("utf-8")
    assert page.count("data:image/png;base64,") == 3
    assert "<b>organ</b>" not in page and "&lt;b&gt;organ&lt;/b&gt;" in page
    assert EMPTY_MASK_POLICY in page and "A &amp; B" in page
    assert "http" not in page and "<script" not in page


def test_pictures_show_the_labels_even_without_images(folders: tuple[Path, Path]) -> None:
    report = evaluate_folders(*folders)
    assert len(report.pictures) == 3
    assert not evaluate_folders(*folders, pictures=False).pictures


def test_progress_is_told_and_cancelling_stops(folders: tuple[Path, Path]) -> None:
    events: list[Event] = []
    evaluate_folders(*folders, pictures=False, events=events.append)
    assert [(e.done, e.total, e.detail) for e in events if isinstance(e, Progress)] == [
        (1, 3, "a_0001"),
        (2, 3, "b_0002"),
        (3, 3, "c_0003"),
    ]
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        evaluate_folders(*folders, cancel=token)


def test_bootstrap_interval_is_seeded_and_covers_the_mean() -> None:
    values = np.random.default_rng(1).normal(0.8, 0.1, size=200)
    interval = bootstrap_interval(list(values))
    assert interval == bootstrap_interval(list(values))
    assert interval.low < values.mean() < interval.high
    # the normal approximation: 1.96 standard errors either side
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.15)
    assert bootstrap_interval([0.5]).low == 0.5
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_interval([])


def test_means_of_2d_and_3d_are_kept_apart() -> None:
    summary = summarise([(0.9, 2), (0.7, 2), (0.2, 3)])
    assert (summary.mean, summary.mean_2d, summary.mean_3d) == pytest.approx((0.6, 0.8, 0.2))


def test_evaluate_case_from_memory() -> None:
    scores = evaluate_case(label_map(4), label_map(4), {1: "organ", 2: "tumour"})
    assert [(c.name, c.dice, c.hd95, c.surface_dice) for c in scores.classes] == [
        ("organ", 1.0, 0.0, 1.0),
        ("tumour", 1.0, 0.0, 1.0),
    ]
    assert evaluate_case(None, label_map(0)).dice == 1.0
