"""Saving unfinished edits so that they survive a crash: changed labels layers are kept in the user's folder.

A file belongs to the process that wrote it, which is known by its id and its start time (ids are used again after a
restart, and in containers). Files of a process that is gone were left by a crash. Edits that the user discarded, or did
not save when closing the window, stay in a bin for a week (`_edit_bin`).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from napari.layers import Labels

from meduniseg_core.adaptation.detached import Mark
from meduniseg_core.errors import BadInputError
from meduniseg_core.files import remove_orphans, write_bytes
from meduniseg_core.images import canonical_orientation, read_image
from meduniseg_core.paths import user_folder
from meduniseg_core.structured_text import parse_json
from napari_meduniseg import _edit_bin
from napari_meduniseg._belonging import source_of
from napari_meduniseg._editing import class_names_of
from napari_meduniseg._layers import class_options, origin_metadata

_SUFFIX = ".labels.npz"
_PLACEMENT = ("scale", "translate", "rotate", "shear")


@dataclass(frozen=True)
class Leftover:
    """Edits that a crash left: whose labels they are, and when they were saved."""

    path: Path
    name: str
    saved: datetime

    @property
    def text(self) -> str:
        """The edits' line in a list."""
        return f"{self.name}, {self.saved.astimezone():%Y-%m-%d %H:%M}"


def folder() -> Path:
    """The folder where unfinished edits are kept."""
    return user_folder() / "autosave"


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A layer at one moment: the file it goes to, a copy of its labels, and what is known about it (JSON)."""

    path: Path
    labels: np.ndarray
    about: str


@dataclass(frozen=True, eq=False)
class Restored:
    """What `restore` read: labels, napari's options for their layer, and the classes that were locked."""

    labels: np.ndarray
    options: dict[str, Any]
    locked: frozenset[int]


def snapshot(layer: Labels, locked: Collection[int] = ()) -> Snapshot:
    """Copy what `write` needs. It is quick, for the GUI's thread. ``locked``: classes that may not be painted over."""
    belongs = source_of(layer.metadata)
    source = None if belongs is None else belongs[0].source
    classes = class_names_of(layer)
    colours = {label: [float(v) for v in np.asarray(layer.get_color(label))] for label in classes}
    about = {
        "name": layer.name,
        "saved": datetime.now(UTC).isoformat(),
        "classes": {str(label): name for label, name in classes.items()},
        "colours": {str(label): [round(255 * v) for v in colour[:3]] for label, colour in colours.items()},
        "locked": sorted(int(label) for label in locked),
        "units": [str(unit) for unit in layer.units],
        "affine": np.asarray(layer.affine.affine_matrix).tolist(),
        "source": None if source is None else str(source),
        "chosen": {} if belongs is None else _chosen(belongs[0].meta),
        **{key: np.asarray(getattr(layer, key)).tolist() for key in _PLACEMENT},
    }
    return Snapshot(_path(layer), np.array(layer.data), json.dumps(about))


def write(taken: Snapshot) -> Path:
    """Compress a snapshot and write it atomically. It replaces the layer's former file; for a worker's thread."""
    stream = io.BytesIO()
    np.savez_compressed(stream, labels=taken.labels, about=np.array(taken.about))
    folder().mkdir(parents=True, exist_ok=True)
    write_bytes(taken.path, stream.getvalue())
    return taken.path


def is_kept(layer: Labels) -> bool:
    """Whether edits of the layer were written here and are not saved by the user yet."""
    return _path(layer).exists()


def forget(layer: Labels) -> None:
    """Delete the kept edits of a layer that the user has saved."""
    _path(layer).unlink(missing_ok=True)


def put_aside(layer: Labels) -> None:
    """Move the edits of a layer that was removed to the bin."""
    _edit_bin.put_in_bin(_path(layer), _bin())


def put_all_aside() -> None:
    """Move all unsaved edits of this process to the bin.

    The process ends normally, so they are not offered again unasked.
    """
    for path in folder().glob(f"{_owner()}-*{_SUFFIX}"):
        _edit_bin.put_in_bin(path, _bin())


def discard_leftover(leftover: Leftover) -> None:
    """Move edits that a crash left to the bin."""
    _edit_bin.put_in_bin(leftover.path, _bin())


def leftovers() -> list[Leftover]:
    """List the edits that processes left behind, newest first; files that cannot be read are skipped."""
    remove_orphans(folder())  # of a process that was killed while it kept edits
    return _listed(path for path in folder().glob(f"*{_SUFFIX}") if not _is_owned(path))


def binned() -> list[Leftover]:
    """List the edits in the bin, newest first, after deleting those that have been there for more than a week."""
    return _listed(_edit_bin.kept(_bin(), _SUFFIX))


