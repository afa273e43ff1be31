"""The JSON file beside a label file: it records where the labels come from and lists the files it vouches for
(`outputs`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from meduniseg_core.errors import MedUniSegError
from meduniseg_core.files import sha256_of
from meduniseg_core.former_results import Content, ResultKind, read_record
from meduniseg_core.images.formats import stem_of
from meduniseg_core.images.label_record import (
    PROBABILITIES,
    Provenance,
    probabilities_name,
    provenance_path,
    read_provenance,
)

if TYPE_CHECKING:
    from meduniseg_core.images import Image

__all__ = [
    "IMAGE_SHA256",
    "RESULT",
    "Provenance",
    "image_entries",
    "is_result",
    "joint_task",
    "label_provenance",
    "probabilities_name",
    "provenance_path",
    "read_provenance",
    "recorded_task",
]

_SAME_MOMENT = 2.0  # seconds between writing a label map and its JSON
IMAGE_SHA256 = "image_sha256"
"""The JSON's key for the hash of the segmented image (`Image.sha256`); older files do not have it."""


def label_provenance(path: Path) -> Provenance | None:
    """Read the provenance of a label file.

    Args:
        path: an image or label file.

    Returns:
        The provenance; None if no JSON of ours beside it lists it (an image of the same name in another format, say).
    """
    return read_provenance(path) if path.is_file() and is_result(path) else None


def is_result(path: Path, *, earlier: bool = True) -> bool:
    """Whether a file is a result of this program.

    Args:
        path: the file.
        earlier: whether a file of an earlier run counts, which the present result of its name left there.

    Returns:
        True if a JSON of ours beside it lists it among the files that were written with it.
    """
    stem = stem_of(path)
    for name in {stem, stem.removesuffix(PROBABILITIES)}:
        record = path.with_name(f"{name}.json")
        content = read_record(record)
        if recorded_task(content) is not None and path.name in RESULT.vouched(record, content, earlier=earlier):
            return True
    return False


def recorded_task(content: Content) -> str | None:
    """The task recorded in the JSON of a label file.

    Args:
        content: the content of a JSON file.

    Returns:
        The task's name; None for any other content.
    """
    task = content.get("task")
    return task if isinstance(task, str) and "model_sha256" in content else None


def joint_task(tasks: Sequence[str]) -> str:
    """What is recorded as the task of one result of several tasks.

    Args:
        tasks: their names.

    Returns:
        The names with commas, as ``--task`` takes them.
    """
    return ",".join(tasks)


def _vouched_before(record: Path, content: Content) -> dict[str, str]:
    """A JSON written before the key "files" existed vouches for the one label map of its name, if its labels fit its
    task.

    There is no hash to compare, so the label map counts as edited if it is younger than its JSON.
    """
    from meduniseg_core.images import read_labels
    from meduniseg_core.images.writing import LABEL_ENDINGS

    beside = [record.with_name(f"{record.name.removesuffix('.json')}{ending}") for ending in LABEL_ENDINGS]
    there = [path for path in beside if path.is_file()]
    if len(there) != 1:
        return {}
    (label,) = there
    try:
        if int(read_labels(label).array.max()) > len(content.get("classes") or ()):
            return {}
        younger = label.stat().st_mtime > record.stat().st_mtime + _SAME_MOMENT
        return {label.name: "" if younger else sha256_of(label)}
    except (OSError, TypeError, MedUniSegError):
        return {}


def image_entries(image: Image) -> dict[str, str]:
    """The entries of the JSON that identify the image.

    Args:
        image: the segmented image.

    Returns:
        The name of its file, for people, and its hash.
    """
    return {"image": image.name, IMAGE_SHA256: image.sha256}


def _of_another_image(there: Content, new: Content) -> str | None:
    """Keep the result of another image: two runs that write into one folder would otherwise replace each other's
    results."""
    known, ours = there.get(IMAGE_SHA256), new.get(IMAGE_SHA256)
    if not (isinstance(known, str) and isinstance(ours, str)) or known == ours:
        return None
    return (
        f"is the result of another image ({_called(there, known)}) than this one ({_called(new, ours)}) and is kept; "
        "choose another folder, or delete that result first."
    )


def _called(content: Content, digest: str) -> str:
    name = "".join(letter if letter.isprintable() else " " for letter in str(content.get("image") or "no name")[:80])
    return f"{name}, sha256 {digest[:12]}"


RESULT = ResultKind(
    is_ours=lambda content: recorded_task(content) is not None,
    vouched_before=_vouched_before,
    keeps_from=_of_another_image,
)
"""Label files with their JSON."""
