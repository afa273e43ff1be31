"""Label files of a download -> one label map with the catalogue's ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from meduniseg_core.conversion.table import BACKGROUND, REST, LabelRule
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Finding, Geometry, Image, place_labels, read_image, read_labels
from meduniseg_core.images.findings import merge
from meduniseg_core.images.grid import describe_grid


def label_map(image: Image, files: Sequence[tuple[LabelRule, Path]], classes: Sequence[str]) -> Image:
    """Read a case's label files and join them.

    Args:
        image: The case's image, on whose grid the map will lie.
        files: Each file with its rule, in order; later ones lie over earlier ones where several rules apply. Files of
            one rule are merged, the higher id wins.
        classes: The foreground classes; label id = position + 1.

    Returns:
        Labels ``(1, D, H, W)``, uint8. All background where there is no file. Findings say what was assumed.

    Raises:
        BadInputError: A file cannot be read, lies on another grid, or holds a value that its rule does not know.
    """
    ids = _ids(classes)
    joined = np.zeros((1, *image.geometry.shape), dtype=np.uint8)
    findings: tuple[Finding, ...] = ()
    rules = list(dict.fromkeys(id(rule) for rule, _ in files))
    for key in rules:
        of_rule = np.zeros_like(joined)
        for rule, path in files:
            if id(rule) == key:
                one = _one(image, rule, path, ids)
                np.maximum(of_rule, one.array, out=of_rule)
                findings = merge(findings, one.findings)
        joined = np.where(of_rule > 0, of_rule, joined)
    return replace(image, findings=findings).with_array(joined)


def marks(rule: LabelRule, path: Path, classes: Sequence[str]) -> bool:
    """Look whether a label file of a volume marks anything.

    Args:
        rule: What its values mean.
        path: The file.
        classes: The foreground classes.

    Returns:
        True where a voxel has a class.

    Raises:
        BadInputError: It cannot be read, or holds a value that its rule does not know.
    """
    return bool(translated(read_labels(path).array, rule.values, _ids(classes), str(path)).any())


def _ids(classes: Sequence[str]) -> dict[str, int]:
    return {BACKGROUND: 0, **{name: number for number, name in enumerate(classes, start=1)}}


def translated(array: np.ndarray, values: Mapping[str, str], ids: Mapping[str, int], name: str) -> np.ndarray:
    """Turn the values of a label file into ids.

    Args:
        array: Whole numbers, of any shape.
        values: Value -> class; ``*`` stands for all values but 0 that are not named. 0 is background where not named.
        ids: Class -> id.
        name: The file's name, for the error.

    Returns:
        The ids, uint8, of the same shape.

    Raises:
        BadInputError: A value is not named.
    """
    known = {int(value): ids[class_name] for value, class_name in values.items() if value != REST}
    known.setdefault(0, 0)
    rest = ids[values[REST]] if REST in values else None
    found, places = np.unique(array, return_inverse=True)
    unknown = [int(value) for value in found if int(value) not in known]
    if unknown and rest is None:
        raise BadInputError(
            f"{name} holds the value {unknown[0]}, which its data set's labels do not have "
            f"({', '.join(str(value) for value in sorted(known))}); restore the original file."
        )
    table = np.array([known.get(int(value), rest) for value in found], dtype=np.uint8)
    return table[places.reshape(array.shape)]


def _one(image: Image, rule: LabelRule, path: Path, ids: Mapping[str, int]) -> Image:
    labels = _read(path, image.is_2d)
    if rule.above is not None:
        assert rule.class_name is not None
        above = labels.array.max(axis=0, keepdims=True) > rule.above
        marked = above.astype(np.uint8) * np.uint8(ids[rule.class_name])
        return _placed(labels.with_array(marked), image)
    if labels.channels != 1:
        raise BadInputError(f"{path} is a colour picture, so its values are not ids; restore the original file.")
    placed = _placed(labels, image)
    return placed.with_array(translated(placed.array, rule.values, ids, str(path)))


def _placed(labels: Image, image: Image) -> Image:
    """On the image's grid; voxel by voxel where the headers disagree about the position and sizes are the same, for a
    data set's two files of a case are of one grid by their makers' intention. It is said."""
    try:
        return place_labels(labels, image)
    except BadInputError:
        if labels.geometry.shape != image.geometry.shape or not _same_spacing(labels.geometry, image.geometry):
            raise
    text = (
        f"{labels.name} says that it lies elsewhere ({describe_grid(labels.geometry)}) than {image.name} "
        f"({describe_grid(image.geometry)}): they were taken to fit voxel by voxel, because their sizes are the same."
    )
    return replace(labels, geometry=image.geometry).with_findings(Finding("grid_not_comparable", text))


def _same_spacing(one: Geometry, other: Geometry) -> bool:
    return bool(np.allclose(one.spacing, other.spacing, rtol=0.01, atol=0.0))


def _read(path: Path, picture: bool) -> Image:
    """A mask of a picture as its grey values are seen (a BMP's palette is not a numbering), else a label map."""
    if not picture:
        return read_labels(path)
    image = read_image(path)
    if image.channels == 3 and all(np.array_equal(image.array[0], other) for other in image.array[1:]):
        return image.with_array(image.array[:1])
    return image
