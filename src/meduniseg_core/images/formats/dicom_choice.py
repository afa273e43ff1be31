"""Which frames of a DICOM source to read: they are grouped into series, and one series is chosen."""

from __future__ import annotations

import filecmp
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.choices import Choice, SeveralImagesError, frame_chosen, frames_to_choose, which_frame
from meduniseg_core.images.findings import Finding
from meduniseg_core.images.formats.dicom_slices import Slice
from meduniseg_core.images.formats.dicom_stack import is_placed
from meduniseg_core.images.formats.dicom_volumes import Volumes, by_part, volumes_of

NO_IMAGES = frozenset(
    (
        *("SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "RTRECORD", "SR", "PR", "KO", "REG", "FID", "RWV", "DOC", "AU", "ECG"),
        *("HD", "PLAN", "SMR", "TEXTUREMAP", "M3D", "OSS", "ASMT", "ANN", "RESP", "EPS", "STAIN", "POS", "PLR", "LEN"),
    )
)
"""Modalities of objects that accompany images and are not images themselves."""

_DIRECTORY = "1.2.840.10008.1.3.10"  # DICOMDIR

NO_IMAGE_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.66",  # segmentations, registrations, raw data
    "1.2.840.10008.5.1.4.1.1.481",  # radiotherapy; its images are told apart below
    "1.2.840.10008.5.1.4.1.1.30",  # parametric maps
    "1.2.840.10008.5.1.4.1.1.88",  # reports
    "1.2.840.10008.5.1.4.1.1.11",  # presentation states
    "1.2.840.10008.5.1.4.1.1.104",  # encapsulated documents
    "1.2.840.10008.5.1.4.1.1.9",  # waveforms
    _DIRECTORY,
)
_RT_IMAGE = "1.2.840.10008.5.1.4.1.1.481.1"

_ALIKE = 1e-3
"""Largest difference of direction cosines, and relative one of pixel sizes, within a series: headers have noise."""

_LISTED = 12  # series that an error lists at most


@dataclass
class Source:
    """What a file or folder holds: frames of images (``slices``), and objects that are not images (``others``)."""

    name: str
    slices: list[Slice] = field(default_factory=list)
    others: list[Slice] = field(default_factory=list)


def is_no_image(kind: str, modality: str) -> bool:
    """Say whether an object shows anything but the patient, even if it has pixels (a segmentation, a dose, a report).

    Args:
        kind: Its SOP class UID.
        modality: Its modality code.

    Returns:
        True where it is not an image.
    """
    if kind == _RT_IMAGE:
        return False
    return modality in NO_IMAGES or any(kind == root or kind.startswith(root + ".") for root in NO_IMAGE_CLASSES)


def is_directory(source: Source) -> bool:
    """Whether a source is nothing but the directory (DICOMDIR) of a disc: the images lie beside it, or below.

    Args:
        source: All that was found.

    Returns:
        True where there is nothing else.
    """
    return bool(source.others) and not source.slices and all(item.kind == _DIRECTORY for item in source.others)


def choose(
    source: Source, series: str | None = None, frame: int | None = None
) -> tuple[list[Slice], tuple[Finding, ...]]:
    """Choose the frames of the wanted image.

    Pictures without a position (screenshots, dose sheets) give way to the one series that has positions.

    Args:
        source: All that was found.
        series: The UID, number, description or #1, #2, ... of the wanted series.
        frame: The number (from 1) of the wanted volume in a series, or picture of a cine. Without it, a cine gives all
            of its pictures.

    Returns:
        The frames, and findings that say what was left out.

    Raises:
        BadInputError: A chosen frame is faulty, or there is no such series or frame.
        SeveralImagesError: There is a choice and the caller made none; it lists what there is.
    """
    groups = sorted(_groups(source.slices), key=lambda group: not _has_place(group))
    if not groups:
        what = _counted(source.others)
        raise BadInputError(
            f"{source.name} holds no DICOM images{f' (only {what})' if what else ''}; pass the file or folder that "
            "holds a series of images."
        )
    family = _only(groups, source, frame) if series is None else _picked(groups, series, source, frame)
    of_family = [item for group in family for item in group]
    fault = next((item.fault for item in of_family if item.fault is not None), None)
    if fault is not None:
        raise fault
    left = [item for group in groups if group not in family for item in group] if series is None else []
    others = source.others if series is None else []
    chosen, copies = _without_copies(family[0]) if len(family) == 1 else (of_family, [])
    volumes = by_part(family) if len(family) > 1 else _volumes(chosen)
    chosen, found = _of_frame(volumes, chosen, frame, series, Path(source.name).name)
    if not (left or others or copies):
        return chosen, found
    parts = [_counted(others)] if others else []
    if copies:
        parts.append(f"{len(copies)} file(s) that are there twice ({copies[0].name}{', ...' if copies[1:] else ''})")
    if left:
        shown = ", ".join(dict.fromkeys(item.path.name for item in left[:3]))
        parts.append(f"{len(left)} picture(s) without a position ({shown}{', ...' if len(left) > 3 else ''})")
    text = f"{Path(source.name).name}: {_described(chosen)} is read; left out: {' and '.join(parts)}."
    return chosen, (Finding("slices_chosen", text, "info"), *found)


