"""DICOM segmentations (PS3.3 A.51) as label maps: binary, fractional, and label maps of the standard's own.

Every frame lies at the position that it gives, whatever the order of the frames; planes without a frame are background.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.findings import Finding
from meduniseg_core.images.formats.dicom_codec import FrameDecoder
from meduniseg_core.images.formats.dicom_frames import FrameHeader, frame_headers
from meduniseg_core.images.formats.dicom_labels import (
    Masks,
    check_series,
    class_name,
    lab_to_rgb,
    label_image,
    references_of,
)
from meduniseg_core.images.formats.dicom_pixels import stored_frames
from meduniseg_core.images.formats.dicom_spacing import floats
from meduniseg_core.images.geometry import Geometry
from meduniseg_core.images.grid import TOLERANCE
from meduniseg_core.images.image import Image

_KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")
_ALIKE = 1e-3  # direction cosines and, relatively, pixel sizes of one segmentation
_WHOLE = 0.05  # how far the distance of two planes may be from a multiple of the step, as a fraction of it
_GAPS = 64  # empty planes for each one that is there, at most: a wrong position must not fill memory
_LARGEST = 1 << 31  # voxels


@dataclass(frozen=True)
class _Frame:
    """A frame's segment (0: its values are segments) and the centre of its first pixel (None: it has no place)."""

    segment: int
    position: np.ndarray | None


def read_segmentation(dataset: Dataset, path: Path, like: Image | None) -> Image:
    """Read a segmentation.

    A fractional one counts from half of its maximum on. Segments that overlap are joined by the rule of `Masks.join`.

    Args:
        dataset: The object, with its pixels.
        path: Its file.
        like: The image that it belongs to; the distance of its planes is that of the grid. Without it the header's
            distance of slices counts, else the smallest one of two frames.

    Returns:
        The label map on the grid of the segmentation's own planes.

    Raises:
        BadInputError: It belongs to another series, or its frames make no grid.
    """
    name = path.name
    kind = str(dataset.get("SegmentationType") or "")
    if kind not in _KINDS:
        raise BadInputError(f"{name} is a segmentation of the type '{kind}', which is not read; export it as BINARY.")
    found = check_series(references_of(dataset), like, name) if like is not None else ()
    frames, orientation, header = _frames(dataset, kind, name)
    geometry, planes, physical = _grid(frames, orientation, header, dataset, like, name)
    masks = Masks(geometry.shape)
    _describe(dataset, masks)
    for place, (frame, values) in enumerate(zip(frames, frame_values(dataset, name), strict=True)):
        box = (slice(planes[place], planes[place] + 1), slice(None), slice(None))
        if frame.segment:
            masks.add(frame.segment, box, values[None])
            continue
        for label in np.unique(values):
            if label:
                masks.add(int(label), box, (values == label)[None])
    unknown = sorted(set(masks.parts) - set(masks.names))
    masks.names |= {number: class_name("", number) for number in unknown}
    joined, overlaps = masks.join(name)
    on_grid = Image(joined[None], geometry, physical)
    return label_image(joined, on_grid, path, masks, (*found, *_fraction(kind, name), *overlaps))


def _fraction(kind: str, name: str) -> tuple[Finding, ...]:
    if kind != "FRACTIONAL":
        return ()
    text = f"{name} is fractional: voxels of at least half of its maximum belong to a segment."
    return (Finding("labels_left_out", text, "info"),)


def _describe(dataset: Dataset, masks: Masks) -> None:
    for item in dataset.get("SegmentSequence") or ():
        number = int(item.get("SegmentNumber") or 0)
        if not 1 <= number <= 65535:
            continue  # 0 is the background of a label map
        masks.names[number] = class_name(item.get("SegmentLabel") or item.get("SegmentDescription"), number)
        stored = item.get("RecommendedDisplayCIELabValue")
        colour = lab_to_rgb(stored) if stored is not None and not isinstance(stored, (int, str)) else None
        if colour is not None:
            masks.colours[number] = colour


def _frames(dataset: Dataset, kind: str, name: str) -> tuple[list[_Frame], np.ndarray | None, FrameHeader]:
    """Each frame's segment and place, the cosines that they share (None where there are none), and one's header."""
    frames: list[_Frame] = []
    cosines: np.ndarray | None = None
    last: FrameHeader | None = None
    for header, _, _ in frame_headers(dataset, name):
        if not isinstance(header, FrameHeader):
            raise BadInputError(f"{name} does not describe its frames; export the segmentation again.")
        number = 0 if kind == "LABELMAP" else int(header.get("ReferencedSegmentNumber") or 0)
        if kind != "LABELMAP" and not 1 <= number <= 65535:
            raise BadInputError(f"{name} does not say which segment a frame belongs to; export it again.")
        position = floats(header, "ImagePositionPatient", 3, name)
        own = floats(header, "ImageOrientationPatient", 6, name)
        if position is not None and (own is None or not np.isfinite([*position, *own]).all()):
            raise BadInputError(f"{name} has a frame of unknown orientation; export the segmentation again.")
        frames.append(_Frame(number, None if position is None else np.array(position)))
        if position is not None:
            of_frame = np.array(own)
            if cosines is not None and np.abs(of_frame - cosines).max() > _ALIKE:
                raise BadInputError(f"{name} has frames of several orientations; export one segmentation for each.")
            cosines = of_frame if cosines is None else cosines
        last = header
    assert last is not None  # frame_headers gives at least one
    return frames, cosines, last


