"""Images on sheared grids (a tilted gantry): segmented on perpendicular axes, the result resampled to their own
grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from meduniseg_core.images import Image
from meduniseg_core.images.boxes import Box
from meduniseg_core.images.resample_grid import resample_to, resample_to_orthonormal
from meduniseg_core.inference.execution import Request
from meduniseg_core.inference.segmentation import Segmentation


@dataclass(frozen=True)
class Desheared:
    """A sheared image, and the same image on perpendicular axes."""

    original: Image
    image: Image

    @classmethod
    def of(cls, image: Image) -> Desheared | None:
        """Resample a sheared image to perpendicular axes.

        Args:
            image: (C, D, H, W).

        Returns:
            Both images; None if the axes are perpendicular already.
        """
        if not image.physical or image.is_2d:
            return None
        desheared, changed = resample_to_orthonormal(image)
        return cls(image, desheared) if changed else None

    def request(self, request: Request) -> Request:
        """Translate a request to the desheared image: its box encloses the requested one.

        Args:
            request: the request for the original image.

        Returns:
            The request for the desheared image.
        """
        return request if request.box is None else replace(request, box=self._enclosing(request.box))

    def restore(self, result: Segmentation, box: Box | None) -> Segmentation:
        """Resample a result to the original grid (labels by nearest neighbour), with background outside the box.

        Args:
            result: the result on the desheared image.
            box: the requested box, in voxels of the original image; None for the whole image.

        Returns:
            The result on the original image.
        """
        return replace(
            result,
            image=self.original,
            labels=self._back(result.labels, box, labels=True),
            probabilities=None if result.probabilities is None else self._back(result.probabilities, box, labels=False),
            settings={**result.settings, "straightened": True},
        )

    def _enclosing(self, box: Box) -> Box:
        to_straight = np.linalg.inv(self.image.geometry.affine) @ self.original.geometry.affine
        corners = np.array([(d, h, w, 1) for d in _ends(box[0]) for h in _ends(box[1]) for w in _ends(box[2])])
        places = (corners @ to_straight.T)[:, :3]
        low, high = np.floor(places.min(axis=0)), np.ceil(places.max(axis=0)) + 1
        shape = self.image.geometry.shape
        d, h, w = (
            (int(np.clip(a, 0, size - 1)), int(np.clip(b, 1, size)))
            for a, b, size in zip(low, high, shape, strict=True)
        )
        return d, h, w

    def _back(self, image: Image, box: Box | None, *, labels: bool) -> Image:
        if labels:
            array = resample_to(image, self.original.geometry, labels=True).array
        else:
            # outside of the straight grid there is background, with certainty
            background, *classes = (image.with_array(channel[None]) for channel in image.array.astype(np.float32))
            parts = [resample_to(background, self.original.geometry, outside=1.0).array]
            parts += [resample_to(channel, self.original.geometry, outside=0.0).array for channel in classes]
            array = np.concatenate(parts).astype(image.array.dtype)
        if box is not None:
            kept = np.zeros_like(array)
            if not labels:
                kept[0] = 1
            inside = (slice(None), *(slice(*span) for span in box))
            kept[inside] = array[inside]
            array = kept
        return Image(array, self.original.geometry, self.original.physical, self.original.source, image.meta)


def _ends(span: tuple[int, int]) -> tuple[int, int]:
    """The centres of the first and the last voxel."""
    return span[0], span[1] - 1
