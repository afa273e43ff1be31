"""Cases whose images and label maps are files that readers open as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from meduniseg_core.conversion.labels import label_map, marks
from meduniseg_core.conversion.patient_table import patients_in
from meduniseg_core.conversion.source import Loaded, SourceCase, Tree, fill_template, safe_case_name
from meduniseg_core.conversion.table import Conversion, LabelRule, Part
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Geometry, Image, read_image, same_grid
from meduniseg_core.images.resample_grid import resample_to

Key = tuple[tuple[str, str | None], ...]


@dataclass
class FileGroup:
    """The files of one case: for each channel the alternatives that are there, by preference, and the label files.

    ``doubles`` are further files that a pattern found for the same channel: the slices of a series, or second copies.
    """

    groups: Mapping[str, str | None]
    images: list[list[str]]
    labels: list[tuple[LabelRule, str]] = field(default_factory=list)
    doubles: list[str] = field(default_factory=list)


def file_cases(conversion: Conversion, part: Part, tree: Tree) -> list[SourceCase]:
    """Find the cases of a part whose files are read as they are.

    Args:
        conversion: The data set.
        part: The part.
        tree: The download's files.

    Returns:
        The cases that have all channels and labels. Images without labels (a challenge's test set) are no cases.
    """
    patients = patients_in(part.patient_table, tree)
    cases = []
    for group in grouped(part, tree):
        if all(group.images) and _is_labelled(part, group):
            load = partial(_load, conversion, part, tree.root, group)
            has_target = partial(_has_target, conversion, tree.root, group)
            case = source_case(part, group, _files(tree, group), load, has_target)
            patient = patients.get(case.name)
            cases.append(case if patient is None else replace(case, patient=patient, detail=patient))
    return cases


def source_case(
    part: Part,
    group: FileGroup,
    files: Sequence[Path],
    load: Callable[[], Loaded],
    has_target: Callable[[], bool] | None = None,
) -> SourceCase:
    """Name a case by the part's templates.

    Args:
        part: The part.
        group: The case's files and the groups of its pattern.
        files: All files that it is made of.
        load: Reads it.
        has_target: Looks whether anything is labelled; used where the part takes only such cases.

    Returns:
        The case.
    """
    groups = group.groups
    name = safe_case_name(fill_template(part.case, groups) or "")
    patient = fill_template(part.patient, groups) if part.patient is not None else None
    site = fill_template(part.site, groups) if part.site is not None else None
    return SourceCase(
        name,
        patient or name,
        site,
        part.subset,
        tuple(sorted(files)),
        load,
        has_target if part.only_with_target else None,
        part.test_fraction,
    )


def grouped(part: Part, tree: Tree) -> list[FileGroup]:
    """Sort a part's files into cases by the named groups of its patterns.

    Args:
        part: The part.
        tree: The download's files.

    Returns:
        A group for each combination of groups that the first channel's pattern found.
    """
    found: dict[Key, FileGroup] = {}
    for channel, patterns in enumerate(part.images):
        for pattern in (patterns,) if isinstance(patterns, str) else patterns:
            of_pattern: set[Key] = set()
            for path, groups in tree.matches(pattern, part.exclude):
                key = _key(groups)
                group = found.setdefault(key, FileGroup(groups, [[] for _ in part.images]))
                (group.doubles if key in of_pattern else group.images[channel]).append(path)
                of_pattern.add(key)
    for rule in part.labels:
        by_shared: dict[Key, list[str]] = {}
        shared: set[str] = set()
        for path, groups in tree.matches(rule.files):
            shared = set(groups)
            by_shared.setdefault(_key(groups), []).append(path)
        for group in found.values():
            key = _key({name: text for name, text in group.groups.items() if name in shared})
            group.labels += [(rule, path) for path in by_shared.get(key, ())]
    return list(found.values())


def _key(groups: Mapping[str, str | None]) -> Key:
    return tuple(sorted((name, text.lower() if text else text) for name, text in groups.items()))


def _is_labelled(part: Part, group: FileGroup) -> bool:
    there = {id(rule) for rule, _ in group.labels}
    return all(rule.optional or id(rule) in there for rule in part.labels)


def _files(tree: Tree, group: FileGroup) -> list[Path]:
    names = [paths[0] for paths in group.images] + [path for _, path in group.labels]
    return [path for name in names for path in tree.with_detached(name)]


def _has_target(conversion: Conversion, root: Path, group: FileGroup) -> bool:
    return any(marks(rule, root / path, conversion.task.classes) for rule, path in group.labels)


def _load(conversion: Conversion, part: Part, root: Path, group: FileGroup) -> Loaded:
    paths = [root / paths[0] for paths in group.images]
    if group.doubles:
        raise BadInputError(
            f"{root / group.doubles[0]} is there beside another file of the same name ({paths[0]}); keep one copy."
        )
    images = [read_image(path) for path in paths]
    for rule in part.labels:
        several = [path for other, path in group.labels if other is rule]
        if len(several) > 1 and not rule.several:
            raise BadInputError(
                f"{root / several[0]} and {root / several[1]} are both labels of one case; keep one of them."
            )
    labels = label_map(
        images[part.grid or 0], [(rule, root / path) for rule, path in group.labels], conversion.task.classes
    )
    return finished(conversion, part, images, labels, paths)


def finished(
    conversion: Conversion, part: Part, images: Sequence[Image], labels: Image, paths: Sequence[Path | None]
) -> Loaded:
    """Bring a case's images onto one grid, and pictures into colour.

    Args:
        conversion: The data set.
        part: The part, with the channel that gives the grid and the value beyond a resampled channel's edge.
        images: One per channel file.
        labels: The label map, on that grid.
        paths: The files that hold exactly these images; None where there is none.

    Returns:
        The case.

    Raises:
        BadInputError: A picture cannot become RGB of 8 bits.
    """
    if conversion.is_2d:
        return Loaded((as_rgb(images[0]),), labels, (None,))
    target = images[part.grid or 0].geometry
    onto = []
    same: list[Path | None] = []
    for image, path in zip(images, paths, strict=True):
        fits = same_grid(image.geometry, target) or part.grid is None
        onto.append(image if fits else _resampled(image, target, part.outside))
        same.append(path if fits and path is not None and path.name.lower().endswith(conversion.ending) else None)
    return Loaded(tuple(onto), labels, tuple(same))


def _resampled(image: Image, target: Geometry, outside: float) -> Image:
    """Without the header of the file, which describes the grid it was on."""
    return Image(resample_to(image, target, outside=outside).array, target, source=image.source)


def as_rgb(image: Image) -> Image:
    """Turn a picture into three channels, as the network takes all pictures (docs/spec.md section 2).

    Args:
        image: ``(1 or 3, 1, H, W)``.

    Returns:
        ``(3, 1, H, W)``, uint8; a grey picture's channels are equal.

    Raises:
        BadInputError: It has more than 8 bits or another number of channels.
    """
    array = image.array
    if array.dtype != np.uint8 and array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 255:
        array = array.astype(np.uint8)
    if array.dtype != np.uint8 or image.channels not in (1, 3):
        raise BadInputError(
            f"{image.name} has {image.channels} channel(s) of {array.dtype}, and pictures here have 8 bits; "
            "restore the original file."
        )
    return (
        image
        if image.channels == 3 and array is image.array
        else image.with_array(np.ascontiguousarray(np.broadcast_to(array, (3, *array.shape[1:]))))
    )
