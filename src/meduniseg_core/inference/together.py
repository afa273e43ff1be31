"""The results of several tasks on one image, written as one DICOM object with one JSON beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meduniseg_core.dicom_objects.formats import placed_writers
from meduniseg_core.dicom_objects.labelled import Segment
from meduniseg_core.former_results import Standing, identities
from meduniseg_core.images.findings import merge
from meduniseg_core.inference.segmentation import Segmentation
from meduniseg_core.outputs import write_result
from meduniseg_core.provenance import RESULT, joint_task, provenance_path


def save_together(
    results: Sequence[Segmentation], path: Path, *, before: Standing | None = None, replace_edited: bool = False
) -> Path:
    """Write the results of several tasks on one image as one DICOM object, and their provenance beside it.

    Args:
        results: the results of one image, without probabilities.
        path: the file; its ending says which object (`dicom_objects.DICOM_FORMATS`).
        before: what was there when the work began (`former_results.standing`).
        replace_edited: also replace a result that was edited since it was written.

    Returns:
        The path.

    Raises:
        UsageError: the library for DICOM objects is missing, or something that is not to be replaced is in the way.
        BadInputError: the image was not read from DICOM or its headers do not allow the object, or the result of
            another image is there.
        UnwritableError: the folder cannot be written to.
    """
    labels, writers = placed_writers([result.labelled_series() for result in results], path)
    write_result(
        provenance_path(path),
        _provenance(results, labels.segments),
        writers,
        RESULT,
        inputs=identities(results[0].image.files),
        before=before,
        replace_edited=replace_edited,
    )
    return path


def _provenance(results: Sequence[Segmentation], segments: Sequence[Segment]) -> dict[str, Any]:
    """That of a single result, for all: classes by the number of their segment; under "tasks" each task's own."""
    own = [result.provenance() for result in results]
    first = own[0]
    packs = dict.fromkeys(result.pack for result in results if result.pack is not None)
    worst = min(results, key=lambda result: -1.0 if result.quality is None else result.quality.dice)
    return {
        **first,
        "task": joint_task([result.task for result in results]),
        "modality": ",".join(dict.fromkeys(result.modality for result in results)),
        "model": ",".join(dict.fromkeys(result.model for result in results)),
        "model_sha256": ",".join(dict.fromkeys(result.model_sha256 for result in results)),
        "pack": ",".join(packs) or None,
        "pack_sha256": ",".join(dict.fromkeys(result.pack_sha256 or "" for result in results if result.pack)) or None,
        "classes": {str(segment.number): segment.name for segment in segments},
        "colours": {str(segment.number): list(segment.colour) for segment in segments},
        "measurements": {
            str(segment.number): own[segment.part]["measurements"][str(segment.label)] for segment in segments
        },
        "seconds": round(sum(result.seconds for result in results), 3),
        "warnings": [finding.as_json() for finding in merge(*(result.findings for result in results))],
        "quality": worst.quality_record,
        "tasks": {result.task: record for result, record in zip(results, own, strict=True)},
    }
