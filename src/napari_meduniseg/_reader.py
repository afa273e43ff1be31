"""napari's reader: medical images with their geometry, label files of ``meduniseg segment`` with names and colours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_warning

from meduniseg_core.dicom_objects.formats import REPORT
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image, SeveralImagesError, place_labels, read_image, read_labels
from meduniseg_core.images.choices import Choice
from meduniseg_core.images.formats import PHOTOGRAPH_FORMATS, ending_of, format_of
from meduniseg_core.images.formats.decoding import decoding_once
from meduniseg_core.images.formats.dicom_folders import dicom_places, holds_dicom
from meduniseg_core.images.formats.dicom_label_objects import (
    label_object_in,
    referenced_image,
    referenced_series,
    series_beside,
)
from meduniseg_core.images.formats.dicom_source import is_dicom
from meduniseg_core.images.formats.slicer_segments import SEGMENTATION_ENDING
from meduniseg_core.images.label_tables import table_beside
from meduniseg_core.provenance import label_provenance
from napari_meduniseg._layers import LayerData, image_layers, label_layer, living_origins

_NO_LAYER: list[Any] = [(None,)]
_AT_ONCE = 12  # images of a folder that are opened together


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """A reader for the path(s), or None where a file without an ending is no DICOM."""
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(item) for item in path]
    return read if paths and all(_is_ours(item) for item in paths) else None


def read(path: str | Sequence[str]) -> list[LayerData]:
    """All layers of the path(s); napari's mark of none where the user was asked and wants none."""
    paths = [path] if isinstance(path, str | Path) else list(path)
    return [layer for item in paths for layer in read_one(Path(item))] or _NO_LAYER


def read_one(path: Path) -> list[LayerData]:
    """The layers of one file, or of the DICOM in a folder and below it; one per series or frame.

    Of more than a dozen images, series or frames the user chooses. Where there is no window to ask in: BadInputError
    for images and series, the first dozen for frames. BadInputError, in one sentence, for what cannot be read.
    """
    with decoding_once():
        return _folder(path) if path.is_dir() else _file(path)


def _folder(path: Path) -> list[LayerData]:
    labels = label_object_in(path)
    if labels is not None:
        return _label_object(labels)
    places = dicom_places(path)
    if len(places) <= 1:
        return _images(path)
    if len(places) > _AT_ONCE:
        wanted = _asked(f"{path.name} holds {len(places)} DICOM images", [place.name for place in places])
        if wanted is None:
            raise BadInputError(
                f"{path} holds {len(places)} DICOM images; open one of its folders or files, or segment all of them "
                "with the Batch panel."
            )
        places = [places[index] for index in wanted]
    return [layer for place in places for layer in _images(place.paths)]


def _file(path: Path) -> list[LayerData]:
    if path.name.lower().endswith(REPORT.ending):  # a report's voxels are those of its segmentation
        path = path.with_name(REPORT.names(path)[1])
    if (format_of(path) if ending_of(path) is not None else "dicom") == "dicom":
        labels_file = label_object_in(path)
        if labels_file is not None:
            return _label_object(labels_file)
    provenance = label_provenance(path)
    if provenance is not None:
        labels = _placed_as(read_labels(path), provenance.image)
        return [label_layer(labels, provenance.classes, provenance.colours)]
    if path.name.lower().endswith(SEGMENTATION_ENDING) or table_beside(path) is not None:
        labels = read_labels(path)
        names, colours = labels.meta.get("class_names", {}), labels.meta.get("class_colours", {})
        return [label_layer(labels, dict(names), dict(colours))]
    return _images(path)


def _label_object(path: Path) -> list[LayerData]:
    """A DICOM segmentation or structure set, on its image where that is open or lies beside it."""
    references = referenced_series(path)
    image = referenced_image(references, (origin.image for origin in living_origins()))
    if image is None:
        beside = series_beside(references, path.parent)
        image = None if beside is None else read_image(beside[0], series=beside[1])
    labels = read_labels(path, like=image)
    if image is not None:
        labels = place_labels(labels, image)
    for finding in labels.findings:
        if finding.level == "warning":
            show_warning(finding.text)
    return [label_layer(labels, dict(labels.meta["class_names"]), dict(labels.meta["class_colours"]))]


def _images(source: Path | tuple[Path, ...], title: str = "", series: str | None = None) -> list[LayerData]:
    """The layers of a path (or the folders of one series): of each series or frame, where it holds several."""
    path = source if isinstance(source, Path) else source[0]
    try:
        return _titled(read_image(source, series=series), title)
    except SeveralImagesError as error:
        choices = _wanted(path.name, error)
    layers: list[LayerData] = []
    for choice in choices:
        named = f"{title or path.name}: {choice.title}"
        if choice.frame is None:
            layers += _images(source, named, choice.series)
        else:
            layers += _titled(read_image(source, series=choice.series, frame=choice.frame), named)
    return layers


def _wanted(name: str, error: SeveralImagesError) -> Sequence[Choice]:
    """The images of a source that are opened: all of few; of a film's frames or a study's series the user's choice."""
    choices = error.choices
    if len(choices) <= _AT_ONCE:
        return choices
    frames = all(choice.frame is not None for choice in choices)
    what = f"{name} holds {len(choices)} {'frames' if frames else 'series'}"
    wanted = _asked(what, [choice.title for choice in choices])
    if wanted is not None:
        return [choices[index] for index in wanted]
    if not frames:
        raise error
    show_warning(f"{what}, of which the first {_AT_ONCE} are opened; 'meduniseg segment --frame N' takes any.")
    return choices[:_AT_ONCE]


def _asked(what: str, titles: Sequence[str]) -> list[int] | None:
    """Which of many images the user wants to open; None where nobody can be asked."""
    if threading.current_thread() is not threading.main_thread():
        return None
    from napari_meduniseg._choose_images import ask_which, can_ask  # late: reading alone needs no Qt

    return ask_which(f"{what}. Choose those to open; each becomes a layer.", titles) if can_ask() else None


def _titled(image: Image, title: str) -> list[LayerData]:
    """The image's layers, which begin with ``title`` instead of its file's name, if there is one."""
    layers = image_layers(image)
    if not title:
        return layers
    name = image.name
    return [(data, {**options, "name": title + options["name"][len(name) :]}, kind) for data, options, kind in layers]


def _placed_as(labels: Image, name: str) -> Image:
    """Labels of a file that cannot say where they lie in the patient (PNG, TIFF), on their image where that is open."""
    if labels.physical and labels.meta.get("orientation_known", True):
        return labels
    images = [origin.image for origin in living_origins() if origin.image.name == name and origin.image.physical]
    on_it = {image.geometry: image for image in images if image.geometry.shape == labels.geometry.shape}
    if len(on_it) != 1:
        return labels
    try:
        return place_labels(labels, next(iter(on_it.values())))
    except BadInputError:  # of other voxels than this image's: they were changed since
        return labels


def _is_ours(path: Path) -> bool:
    if path.is_dir():
        return holds_dicom(path)
    if ending_of(path) is None:
        return _is_dicom(path)
    if format_of(path) in PHOTOGRAPH_FORMATS:
        return path.is_file()
    return True


def _is_dicom(path: Path) -> bool:
    try:
        return is_dicom(path)
    except BadInputError:
        return False
