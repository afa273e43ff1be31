"""Results as a BIDS derivative: https://bids-specification.readthedocs.io, "Derivatives", "Segmentations".

``sub-01_ses-2_T1w.nii.gz`` becomes ``sub-01/ses-2/anat/sub-01_ses-2_seg-spleen_desc-T1w_dseg.nii.gz``, with the JSON
of a result as its sidecar and a lookup table beside it.
"""

from __future__ import annotations

import re
from pathlib import Path

from meduniseg_core.errors import UsageError
from meduniseg_core.files import write_text, writing_into
from meduniseg_core.former_results import read_record
from meduniseg_core.structured_text import json_text
from meduniseg_core.version import __version__

BIDS_VERSION = "1.9.0"
DESCRIPTION = "dataset_description.json"

_NAME = re.compile(r"sub-[A-Za-z0-9]+(?:_[a-z]+-[A-Za-z0-9+]+)*(?:_([A-Za-z0-9]+))?")
_ENTITY = re.compile(r"(?:^|_)([a-z]+)-([A-Za-z0-9+]+)")
_AFTER_SEGMENTATION = ("res", "den", "label", "desc")
_DATATYPES = {"pet": "pet", "pathology": "micr"}


def bids_stem(case: str, task: str, modality: str) -> tuple[Path, str]:
    """Name the result of a case.

    Args:
        case: the case's name; one that is no BIDS name becomes a subject of that name.
        task: the task.
        modality: the task's modality, which chooses the folder (``anat``, ``pet`` or ``micr``).

    Returns:
        The folder relative to the derivative's, and the file's name without its ending.

    Raises:
        UsageError: nothing of the name or the task can stand in a BIDS name.
    """
    match = _NAME.fullmatch(case)
    if match is not None:
        entities = dict(_ENTITY.findall(case))
        suffix = match[1]
    else:
        entities, suffix = {"sub": _letters(case)}, None
    segmentation = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", task))
    segmentation = segmentation[:1].lower() + segmentation[1:]
    if not entities["sub"] or not segmentation:
        raise UsageError(
            f"Case '{case}' has no BIDS name: it needs a letter or a digit; rename it, or leave out --layout."
        )
    if suffix:
        entities["desc"] = entities.get("desc", "") + suffix
    later = {key: value for key, value in entities.items() if key in _AFTER_SEGMENTATION}
    first = {key: value for key, value in entities.items() if key not in later and key != "seg"}
    named = {**first, "seg": segmentation, **later}
    folder = Path(f"sub-{entities['sub']}")
    if "ses" in entities:
        folder /= f"ses-{entities['ses']}"
    return folder / _DATATYPES.get(modality, "anat"), "_".join(
        f"{key}-{value}" for key, value in named.items()
    ) + "_dseg"


def describe_derivative(folder: Path) -> None:
    """Write ``dataset_description.json``, where there is none yet.

    Args:
        folder: the derivative's folder.

    Raises:
        UsageError: the folder is a data set of another kind.
        UnwritableError: it cannot be written.
    """
    path = folder / DESCRIPTION
    if path.exists():
        if read_record(path).get("DatasetType") != "derivative":
            raise UsageError(
                f"{folder} is a BIDS data set, not a derivative; give a folder in it for the results, such as "
                f"{folder / 'derivatives' / 'meduniseg'}."
            )
        return
    content = {
        "Name": "Segmentations",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "napari-meduniseg", "Version": __version__}],
    }
    with writing_into(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            write_text(path, json_text(content), replace=False)
        except FileExistsError:  # another shard was faster
            return


def _letters(case: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "", case)
