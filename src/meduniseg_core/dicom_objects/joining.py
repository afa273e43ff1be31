"""Several segmentations of the same series, joined into one object: highdicom makes one label map at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset

_Place = tuple[float, ...]


def join_segmentations(objects: Sequence[Dataset], *, overlap: bool) -> Dataset:
    """Join binary segmentations that describe the same segments and were made of the same series.

    Args:
        objects: The objects, at least one; frames refer to the segments by their numbers.
        overlap: Whether a voxel belongs to more than one segment.

    Returns:
        The first one, with the frames of all. The planes' positions are numbered anew, over all frames.
    """
    first = objects[0]
    if len(objects) == 1:
        return first
    frames = [frame for one in objects for frame in one.PerFrameFunctionalGroupsSequence]
    rank = {place: number for number, place in enumerate(sorted({_place(first, frame) for frame in frames}), start=1)}
    for frame in frames:
        place = _place(first, frame)
        if place:  # frames without one (pictures) are told apart by their segment alone
            content = frame.FrameContentSequence[0]
            segment, *_ = content.DimensionIndexValues
            content.DimensionIndexValues = [segment, rank[place]]
    first.PerFrameFunctionalGroupsSequence = frames
    first.PixelData = _pixels(objects)
    first.NumberOfFrames = len(frames)
    first.SegmentsOverlap = "YES" if overlap else "NO"
    return first


def _place(whole: Dataset, frame: Dataset) -> _Place:
    """Where a frame lies along the planes' normal, for sorting, and its position; empty where planes have none."""
    if "PlanePositionSequence" not in frame:
        return ()
    position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
    shared = whole.SharedFunctionalGroupsSequence[0]
    rows_and_columns = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    along = float(np.cross(rows_and_columns[:3], rows_and_columns[3:]) @ position)
    return (round(along, 4), *position.tolist())


def _pixels(objects: Sequence[Dataset]) -> bytes:
    """The frames' bits one after the other, without the padding between objects, to an even number of bytes."""
    counts = [int(one.NumberOfFrames) * int(one.Rows) * int(one.Columns) for one in objects]
    if all(count % 8 == 0 for count in counts[:-1]):  # whole bytes, as of nearly all images
        packed = b"".join(one.PixelData[: -(-count // 8)] for one, count in zip(objects, counts, strict=True))
    else:
        bits = [
            np.unpackbits(np.frombuffer(one.PixelData, np.uint8), count=count, bitorder="little")
            for one, count in zip(objects, counts, strict=True)
        ]
        packed = np.packbits(np.concatenate(bits), bitorder="little").tobytes()
    return packed + b"\0" * (len(packed) % 2)
