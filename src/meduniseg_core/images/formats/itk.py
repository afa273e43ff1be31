"""Writing of NRRD and MetaImage, through SimpleITK."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.files import atomic_path
from meduniseg_core.images.formats.quiet import quiet_libraries
from meduniseg_core.images.geometry import Geometry


def write_itk(path: Path, array: np.ndarray, geometry: Geometry, pairs: Mapping[str, str] | None = None) -> None:
    """Write a compressed ``.nrrd`` or ``.mha``, atomically, on exactly the given grid (sheared grids, too).

    Args:
        path: The file to write.
        array: ``(C, D, H, W)``; several channels become the elements of a vector voxel.
        geometry: The grid.
        pairs: Key/value pairs for the header of a NRRD file.

    Raises:
        BadInputError: The format lacks this dtype.
        UnwritableError: The folder or the disk refuses the file (ITK's failure counts as an OSError).
    """
    import SimpleITK as sitk  # noqa: N813 - its usual name; imported late, it is large

    try:
        if array.shape[0] == 1:
            image = sitk.GetImageFromArray(array[0])
        else:
            image = sitk.GetImageFromArray(np.ascontiguousarray(np.moveaxis(array, 0, -1)), isVector=True)
    except (TypeError, KeyError) as error:
        raise BadInputError(f"{path.name} cannot hold values of type {array.dtype}; convert them first.") from error
    image.SetSpacing([float(value) for value in reversed(geometry.spacing)])
    image.SetOrigin([float(value) for value in geometry.origin])
    image.SetDirection([float(value) for row in geometry.direction for value in reversed(row)])
    for key, value in (pairs or {}).items():
        image.SetMetaData(key, value)
    with atomic_path(path) as temporary:
        try:
            with quiet_libraries():
                sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:  # ITK's only kind; of a written file it means the disk
            raise OSError(errno.EIO, "ITK could not write it all") from error
