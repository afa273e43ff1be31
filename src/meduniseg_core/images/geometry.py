"""Where an array of voxels lies in the patient.

The axis order is always that of the array: ``(D, H, W)``. World coordinates are DICOM's: LPS, in mm (x to the patient's
left, y to the back, z to the head), as in ITK. NIfTI's RAS is converted on reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

Shape3 = tuple[int, int, int]
Vector3 = tuple[float, float, float]
Matrix3 = tuple[Vector3, Vector3, Vector3]

IDENTITY_DIRECTION: Matrix3 = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
"""Direction of an axial volume stored as ITK's identity: d along +z, h along +y, w along +x."""


@dataclass(frozen=True)
class Geometry:
    """The grid of an array of shape ``(D, H, W)``.

    ``spacing`` is in mm along ``(d, h, w)``. ``direction[row][axis]``: column ``axis`` is the unit vector (x, y, z in
    LPS) along which that array axis runs. ``origin`` is the centre of voxel (0, 0, 0) in LPS mm.
    """

    shape: Shape3
    spacing: Vector3
    origin: Vector3 = (0.0, 0.0, 0.0)
    direction: Matrix3 = IDENTITY_DIRECTION

    @cached_property
    def affine(self) -> np.ndarray:
        """4x4 float64 matrix from array index ``(d, h, w, 1)`` to LPS mm ``(x, y, z, 1)``."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(self.direction) * np.asarray(self.spacing)[None, :]
        matrix[:3, 3] = self.origin
        matrix.flags.writeable = False
        return matrix

    @classmethod
    def from_affine(cls, affine: np.ndarray, shape: Shape3) -> Geometry:
        """Make the grid of an index-to-world matrix.

        Args:
            affine: (4, 4), from array index ``(d, h, w, 1)`` to LPS mm. Its columns may be sheared.
            shape: Voxels along ``(D, H, W)``.

        Returns:
            The grid. Shear stays in ``direction``, whose columns are unit vectors.
        """
        columns = np.asarray(affine, dtype=np.float64)[:3, :3]
        spacing = np.linalg.norm(columns, axis=0)
        direction = columns / spacing
        return cls(
            shape=(int(shape[0]), int(shape[1]), int(shape[2])),
            spacing=_vector(spacing),
            origin=_vector(np.asarray(affine)[:3, 3]),
            direction=(_vector(direction[0]), _vector(direction[1]), _vector(direction[2])),
        )

    @property
    def voxel_volume(self) -> float:
        """The volume of one voxel in mm³ (the area in mm² for a 2D image whose depth is 1 mm)."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def shear(self) -> float:
        """The largest cosine between two axes: 0 where all are perpendicular, more for a sheared or tilted grid."""
        matrix = np.asarray(self.direction)
        return float(np.abs(matrix.T @ matrix - np.eye(3)).max())

    def is_orthonormal(self, tolerance: float = 1e-3) -> bool:
        """Say whether the axes are perpendicular.

        Args:
            tolerance: The largest cosine between two axes that still counts; 1e-3 is 0.06 degrees.

        Returns:
            True where no cosine is larger.
        """
        return self.shear <= tolerance

    def is_close(self, other: Geometry, tolerance: float = 1e-4) -> bool:
        """Say whether two grids are equal but for rounding.

        Whether two images lie on one grid is another question, which `grid.same_grid` answers.

        Args:
            other: The other grid.
            tolerance: The largest distance between two corresponding voxels, in mm.

        Returns:
            True where the shapes are equal and no corner lies further off.
        """
        if self.shape != other.shape:
            return False
        corners = np.array([[d, h, w, 1.0] for d in (0, 1) for h in (0, 1) for w in (0, 1)])
        corners[:, :3] *= np.maximum(np.asarray(self.shape) - 1, 1)
        return bool(np.abs(corners @ (self.affine - other.affine).T).max() <= tolerance)


def _vector(values: np.ndarray) -> Vector3:
    return float(values[0]), float(values[1]), float(values[2])
