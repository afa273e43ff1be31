"""The results of ``segment`` as data for JSON and as a table for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training_cli.output import table

if TYPE_CHECKING:
    from rich.table import Table

    from meduniseg_core.inference import Segmentation

_UNITS = {"ml": "ml", "mm2": "mm²", "pixels": "px"}


@dataclasses.dataclass(frozen=True)
class Result:
    """One written label file: what it shows, and where it is."""

    case: str
    path: Path
    report: dict[str, Any]

    @property
    def warnings(self) -> list[dict[str, Any]]:
        """Its findings, with case and task."""
        lead = {"case": self.case, "task": self.report["task"]}
        return [{**lead, **finding} for finding in self.report["warnings"]]


def verdicts(results: Iterable[Result]) -> list[str]:
    """What results say of themselves, the worst first; then, once, the tasks that no model is calibrated for."""
    every = [(result, result.report["quality"]) for result in results]
    said = [entry for entry in every if entry[1]["calibrated"]]
    said.sort(key=lambda entry: float(entry[1]["dice"]))
    lines = [f"{result.case} ({result.report['task']}): {quality['sentence']}" for result, quality in said]
    unknown = {result.report["task"]: quality["sentence"] for result, quality in every if not quality["calibrated"]}
    for sentence in dict.fromkeys(unknown.values()):
        lines.append(f"{', '.join(task for task, own in unknown.items() if own == sentence)}: {sentence}")
    return lines


def result_of(case: str, path: Path, segmentation: Segmentation) -> Result:
    """What is kept of a segmentation once it is written: numbers, no voxels."""
    from meduniseg_core.images.instances import boxes_name

    report = {
        "case": case,
        "task": segmentation.task,
        "modality": segmentation.modality,
        "model": segmentation.model,
        "pack": segmentation.pack,
        "labels": path,
        "seconds": round(segmentation.seconds, 3),
        "ran_on": segmentation.execution,
        "classes": [dataclasses.asdict(row) for row in segmentation.table()],
        "warnings": [finding.as_json() for finding in segmentation.findings],
        "quality": segmentation.quality_record,
    }
    if segmentation.instances is not None:
        report["boxes"] = path.with_name(boxes_name(path))
        report["instances"] = [dataclasses.asdict(one) for one in segmentation.instances]
    return Result(case, path, report)


def results_table(results: Iterable[Result]) -> Table:
    """Classes, voxels and sizes of every result; case, task and time stand in the first row of each."""
    rows: list[tuple[str, ...]] = []
    for result in results:
        report = result.report
        lead: tuple[str, ...] = (result.case, report["task"])
        tail = f"{report['seconds']:.2f} s"
        for row in report["classes"]:
            size = f"{row['size']:,.0f}" if row["unit"] == "pixels" else f"{row['size']:,.2f}"
            rows.append((*lead, row["name"], f"{row['voxels']:,}", size, _UNITS[row["unit"]], tail))
            lead, tail = ("", ""), ""
    columns = ("case", "task", "class", "voxels", "size", "unit", "time")
    return table(columns, rows, right=("voxels", "size", "time"))
