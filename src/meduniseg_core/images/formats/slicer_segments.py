"""Segmentations of 3D Slicer (``.seg.nrrd``): the header's key/value pairs hold names, label values and layers.

Keys: https://slicer.readthedocs.io, "Segmentations", file format. Segments that overlap lie in separate layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.findings import Finding
from meduniseg_core.images.image import Image

SEGMENTATION_ENDING = ".seg.nrrd"

_KEY = re.compile(r"Segment(\d{1,4})_(Name|ID|LabelValue|Layer|Color)")


@dataclass(frozen=True)
class Segment:
    """One segment: the voxels of ``layer`` whose value is ``value``. Its colour is RGB, 0 to 255."""

    name: str
    value: int
    layer: int
    colour: tuple[int, int, int] | None


def segments_of(pairs: Mapping[str, str], name: str) -> tuple[Segment, ...]:
    """List the segments that a header describes.

    Args:
        pairs: The header's key/value pairs.
        name: The file's name, for the message.

    Returns:
        The segments in their order; none where the file is not a segmentation.

    Raises:
        BadInputError: A segment's label value or layer is unreadable or impossible.
    """
    found: dict[int, dict[str, str]] = {}
    for key, text in pairs.items():
        match = _KEY.fullmatch(key)
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = text.strip()
    return tuple(_segment(number, found[number], name) for number in sorted(found))


def join_segments(image: Image) -> Image:
    """Join the layers of a segmentation into one label map.

    Ids are the segments' own values. If layers use a value twice, segments are numbered 1, 2, ... in their order, which
    the finding "labels_renumbered" says.

    Args:
        image: Layers ``(C, D, H, W)`` with ``meta["segments"]``.

    Returns:
        The label map ``(1, D, H, W)`` with ``meta["class_names"]`` (id -> name) and ``meta["class_colours"]``.

    Raises:
        BadInputError: Layers are missing, or segments overlap: a voxel of a label map has one class.
    """
    segments: Sequence[Segment] = image.meta["segments"]
    array, name = image.array, image.name
    if any(segment.layer >= array.shape[0] for segment in segments):
        raise BadInputError(f"{name} describes more layers than the {array.shape[0]} it has; export it again.")
    values = [segment.value for segment in segments]
    twice = len(set(values)) < len(values)
    ids = list(range(1, len(segments) + 1)) if twice else values
    numbered = list(zip(ids, segments, strict=True))
    names = {number: segment.name for number, segment in numbered}
    colours = {number: segment.colour for number, segment in numbered if segment.colour is not None}
    if array.shape[0] == 1 and not twice:
        return image.with_array(array, class_names=names, class_colours=colours)
    joined = np.zeros(array.shape[1:], dtype=np.uint16)
    for number, segment in numbered:
        inside = array[segment.layer] == segment.value
        taken = joined[inside]
        if taken.any():
            raise BadInputError(
                f"{name} has segments that overlap ({names[int(taken[taken > 0][0])]} and {segment.name}), and a voxel "
                "of a label map has one class; in Slicer, export them as a label map (or one file per segment)."
            )
        joined[inside] = number
    merged = image.with_array(joined[None], class_names=names, class_colours=colours)
    if not twice:
        return merged
    listed = ", ".join(f"{number} {text}" for number, text in names.items())
    text = f"{name} uses the same label value in several layers, so its segments were renumbered: {listed}."
    return merged.with_findings(Finding("labels_renumbered", text, "info"))


def _segment(number: int, keys: Mapping[str, str], name: str) -> Segment:
    """Before Slicer 4.11 there were no values and layers: segment n was layer n, with the value 1."""
    try:
        value = int(keys.get("LabelValue", "1"))
        layer = int(keys.get("Layer", "0" if "LabelValue" in keys else str(number)))
    except ValueError as error:
        raise BadInputError(
            f"{name} has an unreadable label value or layer of segment {number}; export it again from Slicer."
        ) from error
    if not 1 <= value <= 65535 or layer < 0:
        raise BadInputError(
            f"{name} gives segment {number} the label value {value} in layer {layer}; export it again from Slicer."
        )
    return Segment(keys.get("Name") or keys.get("ID") or f"segment {number}", value, layer, _colour(keys.get("Color")))


def _colour(text: str | None) -> tuple[int, int, int] | None:
    """Three numbers from 0 to 1, or None where they are not (a colour is no reason to refuse a label map)."""
    try:
        red, green, blue = (round(255 * min(max(float(part), 0.0), 1.0)) for part in (text or "").split())
    except (ValueError, OverflowError):
        return None
    return red, green, blue