def _grid(
    frames: list[_Frame],
    cosines: np.ndarray | None,
    header: FrameHeader,
    dataset: Dataset,
    like: Image | None,
    name: str,
) -> tuple[Geometry, list[int], bool]:
    """The grid of the planes, the plane of every frame, and whether it has a place in the patient."""
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if rows < 1 or columns < 1:
        raise BadInputError(f"{name} has impossible sizes ({rows}x{columns}) in its header; export it again.")
    if cosines is None:
        segments = [frame.segment for frame in frames]
        if len(set(segments)) < len(segments):
            raise BadInputError(f"{name} has several frames of one segment and no positions; export it again.")
        return Geometry((1, rows, columns), (1.0, 1.0, 1.0)), [0] * len(frames), False
    if any(frame.position is None for frame in frames):
        raise BadInputError(f"{name} has frames without a position; export the segmentation again.")
    spacing = floats(header, "PixelSpacing", 2, name)
    if spacing is None or not all(np.isfinite(value) and value > 0 for value in spacing):
        raise BadInputError(f"{name} gives no usable pixel size; export the segmentation again.")
    along_w, along_h = (part / np.linalg.norm(part) for part in (cosines[:3], cosines[3:]))
    normal = np.cross(along_w, along_h)
    positions = np.array([frame.position for frame in frames])
    step = _step(positions, normal, header, like, name)
    heights = (positions - positions[0]) @ normal / float(step @ normal)
    planes = np.rint(heights).astype(np.int64)
    first = int(planes.min())
    depth = int(planes.max()) - first + 1
    origin = positions[int(np.argmin(planes))]
    off = np.linalg.norm(positions - (origin + (planes - first)[:, None] * step), axis=1).max()
    if off > TOLERANCE * max(min(*spacing, float(np.linalg.norm(step))), 1e-3) * 2:
        of = f"the planes of {like.name}" if like is not None else "evenly spaced planes"
        raise BadInputError(f"{name} has frames up to {off:.3g} mm beside {of}; give the series it was drawn on.")
    if depth > _GAPS * len(frames) + 1024 or depth * rows * columns > _LARGEST:
        raise BadInputError(f"{name} has frames that lie too far apart for one volume; export it again.")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = step, along_h * spacing[0], along_w * spacing[1]
    affine[:3, 3] = origin
    return Geometry.from_affine(affine, (depth, rows, columns)), [int(plane) - first for plane in planes], True


def _step(positions: np.ndarray, normal: np.ndarray, header: FrameHeader, like: Image | None, name: str) -> np.ndarray:
    """From one plane to the next, in mm, along ``normal`` or, of a tilted gantry, beside it."""
    if like is not None and like.physical:
        axes = like.geometry.affine[:3, :3]
        along = normal @ np.asarray(like.geometry.direction)
        axis = int(np.argmax(np.abs(along)))
        step: np.ndarray = axes[:, axis] * np.sign(along[axis])
        return step
    heights = np.sort(positions @ normal)
    gaps = np.diff(heights)
    gaps = gaps[gaps > 1e-3]
    stated = [floats(header, keyword, 1, name) for keyword in ("SpacingBetweenSlices", "SliceThickness")]
    usable = [abs(value[0]) for value in stated if value is not None and np.isfinite(value[0]) and value[0] != 0]
    if not gaps.size:
        return normal * (usable[0] if usable else 1.0)
    fitting = [value for value in (*usable, float(gaps.min())) if _divides(gaps, value)]
    if not fitting:
        raise BadInputError(f"{name} has unevenly spaced frames; give the series that it belongs to.")
    low, high = int(np.argmin(positions @ normal)), int(np.argmax(positions @ normal))
    whole = positions[high] - positions[low]
    return np.asarray(whole / float(whole @ normal) * fitting[0])


def _divides(gaps: np.ndarray, step: float) -> bool:
    multiples = gaps / step
    return bool((np.rint(multiples) >= 1).all() and (np.abs(multiples - np.rint(multiples)) <= _WHOLE).all())


def frame_values(dataset: Dataset, name: str) -> Iterator[np.ndarray]:
    """Read frame after frame which pixels belong to its segment.

    Args:
        dataset: A segmentation, with its pixels.
        name: Its file's name, for errors.

    Yields:
        bool ``(rows, columns)``; of a label map (the standard's own kind) the segments' numbers.

    Raises:
        BadInputError: The pixels are truncated, or packed in a way that is not read.
    """
    kind = str(dataset.get("SegmentationType") or "")
    if int(dataset.get("BitsAllocated") or 0) == 1:
        yield from _bits(dataset, name)
        return
    most = float(dataset.get("MaximumFractionalValue") or 255) if kind == "FRACTIONAL" else 0.0
    with FrameDecoder() as decoder:
        for stored in stored_frames(dataset, decoder, name):
            yield stored if kind == "LABELMAP" else stored * 2.0 >= most if most else stored > 0


def _bits(dataset: Dataset, name: str) -> Iterator[np.ndarray]:
    """Frames of one bit a pixel, which follow each other without a gap."""
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        raise BadInputError(f"{name} packs its single bits in a way that is not read; export it uncompressed.")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    size = rows * columns
    frames = max(int(dataset.get("NumberOfFrames") or 1), 1)
    packed = np.frombuffer(dataset.get("PixelData") or b"", np.uint8)
    if packed.size * 8 < frames * size:
        raise BadInputError(
            f"{name} is truncated: {-(-frames * size // 8):,} bytes of pixels are promised, {packed.size:,} there; "
            "export it again."
        )
    for frame in range(frames):
        begin, end = frame * size, (frame + 1) * size
        block = np.unpackbits(packed[begin // 8 : -(-end // 8)], bitorder="little")
        yield block[begin % 8 : begin % 8 + size].reshape(rows, columns).astype(bool)