def _volumes(slices: list[Slice]) -> Volumes:
    """The slices of several files by volume, where several lie at one place; else all as one."""
    placed = len(slices) > 1 and slices[0].frame is None and is_placed(slices)
    return volumes_of(slices) if placed else [("", slices)]


def _of_frame(
    volumes: Volumes, slices: list[Slice], frame: int | None, series: str | None, name: str
) -> tuple[list[Slice], tuple[Finding, ...]]:
    """The volume (or the picture of a cine) that ``frame`` is, else the only one, or all pictures."""
    if len(volumes) == 1 and frame is not None and slices[0].frame is not None and not is_placed(slices):
        volumes = [("", [item]) for item in slices]
    count = len(volumes)
    if frame is not None:
        mark, chosen = volumes[which_frame(frame, count, name)]
        return chosen, frame_chosen(frame, count, name, mark)
    if count == 1:
        return volumes[0][1], ()
    raise SeveralImagesError(
        f"{name} holds {count} slices at each of {len(volumes[0][1])} places (time points, echoes or the like: "
        f"{volumes[0][0]} to {volumes[-1][0]}); pick one volume with --frame 1 to {count} (Python: frame=...).",
        frames_to_choose(count, series),
    )


def _without_copies(chosen: list[Slice]) -> tuple[list[Slice], list[Slice]]:
    """The frames of every file but those that are the same, byte for byte, as one before; and those."""
    first: dict[str, Slice] = {}
    kept: list[Slice] = []
    copies: list[Slice] = []
    for item in chosen:
        same = first.setdefault(item.instance_uid, item)
        if item.instance_uid and item.path != same.path and filecmp.cmp(item.path, same.path, shallow=False):
            copies.append(item)
        else:
            kept.append(item)
    return kept, copies


def _only(groups: list[list[Slice]], source: Source, frame: int | None) -> list[list[Slice]]:
    placed = [group for group in groups if _has_place(group)]
    candidates = placed or groups
    if len(candidates) == 1 or (frame is not None and _are_volumes(candidates)):
        return candidates
    patients = len({item.patient for item in source.slices})
    of_several = f" of {patients} patients" if patients > 1 else ""
    frames = f" or --frame 1 to {len(candidates)}" if _are_volumes(candidates) else ""
    best = None if patients > 1 or _are_volumes(candidates) else _likeliest(candidates)
    proposal = "" if best is None else f"; #{groups.index(best) + 1} is the likeliest"
    raise SeveralImagesError(
        f"{source.name} holds {len(groups)} series{of_several} ({_listing(groups)}){proposal}; pick one with "
        f"--series{frames} (Python: series=..., frame=...).",
        [Choice(_titled(group), f"#{groups.index(group) + 1}", proposed=group is best) for group in candidates],
    )


def _likeliest(groups: Sequence[list[Slice]]) -> list[Slice] | None:
    """The series that is most probably meant: no localiser, as acquired, of the most images; None where two tie."""

    def rank(group: Sequence[Slice]) -> tuple[bool, bool, int]:
        kinds = str(dict(group[0].marks).get("ImageType", "")).upper()
        described = group[0].description.upper()
        localiser = "LOCALIZER" in kinds or any(word in described for word in ("LOCALIZER", "SCOUT", "TOPOGRAM"))
        return not localiser, "DERIVED" not in kinds and "SECONDARY" not in kinds, len(group)

    ranked = sorted(groups, key=rank, reverse=True)
    return ranked[0] if len(ranked) == 1 or rank(ranked[0]) > rank(ranked[1]) else None


def _are_volumes(groups: Sequence[Sequence[Slice]]) -> bool:
    """Whether these are volumes of one series in one file: told apart by nothing but their time, echo and the like."""
    return len({(*_key(group[0])[:-1], group[0].path) for group in groups}) == 1 and bool(groups[0][0].part)


