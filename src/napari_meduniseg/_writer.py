"""napari's writers: labels and images on the grid they came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from meduniseg_core.files import write_text
from meduniseg_core.images import write_image, write_labels
from meduniseg_core.provenance import provenance_path
from napari_meduniseg._layers import METADATA_KEY, Origin, checksum, labels_image, plain_image


def write_labels_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a labels layer; the provenance of a result goes beside it as JSON, with whether it was edited since."""
    labels, like = labels_image(np.asarray(data), attributes)
    write_labels(labels, path, like=like)
    written = [path]
    record = (attributes.get("metadata") or {}).get(METADATA_KEY)
    if isinstance(record, dict) and "provenance" in record:
        beside = provenance_path(Path(path))
        about = {**record["provenance"], "edited": checksum(np.asarray(data)) != record["crc"]}
        write_text(beside, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
        written.append(str(beside))
    return written


def write_image_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer, with the header's geometry where the layer is what was read."""
    record = (attributes.get("metadata") or {}).get(METADATA_KEY)
    if isinstance(record, Origin) and data is record.shown:
        write_image(record.image, path)
    else:
        write_image(plain_image(np.asarray(data), attributes, str(attributes.get("name", "the layer"))), path)
    return [path]