def _listed(paths: Iterable[Path]) -> list[Leftover]:
    found = []
    for path in paths:
        try:
            about = _about(path)
        except BadInputError:
            continue
        found.append(Leftover(path, str(about["name"]), datetime.fromisoformat(str(about["saved"]))))
    return sorted(found, key=lambda leftover: leftover.saved, reverse=True)


def _bin() -> Path:
    return folder() / "discarded"


def restore(leftover: Leftover) -> Restored:
    """Read the labels and what is known about them, on their image's grid where the image can still be read.

    Raises BadInputError where the file is damaged.
    """
    labels, about = _labels(leftover.path), _about(leftover.path)
    classes = {int(label): str(name) for label, name in about["classes"].items()}
    colours = {int(label): (int(c[0]), int(c[1]), int(c[2])) for label, c in about["colours"].items()}
    options: dict[str, Any] = {
        "name": f"{about['name']} (restored)",
        "units": tuple(about["units"]),
        "affine": np.asarray(about["affine"]),
        **{key: about[key] for key in _PLACEMENT},
        **class_options(classes, colours),
    }
    locked = frozenset(int(label) for label in about.get("locked", ()))
    return Restored(labels, {**options, **_origin(about["source"], about.get("chosen"), labels, options)}, locked)


def take_over(leftover: Leftover, layer: Labels) -> None:
    """Make restored edits (now ``layer``) belong to this process: they are offered again only if it crashes, too."""
    leftover.path.replace(_path(layer))


def _chosen(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Which of several images of its source this one is, as ``read_image`` takes it."""
    kinds = {"series": str, "frame": int}
    return {key: meta[key] for key, kind in kinds.items() if isinstance(meta.get(key), kind)}


def _origin(source: str | None, chosen: object, labels: np.ndarray, options: dict[str, Any]) -> dict[str, Any]:
    """The metadata that tie the labels to their image; nothing where that cannot be read or has another grid."""
    if source is None:
        return {}
    try:
        image = read_image(source, **_chosen(chosen if isinstance(chosen, dict) else {}))
    except BadInputError:
        return {}
    canonical, change = canonical_orientation(image)
    shape = canonical.geometry.shape[1:] if image.is_2d else canonical.geometry.shape
    if tuple(labels.shape) != tuple(shape):
        return {}
    one = image if image.channels == 1 else image.with_array(image.array[:1])
    return origin_metadata(one, change, labels, options, is_labels=True)


def _path(layer: Labels) -> Path:
    return folder() / f"{_owner()}-{id(layer):x}{_SUFFIX}"


@cache
def _owner() -> str:
    """This process, as its files are called."""
    mark = Mark.of(os.getpid())
    return f"{mark.pid}-{_beginning(mark)}"


def _beginning(mark: Mark) -> str:
    """When the process began, for a file's name: without the clock, which may be set, where the system tells it so."""
    if mark.started is None:
        return str(round(mark.created * 100))
    return "b" + hashlib.sha256(mark.started.encode()).hexdigest()[:16]


def _is_owned(path: Path) -> bool:
    """Whether the process that wrote the file still runs."""
    pid, *more = path.name.removesuffix(_SUFFIX).split("-")
    if not pid.isdigit():
        return True  # none of ours
    if path.name.startswith(f"{_owner()}-"):
        return True
    with suppress(OSError, ValueError, OverflowError, psutil.Error):
        if len(more) == 2 and more[0].startswith("b"):
            return psutil.pid_exists(int(pid)) and _beginning(Mark.of(int(pid))) == more[0]
        if len(more) == 2 and more[0].isdigit():
            return Mark(pid=int(pid), created=int(more[0]) / 100).process() is not None
        # written by a version that noted the id alone: whoever has it now and began later is another
        return bool(psutil.Process(int(pid)).create_time() <= path.stat().st_mtime)
    return False


def _about(path: Path) -> dict[str, Any]:
    """What is known about the labels in this file, without reading them: they may be large."""
    try:
        with np.load(path, allow_pickle=False) as content:
            about: dict[str, Any] = parse_json(str(content["about"]))
        datetime.fromisoformat(str(about["saved"]))
        if {"name", "classes", "colours", "units", "affine", "source", *_PLACEMENT} - set(about):
            raise ValueError("it lacks what is needed")
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise BadInputError(f"{path.name}: these kept edits cannot be read ({error}); delete the file.") from error
    return about


def _labels(path: Path) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as content:
            labels: np.ndarray = content["labels"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInputError(f"{path.name}: these kept edits cannot be read ({error}); delete the file.") from error
    if labels.dtype.kind not in "iu" or labels.ndim not in (2, 3):
        raise BadInputError(f"{path.name}: these kept edits do not hold labels; delete the file.")
    return labels
