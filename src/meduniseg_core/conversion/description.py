"""``dataset.json`` of a converted data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meduniseg_core.conversion.record import Record
from meduniseg_core.conversion.table import BACKGROUND, Conversion
from meduniseg_core.files import write_text
from meduniseg_core.structured_text import json_text


def write_description(conversion: Conversion, folder: Path, record: Record) -> None:
    """Write ``dataset.json``, where it is not as it should be already.

    Besides nnU-Net's keys it has ``modality``, ``task``, ``patient_of`` (for splits by patient) and ``source_of`` (the
    site or source of each case).

    Args:
        conversion: The data set.
        folder: Its folder.
        record: Its cases.
    """
    cases = {name: case for name, case in sorted(record.cases.items()) if case.outputs}
    task = conversion.task
    content: dict[str, Any] = {
        "name": conversion.name,
        "description": task.title,
        "reference": conversion.page,
        "licence": conversion.licence,
        "channel_names": {str(number): name for number, name in enumerate(task.channels)},
        "labels": {BACKGROUND: 0, **{name: number for number, name in enumerate(task.classes, start=1)}},
        "numTraining": sum(case.subset == "train" for case in cases.values()),
        "file_ending": conversion.ending,
        "modality": task.modality,
        "task": task.name,
        "patient_of": {name: case.patient for name, case in cases.items() if case.patient != name},
        "source_of": {name: case.site for name, case in cases.items() if case.site is not None},
    }
    text = json_text({key: value for key, value in content.items() if value != {}})
    path = folder / "dataset.json"
    if not path.is_file() or path.read_text("utf-8") != text:
        write_text(path, text)
