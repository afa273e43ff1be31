"""From blended logits on the network's grid to labels on the image's grid, plane by plane.

Logits are resampled (linearly; by nearest neighbour along a strongly anisotropic axis) and the largest one decides, as
in the tests' reference implementation (`tests/restoring.py`), but the sliding window feeds planes as they become final.
Neither the logits of the whole grid nor those of the whole image ever exist: a volume of any length needs only a few
planes in addition to its label map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from meduniseg_core.images import Image
from meduniseg_core.images.boxes import Box, box_shape, whole_box
from meduniseg_core.images.geometry import Shape3
from meduniseg_core.inference.sliding_window import Sink
from meduniseg_core.preprocessing.resample import axis_matrix
from meduniseg_core.preprocessing.spatial_transform import SpatialTransformRecord

Span = tuple[int, int]

_TINY = 1e-12


@dataclass(frozen=True)
class Target:
    """What is to be segmented: the voxels ``out`` of the record's box need the logits of ``region`` of the network's
    grid."""

    out: Box
    region: Box

    @classmethod
    def of(cls, trace: SpatialTransformRecord, box: Box | None = None) -> Target | None:
        """The target for a box.

        Args:
            trace: the record of the preprocessing.
            box: in voxels of the image as it was read; None for the whole image.

        Returns:
            The target; None if the box holds only air that preprocessing cropped away.
        """
        size = trace.box_shape
        wanted = whole_box(size)
        if box is not None:
            turned = turn_box(box, trace)
            spans = [
                (max(low, first) - first, min(high, last) - first)
                for (low, high), (first, last) in zip(turned, trace.box, strict=True)
            ]
            if any(low >= high for low, high in spans):
                return None
            wanted = spans[0], spans[1], spans[2]
        matrices = axis_matrices(trace)
        region = [_columns_of(matrix, span) for matrix, span in zip(matrices, wanted, strict=True)]
        return cls(out=wanted, region=(region[0], region[1], region[2]))


def turn_box(box: Box, trace: SpatialTransformRecord) -> Box:
    """Convert a box from the image's own grid to the canonical grid.

    Args:
        box: ((d0, d1), (h0, h1), (w0, w1)), half-open, in voxels.
        trace: the record of the preprocessing.

    Returns:
        The box on the canonical grid.
    """
    d, h, w = (
        turn_span(box[axis], trace.geometry.shape[axis], flip)
        for axis, flip in zip(trace.reorientation.axes, trace.reorientation.flips, strict=True)
    )
    return d, h, w


def turn_span(span: Span, length: int, flip: bool) -> Span:
    """Convert a range of voxels along an axis to the flipped axis.

    Args:
        span: (first, one past the last).
        length: number of voxels along the axis.
        flip: whether the axis is flipped.

    Returns:
        The range on the flipped axis; ``span`` itself if it is not flipped.
    """
    return (length - span[1], length - span[0]) if flip else span


def axis_matrices(trace: SpatialTransformRecord) -> tuple[Tensor, Tensor, Tensor]:
    """Resampling from the network's grid back to the box, as one matrix per axis.

    Args:
        trace: the record of the preprocessing.

    Returns:
        For D, H and W a float32 matrix (voxels of the box, voxels of the network's grid).
    """
    d, h, w = (
        axis_matrix(inner, outer, rule)
        for inner, outer, rule in zip(trace.grid.shape, trace.box_shape, trace.label_rules.rule, strict=True)
    )
    return d, h, w


def _columns_of(matrix: Tensor, rows: Span) -> Span:
    """The source voxels that contribute to a range of output voxels."""
    return _extent((matrix[rows[0] : rows[1]] != 0).any(dim=0))


def _rows_of(matrix: Tensor, columns: Span) -> Span:
    """The output voxels to which a range of source voxels contributes."""
    return _extent((matrix[:, columns[0] : columns[1]] != 0).any(dim=1))


def _extent(mask: Tensor) -> Span:
    """The first True and one past the last; (0, 0) if there is none."""
    places = torch.nonzero(mask).flatten()
    return (0, 0) if places.numel() == 0 else (int(places[0]), int(places[-1]) + 1)


class LabelSink:
    """Builds the label map (and the probabilities, if wanted) of one task as its logits arrive.

    ``write`` takes planes of ``target.region`` in rising order. A background that beats every class at all neighbouring
    voxels beats it between them, too (interpolation is convex), so only the box around the foreground is resampled.

    Args:
        trace: the record of the preprocessing.
        classes: number of outputs, with the background.
        target: what to segment; None for nothing, which gives background.
        probabilities: whether to keep probabilities.
        regions: for outputs that are overlapping regions, the label of each: voxels with a logit above 0 get it, later
            regions over earlier ones. The probabilities are then the regions' own, without one for the background.
        half: round resampled logits to half precision before they decide, as nnU-Net does.
        averaging: "probabilities" where probabilities arrive, not logits.
    """

    def __init__(
        self,
        trace: SpatialTransformRecord,
        classes: int,
        target: Target | None,
        probabilities: bool = False,
        regions: tuple[int, ...] | None = None,
        *,
        half: bool = False,
        averaging: Literal["logits", "probabilities"] = "logits",
    ) -> None:
        self._trace = trace
        self._certain = averaging == "probabilities"
        self._threshold = 0.5 if self._certain else 0.0
        self._target = target
        self._regions = regions
        self._half = half
        self._convex = all(rule in ("nearest", "linear") for rule in trace.label_rules.rule)
        canonical = trace.canonical.shape
        dtype = np.uint8 if (classes - 1 if regions is None else max(regions)) <= 255 else np.uint16
        self._labels = np.zeros(canonical, dtype=dtype)
        self._probabilities: np.ndarray | None = None
        if probabilities:
            self._probabilities = np.zeros((classes, *canonical), dtype=np.float16)
            if regions is None:
                self._probabilities[0] = 1.0
        if target is None:
            return
        self._matrices = [
            matrix[slice(*out), slice(*region)]
            for matrix, out, region in zip(axis_matrices(trace), target.out, target.region, strict=True)
        ]
        self._resampled = [not _is_identity(matrix) for matrix in self._matrices]
        self._taps = [_taps(row) for row in self._matrices[0]]
        self._kept: dict[int, Tensor] = {}
        self._next = 0

    def write(self, first: int, logits: Tensor) -> None:
        """Receive planes of the region, in rising order.

        Args:
            first: index of the first plane.
            logits: float32 (classes, planes, h, w).
        """
        last = first + logits.shape[1]
        while self._next < len(self._taps) and self._taps[self._next][-1][0] < last:
            self._finish(self._next, self._mix(self._taps[self._next], first, logits))
            self._next += 1
        needed = {place for place, _ in self._taps[self._next]} if self._next < len(self._taps) else set()
        self._kept = {
            place: self._kept[place] if place < first else logits[:, place - first].clone()
            for place in needed
            if place < last
        }

    def result(self) -> tuple[Image, Image | None]:
        """The finished result on the image's own grid.

        Returns:
            Labels (1, D, H, W), and probabilities (classes, D, H, W) float16 or None.
        """
        back = self._trace.reorientation.inverse
        labels = self._image(np.ascontiguousarray(back(self._labels[None])))
        if self._probabilities is None:
            return labels, None
        return labels, self._image(np.ascontiguousarray(back(self._probabilities)))

    def _image(self, array: np.ndarray) -> Image:
        trace = self._trace
        meta = {key: value for key, value in trace.meta.items() if key not in ("colour", "dtype")}
        return Image(array, trace.geometry, trace.physical, trace.source, meta)

    def _mix(self, taps: list[tuple[int, float]], first: int, logits: Tensor) -> Tensor:
        """The logits (classes, h, w) of one output plane, still on the network's rows and columns."""
        planes = [(self._kept[p] if p < first else logits[:, p - first], weight) for p, weight in taps]
        plane, weight = planes[0]
        if len(planes) == 1 and weight == 1.0:
            return plane
        mixed = plane * weight
        for plane, weight in planes[1:]:
            mixed.add_(plane, alpha=weight)
        return mixed

    def _finish(self, place: int, plane: Tensor) -> None:
        assert self._target is not None
        out = self._target.out
        depth = self._trace.box[0][0] + out[0][0] + place
        rows, columns = self._to_do(plane)
        if rows[0] == rows[1]:
            return
        values = plane
        if self._resampled[2]:
            source = _columns_of(self._matrices[2], columns)
            part = self._matrices[2][slice(*columns), slice(*source)].to(plane.device)
            values = values[:, :, slice(*source)] @ part.T
        else:
            values = values[:, :, slice(*columns)]
        if self._resampled[1]:
            source = _columns_of(self._matrices[1], rows)
            part = self._matrices[1][slice(*rows), slice(*source)].to(plane.device)
            values = part @ values[:, slice(*source)]
        else:
            values = values[:, slice(*rows)]
        top, left = self._trace.box[1][0] + out[1][0], self._trace.box[2][0] + out[2][0]
        where = (depth, slice(top + rows[0], top + rows[1]), slice(left + columns[0], left + columns[1]))
        if self._half:
            values = values.half().float()
        self._labels[where] = self._decided(values).cpu().numpy()
        if self._probabilities is not None:
            shares = self._shares(values)
            self._probabilities[(slice(None), *where)] = shares.half().cpu().numpy()

    def _decided(self, values: Tensor) -> Tensor:
        """The label of every voxel, from logits (classes, h, w)."""
        if self._regions is None:
            return strongest(values)
        labels = torch.zeros(values.shape[1:], dtype=torch.int32, device=values.device)
        for label, region in zip(self._regions, values, strict=True):
            labels.masked_fill_(region > self._threshold, label)
        return labels

    def _shares(self, values: Tensor) -> Tensor:
        """Probabilities of what arrived, (classes, h, w)."""
        if self._regions is not None:
            return values if self._certain else values.sigmoid()
        # outputs that are not classes of the task have had their share of probabilities
        return values / values.sum(dim=0).clamp_min(_TINY) if self._certain else values.softmax(dim=0)

    def _to_do(self, plane: Tensor) -> tuple[Span, Span]:
        """Rows and columns of the output that may be foreground; all of them if probabilities are wanted."""
        _, height, width = box_shape(self._target.out) if self._target is not None else (0, 0, 0)
        if self._probabilities is not None or not self._convex:
            return (0, height), (0, width)
        foreground = plane[1:].amax(dim=0) > plane[0] if self._regions is None else plane.amax(dim=0) > self._threshold
        rows, columns = _extent(foreground.any(dim=1)), _extent(foreground.any(dim=0))
        if rows[0] == rows[1]:
            return (0, 0), (0, 0)
        if self._resampled[1]:
            rows = _rows_of(self._matrices[1], rows)
        if self._resampled[2]:
            columns = _rows_of(self._matrices[2], columns)
        return rows, columns


class MeanSink:
    """Averages the logits of several networks, which write the same planes in turn, rounded as in nnU-Net.

    Args:
        sink: receives the mean.
        members: number of networks.
    """

    def __init__(self, sink: Sink, members: int) -> None:
        self._sink = sink
        self._members = members
        self._total: Tensor | None = None
        self._taken = 0

    def write(self, first: int, logits: Tensor) -> None:
        """Receive planes of the next network.

        Args:
            first: index of the first plane in the region.
            logits: float32 (classes, planes, h, w).
        """
        self._total = logits.half() if self._total is None else self._total.add_(logits.half())
        self._taken += 1
        if self._taken == self._members:
            self._sink.write(first, self._total.div_(self._members).float())
            self._total, self._taken = None, 0


class StackSink:
    """Distributes the planes of slices that are segmented one by one: plane ``n`` belongs to ``sinks[n]``."""

    def __init__(self, sinks: list[LabelSink]) -> None:
        self.sinks = sinks

    def write(self, first: int, logits: Tensor) -> None:
        """Pass every plane to its slice's sink.

        Args:
            first: index of the first plane.
            logits: float32 (classes, planes, h, w).
        """
        for offset in range(logits.shape[1]):
            self.sinks[first + offset].write(0, logits[:, offset : offset + 1])


def strongest(logits: Tensor) -> Tensor:
    """The index of the largest logit along axis 0, the first one of equals.

    Args:
        logits: (classes, ...).

    Returns:
        (...), uint8, or int32 for more than 256 classes.
    """
    best = logits[0].clone()
    dtype = torch.uint8 if logits.shape[0] <= 256 else torch.int32
    labels = torch.zeros(best.shape, dtype=dtype, device=logits.device)
    for position, values in enumerate(logits[1:], start=1):
        labels.masked_fill_(values > best, position)
        torch.maximum(best, values, out=best)
    return labels


def output_bytes(shape: Shape3, classes: int, probabilities: bool) -> int:
    """Memory for the result of one task.

    Args:
        shape: (D, H, W) of the image's grid.
        classes: number of outputs, with the background.
        probabilities: whether probabilities are kept.

    Returns:
        Bytes.
    """
    voxels = shape[0] * shape[1] * shape[2]
    return voxels * (2 * (1 if classes <= 256 else 2) + (4 * classes if probabilities else 0))


def _is_identity(matrix: Tensor) -> bool:
    return matrix.shape[0] == matrix.shape[1] and bool(torch.equal(matrix, torch.eye(matrix.shape[0])))


def _taps(row: Tensor) -> list[tuple[int, float]]:
    return [(int(place), float(row[place])) for place in torch.nonzero(row).flatten()]
