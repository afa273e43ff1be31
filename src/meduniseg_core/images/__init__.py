"""Images: readers and writers for every format, and the geometry that travels with the voxels.

Arrays are ``(C, D, H, W)``; positions are LPS in mm.
"""

from meduniseg_core.images.cases import Case, find_cases
from meduniseg_core.images.choices import Choice, SeveralImagesError
from meduniseg_core.images.findings import Finding
from meduniseg_core.images.geometry import Geometry
from meduniseg_core.images.grid import join_labels, place_labels, reorient_to, same_grid
from meduniseg_core.images.image import Image
from meduniseg_core.images.orientation import Reorientation, canonical_orientation
from meduniseg_core.images.reading import check_channels, read_image, read_labels, stack_channels
from meduniseg_core.images.writing import write_image, write_labels

__all__ = [
    "Case",
    "Choice",
    "Finding",
    "Geometry",
    "Image",
    "Reorientation",
    "SeveralImagesError",
    "canonical_orientation",
    "check_channels",
    "find_cases",
    "join_labels",
    "place_labels",
    "read_image",
    "read_labels",
    "reorient_to",
    "same_grid",
    "stack_channels",
    "write_image",
    "write_labels",
]