def _picked(groups: list[list[Slice]], series: str, source: Source, frame: int | None) -> list[list[Slice]]:
    matching = [
        group
        for number, group in enumerate(groups, start=1)
        if series == f"#{number}" or _matches(group[0], series) or series == " ".join(group[0].part)
    ]
    if len(matching) > 1:
        matching = [group for group in matching if _has_place(group)] or matching
    if len(matching) == 1 or (frame is not None and matching and _are_volumes(matching)):
        return matching
    other = next((item for item in source.others if _matches(item, series)), None)
    if not matching and other is not None:
        raise BadInputError(
            f"Series '{series}' of {source.name} is not an image ({other.modality or 'another object'}); it holds: "
            f"{_listing(groups)}."
        )
    many = "no series" if not matching else "several series"
    frames = f"; pick one by its # or with --frame 1 to {len(matching)}" if _are_volumes(matching or groups) else ""
    raise BadInputError(f"{source.name} holds {many} '{series}'; it holds: {_listing(groups)}{frames}.")


def _matches(item: Slice, series: str) -> bool:
    return series != "" and series in (item.uid, item.number, item.description)


def _groups(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Frames that belong together: one series, one size, nearly one orientation and pixel size."""
    groups: list[list[Slice]] = []
    unclear: list[Slice] = []
    for item in slices:
        if item.fault is not None or not is_placed([item]):
            unclear.append(item)
            continue
        for group in groups:
            if _key(item) == _key(group[0]) and _nearly_alike(item, group[0]):
                group.append(item)
                break
        else:
            groups.append([item])
    for item in unclear:
        for group in groups:
            if _belongs(item, group[0]):
                group.append(item)
                break
        else:
            groups.append([item])
    return groups


def _key(item: Slice) -> tuple[Any, ...]:
    return (item.patient, item.uid, item.rows, item.columns, item.samples, item.volume, item.part)


def _belongs(item: Slice, first: Slice) -> bool:
    """Whether a frame without a readable place is one of a series: its loss must not go unnoticed."""
    same_series = item.uid == first.uid and item.patient == first.patient and item.kind == first.kind
    if item.frame is not None or first.frame is not None:
        return item.path == first.path and (item.fault is not None or _key(item) == _key(first))
    return same_series and (item.fault is not None or first.fault is not None or _key(item) == _key(first))


def _nearly_alike(item: Slice, first: Slice) -> bool:
    return _near(item.orientation, first.orientation, 0.0, _ALIKE) and _near(item.spacing, first.spacing, _ALIKE, 0.0)


def _near(one: Sequence[float] | None, other: Sequence[float] | None, relative: float, absolute: float) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.allclose(one, other, rtol=relative, atol=absolute))


def _has_place(group: Sequence[Slice]) -> bool:
    """Whether the readable frames have positions; damaged ones do not count against the series."""
    sound = [item for item in group if item.fault is None]
    return any(item.position is not None for item in sound) or is_placed(sound)


def _counted(others: Sequence[Slice]) -> str:
    counts = Counter(item.modality or "other" for item in others)
    return ", ".join(f"{count} {modality}" for modality, count in counts.items())


def _described(group: Sequence[Slice]) -> str:
    first = group[0]
    return f"series {first.number or '-'} '{first.description}' ({len(group)} image{'s' if len(group) != 1 else ''})"


def _titled(group: Sequence[Slice]) -> str:
    first = group[0]
    day = f", {first.date[:4]}-{first.date[4:6]}-{first.date[6:8]}" if len(first.date) == 8 else ""
    count = f"{len(group)} image{'s' if len(group) != 1 else ''}"
    return f"series {first.number or '-'} '{first.description}' ({count} of {first.rows}x{first.columns}{day})"


def _listing(groups: Sequence[Sequence[Slice]]) -> str:
    lines = [
        f"#{number} number {group[0].number or '-'} '{group[0].description}'"
        f"{''.join(f', {part}' for part in (group[0].path.name,) * (group[0].frame is not None) + group[0].part)}, "
        f"{len(group)} images of "
        f"{group[0].rows}x{group[0].columns}{f' of {group[0].date}' if group[0].date else ''}, "
        f"UID {group[0].uid or '-'}"
        for number, group in enumerate(groups, start=1)
    ]
    more = len(lines) - _LISTED
    return "; ".join(lines[:_LISTED]) + (f"; and {more} more" if more > 0 else "")
