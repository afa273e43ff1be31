"""``meduniseg evaluate``: compares predictions with references; shows scores and writes a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meduniseg_core.errors import UsageError
from meduniseg_core.events import Message
from training_cli.options import DrawnOn, Json, ProgressOption, a_folder, split_names
from training_cli.output import table
from training_cli.session import work

if TYPE_CHECKING:
    from rich.table import Table

    from meduniseg_core.evaluation import Report
    from meduniseg_core.preprocessing import RawDataset


def evaluate(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS", help="Folder of label maps CASE.ext, or one file.")
    ],
    references: Annotated[
        Path, typer.Argument(metavar="REFERENCES", help="Folder of reference label maps, or one file.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            callback=a_folder,
            metavar="REPORT_DIR",
            help="Folder for report.html, report.json and report.csv.",
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            metavar="A,B,...",
            help="Names of labels 1, 2, ... Default: those of REFERENCES' dataset.json, else all labels found.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="DIR", help="With --output: folder of images to draw the pictures on."),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance", min=0.0, help="Tolerance of the surface Dice in mm (pixels for images without a voxel size)."
        ),
    ] = 2.0,
    boxes: Annotated[
        bool,
        typer.Option("--boxes", help="Also compare the lists of boxes beside the predictions (segment --boxes)."),
    ] = False,
    overlap: Annotated[
        float | None,
        typer.Option(
            "--overlap",
            metavar="IOU",
            min=0.0,
            max=1.0,
            help="With --boxes: the IoU that counts as found. Default: 0.1.",
        ),
    ] = None,
    refuse_missing: Annotated[
        bool, typer.Option("--refuse-missing", help="Treat a missing prediction as an error, not as an empty one.")
    ] = False,
    drawn_on: DrawnOn = None,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> None:
    """Compare label maps with references: overlap, surfaces, lesions and volume of each class, and mean Dice."""
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.corrections.schema import check_classes
        from meduniseg_core.evaluation import evaluate_folders, write_report
        from meduniseg_core.evaluation.writing import report_standing

        least = _least_overlap(overlap, boxes)
        if images is not None and output is None:
            raise UsageError("--images is for the pictures of a report; give its folder (--output), or leave it out.")
        before = report_standing(output) if output is not None else None
        dataset = _dataset_of(references)
        names = check_classes(split_names(classes)) if classes is not None else _classes_of(dataset)
        report = evaluate_folders(
            predictions,
            references,
            class_names=names,
            ignored=dataset.ignored if dataset is not None else None,
            images=images,
            missing="refuse" if refuse_missing else "empty",
            tolerance=tolerance,
            boxes=least,
            pictures=output is not None,
            title=f"{predictions} against {references}",
            task=dataset.task if dataset is not None else "",
            drawn_on=drawn_on,
            events=session.events,
            cancel=session.cancel,
        )
        files = write_report(report, output, before=before) if output is not None else {}
        session.show(_table(report))
        if report.detection:
            session.show(_detection_table(report))
        for note in report.notes:
            session.show(note)
        if session.quiet and not session.as_json:  # nothing was shown
            for note in report.notes:
                session.events(Message("warning", note))
        interval = report.interval
        mean = (
            f"Mean Dice {report.dice.mean:.4f} ({interval.confidence:.0%} interval {interval.low:.4f} to "
            f"{interval.high:.4f}, {len(report.cases)} cases)"
        )
        session.result(
            {**json.loads(report.json_text()), "files": files}, mean, *(str(path) for path in files.values())
        )


def _dataset_of(references: Path) -> RawDataset | None:
    """The data set whose labels ``references`` is the folder of (or one file of), if it is one's."""
    from meduniseg_core.preprocessing import RawDataset

    folder = references if references.is_dir() else references.parent
    if folder.name in ("labelsTr", "labelsTs") and (folder.parent / "dataset.json").is_file():
        return RawDataset.open(folder.parent)
    return None


def _classes_of(dataset: RawDataset | None) -> tuple[str, ...] | None:
    return None if dataset is None else dataset.classes


def _table(report: Report) -> Table:
    columns = ("class", "Dice", "WDice", "surface Dice", "HD95", "lesion F1", "volume error")
    rows = [
        (
            entry.name,
            f"{entry.dice:.4f}",
            f"{entry.weighted_dice:.4f}",
            _number(entry.surface_dice, 4),
            _number(entry.hd95, 2),
            _number(entry.lesion_f1, 4),
            _number(entry.volume_error, 2),
        )
        for entry in report.classes
    ]
    return table(columns, rows, right=columns[1:])


def _least_overlap(overlap: float | None, boxes: bool) -> float | None:
    """The IoU that counts as found; None where no boxes are compared."""
    if not boxes:
        if overlap is not None:
            raise UsageError("--overlap is for the lists of boxes; give --boxes, too, or leave it out.")
        return None
    from meduniseg_core.evaluation.detection import OVERLAP

    if overlap == 0:
        raise UsageError("With an IoU of 0 every candidate would find a lesion; give --overlap above 0.")
    return OVERLAP if overlap is None else overlap


def _detection_table(report: Report) -> Table:
    columns = ("class", "lesions", "candidates", "found", "F1", "average precision", "FROC")
    rows = [
        (
            one.name,
            str(one.lesions),
            str(one.candidates),
            str(one.found),
            f"{one.f1:.4f}",
            _number(one.average_precision, 4),
            _number(one.froc, 4),
        )
        for one in report.detection
    ]
    return table(columns, rows, right=columns[1:], title="Detection")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
