"""napari's reader: medical images with their geometry, label files of ``meduniseg segment`` with names and colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from meduniseg_core.images import read_image, read_labels
from meduniseg_core.images.formats import PHOTOGRAPH_FORMATS, format_of
from meduniseg_core.provenance import read_provenance
from napari_meduniseg._layers import LayerData, image_layers, label_layer

_DICOM_MARK = b"DICM"
_LOOKED_AT = 40  # files of a folder


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """A reader for the path(s), or None: pictures are napari's own unless they are our label files."""
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(item) for item in path]
    return read if paths and all(_is_ours(item) for item in paths) else None


def read(path: str | Sequence[str]) -> list[LayerData]:
    """All layers of the path(s)."""
    paths = [path] if isinstance(path, str | Path) else list(path)
    return [layer for item in paths for layer in read_one(Path(item))]


def read_one(path: Path) -> list[LayerData]:
    """The layers of one file or DICOM folder. BadInputError, in one sentence, where it cannot be read."""
    provenance = read_provenance(path) if path.is_file() else None
    if provenance is not None:
        return [label_layer(read_labels(path), provenance.classes, provenance.colours)]
    return image_layers(read_image(path))


def _is_ours(path: Path) -> bool:
    if path.is_dir():
        files = (item for item in sorted(path.iterdir()) if item.is_file())
        return any(_is_dicom(item) for _, item in zip(range(_LOOKED_AT), files, strict=False))
    if format_of(path) in PHOTOGRAPH_FORMATS:
        return read_provenance(path) is not None
    return True


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == _DICOM_MARK
    except OSError:
        return False
