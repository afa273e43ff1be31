"""One immutable image: its voxels and where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.images.findings import Finding, merge
from meduniseg_core.images.geometry import Geometry
from meduniseg_core.images.hashing import voxel_hash


@dataclass(frozen=True, eq=False)
class Image:
    """An image or a label map.

    ``array`` has shape ``(C, D, H, W)`` (a 2D image has D = 1, a label map C = 1). It is read-only and keeps the dtype
    of its file. ``physical`` is False for photographs and other images without a size in mm; their spacing is 1.
    ``meta`` holds what else the file says (``format``, ``dtype``, the header fields needed to write it back).
    ``findings`` hold what the reader noticed and the user must know.
    """

    array: np.ndarray
    geometry: Geometry
    physical: bool = True
    source: Path | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        if self.array.ndim != 4:
            raise BadInputError(
                f"An image needs an array of shape (C, D, H, W); this one has shape {self.array.shape}."
            )
        if tuple(self.array.shape[1:]) != self.geometry.shape:
            raise BadInputError(
                f"The array's grid {tuple(self.array.shape[1:])} is not the geometry's {self.geometry.shape}; "
                "pass a matching one."
            )
        view = self.array.view()
        view.flags.writeable = False
        object.__setattr__(self, "array", view)
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return int(self.array.shape[0])

    @property
    def is_2d(self) -> bool:
        """Whether the depth is 1."""
        return self.geometry.shape[0] == 1

    @property
    def size_unit(self) -> tuple[Literal["ml", "mm2", "pixels"], float]:
        """In what the size of a part of the image is told, and how much of it one voxel is: ml for a volume, mm2 for a
        slice with a size in mm, else pixels."""
        if not self.physical:
            return "pixels", 1.0
        if self.is_2d:
            return "mm2", self.geometry.spacing[1] * self.geometry.spacing[2]
        return "ml", self.geometry.voxel_volume / 1000

    @property
    def name(self) -> str:
        """The file's name, or "the image" for an image that was made in memory."""
        return self.source.name if self.source is not None else "the image"

    @property
    def files(self) -> tuple[Path, ...]:
        """The files (or the DICOM folder) that the image was read from; channels may have one file each."""
        sources = tuple(Path(name) for name in self.meta.get("sources", ()))
        return sources or (() if self.source is None else (self.source,))

    @cached_property
    def sha256(self) -> str:
        """The image's identity, from its voxels and their position (see `hashing`); computed once."""
        return voxel_hash(self.array, self.geometry.affine, self.physical)

    def with_array(self, array: np.ndarray, **meta: Any) -> Image:
        """Put another array on the same grid.

        Args:
            array: Voxels ``(C', D, H, W)``.
            **meta: Entries to add to ``meta``.

        Returns:
            A new image.

        Raises:
            BadInputError: The array's shape does not fit the grid.
        """
        return replace(self, array=array, meta={**self.meta, **meta})

    def with_findings(self, *findings: Finding) -> Image:
        """Add findings after the image's own, each once.

        Args:
            *findings: The findings to add.

        Returns:
            A new image; this one (with its cached hash) where no finding is new.
        """
        merged = merge(self.findings, findings)
        return self if merged == self.findings else replace(self, findings=merged)
