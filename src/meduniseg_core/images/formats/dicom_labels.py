"""DICOM segmentations and structure sets as label maps: which series they belong to, and what overlaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.findings import Finding
from meduniseg_core.images.formats.dicom_origin import ORIGIN, DicomOrigin
from meduniseg_core.images.formats.dicom_source import one_line
from meduniseg_core.images.image import Image

_NAMED = 6  # overlaps that a finding names at most


@dataclass(frozen=True)
class References:
    """What an object says about the images that it was drawn on."""

    series: frozenset[str]
    instances: frozenset[str]
    reference_uid: str


@dataclass
class Masks:
    """The voxels of classes that may overlap, in parts: boxes of a grid ``(D, H, W)``, packed to bits.

    A part is the slices of its box and the bits of its voxels. ``names`` and ``colours`` are by label id.
    """

    shape: tuple[int, int, int]
    names: dict[int, str] = field(default_factory=dict)
    colours: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    parts: dict[int, list[tuple[tuple[slice, slice, slice], np.ndarray]]] = field(default_factory=dict)
    sizes: Counter[int] = field(default_factory=Counter)

    def add(self, label: int, box: tuple[slice, slice, slice], mask: np.ndarray) -> None:
        """Add voxels to a class.

        Args:
            label: Its id.
            box: Where they lie.
            mask: bool, of the box's shape.
        """
        count = int(np.count_nonzero(mask))
        if count:
            self.parts.setdefault(label, []).append((box, np.packbits(mask)))
            self.sizes[label] += count

    def union(self) -> np.ndarray:
        """Mark what belongs to any class, whatever overlaps.

        Returns:
            bool ``(D, H, W)``.
        """
        marked = np.zeros(self.shape, bool)
        for box, bits in (part for parts in self.parts.values() for part in parts):
            there = marked[box]
            there |= np.unpackbits(bits, count=there.size).astype(bool).reshape(there.shape)
        return marked

    def join(self, name: str) -> tuple[np.ndarray, tuple[Finding, ...]]:
        """Make one label map. Where classes overlap, the smaller one keeps its voxels (of equal ones the later).

        So a tumour that was drawn inside an organ is not covered by it.

        Args:
            name: The file's name, for the finding.

        Returns:
            Ids ``(D, H, W)`` and a finding where classes overlap.
        """
        highest = max((*self.names, *self.parts), default=0)
        joined = np.zeros(self.shape, np.uint8 if highest <= 255 else np.uint16)
        lost: Counter[tuple[int, int]] = Counter()
        for label in sorted(self.parts, key=lambda item: (-self.sizes[item], item)):
            for box, bits in self.parts[label]:
                there = joined[box]
                inside = np.unpackbits(bits, count=there.size).astype(bool).reshape(there.shape)
                for under, count in enumerate(np.bincount(there[inside])):
                    if under not in (0, label) and count:
                        lost[under, label] += int(count)
                there[inside] = label
        return joined, _overlaps(lost, self.names, name)


def _overlaps(lost: Mapping[tuple[int, int], int], names: Mapping[int, str], name: str) -> tuple[Finding, ...]:
    if not lost:
        return ()
    pairs = sorted(lost.items(), key=lambda item: -item[1])
    listed = "; ".join(
        f"{names.get(over, over)} over {names.get(under, under)}: {count:,} voxels"
        for (under, over), count in pairs[:_NAMED]
    )
    more = f"; and {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
    text = f"{name} has segments that overlap, and the smaller one keeps the voxels ({listed}{more})."
    return (Finding("labels_overlap", text),)


def references_of(dataset: Dataset) -> References:
    """Collect what an object says about its images.

    Args:
        dataset: A segmentation or a structure set.

    Returns:
        All series and instances that it names, and its frame of reference.
    """
    series: set[str] = set()
    instances: set[str] = set()
    frames = {str(dataset.get("FrameOfReferenceUID") or "")}
    for item in dataset.get("ReferencedSeriesSequence") or ():
        series.add(str(item.get("SeriesInstanceUID") or ""))
        instances |= _instances(item.get("ReferencedInstanceSequence") or ())
    instances |= _instances(dataset.get("SourceImageSequence") or ())
    for reference in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        frames.add(str(reference.get("FrameOfReferenceUID") or ""))
        for study in reference.get("RTReferencedStudySequence") or ():
            for item in study.get("RTReferencedSeriesSequence") or ():
                series.add(str(item.get("SeriesInstanceUID") or ""))
                instances |= _instances(item.get("ContourImageSequence") or ())
    for region in dataset.get("StructureSetROISequence") or ():
        frames.add(str(region.get("ReferencedFrameOfReferenceUID") or ""))
    frames.discard("")
    own = frames.pop() if len(frames) == 1 else ""
    return References(frozenset(series - {""}), frozenset(instances - {""}), own)


def _instances(items: Iterable[Dataset]) -> set[str]:
    return {str(item.get("ReferencedSOPInstanceUID") or "") for item in items}


def check_series(references: References, like: Image, name: str) -> tuple[Finding, ...]:
    """Check by UID that labels belong to an image.

    Args:
        references: What the labels were drawn on.
        like: The image.
        name: The labels' file.

    Returns:
        A finding where the UIDs do not tell, or where the labels are of another series of the same frame of reference.

    Raises:
        BadInputError: They belong to another series.
    """
    origin = like.meta.get(ORIGIN)
    if not isinstance(origin, DicomOrigin):
        text = f"{like.name} is not a DICOM series, so {name} was placed on it by position alone, without UIDs."
        return (Finding("labels_of_other_series", text, "info"),)
    if origin.series_uid in references.series or references.instances & {item.instance_uid for item in origin.frames}:
        return ()
    drawn_on = ", ".join(sorted(references.series)) or "no series that it names"
    if references.reference_uid and references.reference_uid == origin.reference_uid:
        text = (
            f"{name} was drawn on another series ({drawn_on}) in the same frame of reference as {like.name}, and was "
            "placed by position; check that nothing has moved between them."
        )
        return (Finding("labels_of_other_series", text),)
    if not references.series and not references.instances and not references.reference_uid:
        text = f"{name} does not say which series it was drawn on; it was placed on {like.name} by position."
        return (Finding("labels_of_other_series", text),)
    raise BadInputError(
        f"{name} was drawn on another series ({drawn_on}) than {like.name} ({origin.series_uid}); give the series that "
        "it belongs to."
    )


def lab_to_rgb(stored: Sequence[int]) -> tuple[int, int, int] | None:
    """Convert DICOM's CIELab colour.

    Args:
        stored: Three numbers from 0 to 65535.

    Returns:
        RGB, 0 to 255; None where they are no colour.
    """
    from skimage.color import lab2rgb  # late: it takes long to import

    values = np.asarray(stored, dtype=np.float64)
    if values.shape != (3,) or not ((values >= 0) & (values <= 65535)).all():
        return None
    lab = values / 65535 * [100, 255, 255] - [0, 128, 128]
    red, green, blue = (int(value) for value in np.rint(255 * lab2rgb(lab.reshape(1, 3)).reshape(3).clip(0, 1)))
    return red, green, blue


def label_image(array: np.ndarray, like: Image, path: Path, masks: Masks, findings: tuple[Finding, ...]) -> Image:
    """Wrap a label map that was read from an object.

    Args:
        array: Ids ``(D, H, W)``.
        like: An image on the same grid.
        path: The object's file.
        masks: Its classes.
        findings: What was found out.

    Returns:
        The label map.
    """
    meta = {"format": "dicom", "class_names": dict(masks.names), "class_colours": dict(masks.colours)}
    return Image(array[None], like.geometry, like.physical, path, meta, findings)


def class_name(text: object, number: int) -> str:
    """Make a usable name of a class.

    Args:
        text: What the file calls it.
        number: Its number.

    Returns:
        The text in one line, or one made of the number where there is none.
    """
    return one_line(str(text or "")) or f"segment {number}"
