"""What the plugin takes a layer for, in one step."""

from __future__ import annotations

from collections.abc import Sequence

from napari.layers import Image as ImageLayer

from napari_meduniseg._layer_input import LayerImage, read_layers, snapshot_layers


def layer_image(layers: Sequence[ImageLayer]) -> LayerImage:
    """The image that one layer (or one layer per channel) shows, on its own grid."""
    return read_layers(snapshot_layers(layers))
