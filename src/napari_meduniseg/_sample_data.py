"""Sample data: real images that need no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from meduniseg_core.images import Geometry, Image
from napari_meduniseg._layers import LayerData, image_layers


def retina() -> list[LayerData]:
    """The fundus photograph that comes with scikit-image (1411 x 1411). It suits the starter model's task disc_cup."""
    from skimage.data import retina as photograph

    array = np.moveaxis(photograph(), -1, 0)[:, None]
    geometry = Geometry((1, array.shape[2], array.shape[3]), (1.0, 1.0, 1.0))
    image = Image(np.ascontiguousarray(array), geometry, False, Path("retina.jpg"), {"colour": "rgb"})
    return image_layers(image)
