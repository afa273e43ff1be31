"""The JSON file beside a label map: its task, model, classes, and how its pixels are rotated.

`reading` needs it to read labels. Writing it, and checking which files it vouches for, is in
`meduniseg_core.provenance`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from meduniseg_core.images.formats import ending_of, stem_of
from meduniseg_core.structured_text import try_read_json

PROBABILITIES = "_probabilities"
_LARGEST = 1 << 20  # bytes; ours have a few hundred


@dataclass(frozen=True)
class Provenance:
    """What is read back from the JSON file.

    ``classes`` and ``colours`` (RGB, 0 to 255) are by label id; ``image`` is the image's file name.
    """

    task: str
    model: str
    classes: dict[int, str]
    colours: dict[int, tuple[int, int, int]]
    image: str = ""
    exif_orientation: int | None = None  # of the photograph's pixels, and so of the label map's, where it is not 1


def provenance_path(labels: Path) -> Path:
    """Name the JSON file beside a label map.

    Args:
        labels: The label map's path.

    Returns:
        The same path with the ending ``.json``.
    """
    return labels.with_name(f"{stem_of(labels)}.json")


def probabilities_name(labels: Path) -> str:
    """Name the file of probabilities beside a label map.

    Args:
        labels: The label map's path.

    Returns:
        A file name with the label map's ending, or ``.npy`` where that format cannot hold probabilities.
    """
    ending = ending_of(labels)
    volumes = (".nii.gz", ".nii", ".nrrd", ".mha")
    return f"{stem_of(labels)}{PROBABILITIES}{ending if ending in volumes else '.npy'}"


def read_provenance(labels: Path) -> Provenance | None:
    """Read the JSON file beside a label map.

    Args:
        labels: The label map's path.

    Returns:
        Its content; None where there is no such file, or it is not one of ours.
    """
    content = try_read_json(provenance_path(labels), _LARGEST)
    try:
        task, model = content["task"], content["model"]
        classes = {int(label): str(name) for label, name in content["classes"].items()}
        colours = {int(label): _colour(value) for label, value in content.get("colours", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not (isinstance(task, str) and isinstance(model, str) and min(classes, default=1) >= 1):
        return None
    # a name, never a path: it is looked for in a folder of the caller's choice
    image = Path(str(content.get("image") or "")).name
    turned = content.get("exif_orientation")
    return Provenance(task, model, classes, colours, image, turned if turned in range(2, 9) else None)


def _colour(value: object) -> tuple[int, int, int]:
    if not (isinstance(value, list) and len(value) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in value)):
        raise ValueError("a colour is three numbers from 0 to 255")
    red, green, blue = value
    return red, green, blue
