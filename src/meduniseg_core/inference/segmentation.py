"""A segmentation: labels on the image's own grid, their meaning and their provenance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from meduniseg_core.catalog import task_title
from meduniseg_core.dicom_objects import LabelledSeries, dicom_format_of, dicom_writers
from meduniseg_core.files import write_text
from meduniseg_core.former_results import Standing, identities
from meduniseg_core.images import Image, write_image, write_labels
from meduniseg_core.images.findings import Finding
from meduniseg_core.images.instances import Instance, boxes_name, boxes_text
from meduniseg_core.images.label_tables import TABLES, LabelTable, table_name
from meduniseg_core.images.palette import Colour, class_colour
from meduniseg_core.images.upright import KEY, stored_orientation
from meduniseg_core.images.writing import check_ending
from meduniseg_core.inference.image_class import ImageClass
from meduniseg_core.inference.quality.assessment import (
    NOT_CALIBRATED,
    NOT_OF_A_PACK,
    NOT_OF_SEVERAL,
    ResultQuality,
    quality_record,
)
from meduniseg_core.inference.quality.evidence import Evidence
from meduniseg_core.outputs import write_result
from meduniseg_core.provenance import RESULT, image_entries, probabilities_name, provenance_path


@dataclass(frozen=True)
class ClassRow:
    """One class of a result: its size in ``unit`` and its mean intensity in each channel (NaN if it has no voxel)."""

    label: int
    name: str
    voxels: int
    size: float
    unit: Literal["ml", "mm2", "pixels"]
    mean_intensity: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The result of one task on one image.

    ``labels`` (1, D, H, W) are on the image's own grid; 0 is background, ``class_names[i]`` has label ``i + 1`` and
    colour ``colours[i]`` (RGB, 0 to 255). ``probabilities`` (background and classes, D, H, W) are float16, None unless
    requested. ``instances`` are the connected pieces of the classes, None unless requested. ``execution`` says how the
    windows ran (see `memory`), ``seconds`` how long. ``pack`` is the pack that refined the model for this task (None
    for the model alone). ``findings`` are what readers and checks found out about
    the image and the result, the JSON's "warnings". ``quality`` says how far to trust the result, None if the model is
    not calibrated for the task. ``evidence`` is what the pass shows about itself, None unless requested.
    ``image_class``: what a head says of the whole image, None without a head (`classification`).
    """

    labels: Image
    image: Image
    task: str
    modality: str
    class_names: tuple[str, ...]
    model: str
    model_sha256: str
    version: str
    seconds: float
    execution: str
    intended_use: str = ""
    probabilities: Image | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    pack: str | None = None
    pack_sha256: str | None = None
    findings: tuple[Finding, ...] = ()
    quality: ResultQuality | None = None
    evidence: Evidence | None = field(default=None, repr=False)
    instances: tuple[Instance, ...] | None = field(default=None, repr=False)
    image_class: ImageClass | None = None

    @property
    def shown_title(self) -> str:
        """What people call the task: the catalogue's title, else the task's name."""
        return task_title(self.task, self.modality, self.class_names)

    @property
    def quality_unknown(self) -> str:
        """Why nothing is said of the quality, where nothing is."""
        if "ensemble" in self.settings:
            return NOT_OF_SEVERAL
        return NOT_CALIBRATED if self.pack is None else NOT_OF_A_PACK

    @property
    def quality_record(self) -> dict[str, Any]:
        """What the JSON says of the quality."""
        return quality_record(self.quality, self.quality_unknown)

    @property
    def colours(self) -> tuple[Colour, ...]:
        """The colour of each class."""
        return tuple(class_colour(label) for label in range(1, len(self.class_names) + 1))

    def on_grid_of(self, image: Image) -> Segmentation:
        """The same result for the image as it was given, before its orientation was assumed or missing values were
        filled.

        Args:
            image: the image as it was given.

        Returns:
            A copy; the result itself if it is of this image.
        """
        if self.image is image:
            return self
        labels = replace(self.labels, geometry=image.geometry)
        probabilities = None if self.probabilities is None else replace(self.probabilities, geometry=image.geometry)
        return replace(self, image=image, labels=labels, probabilities=probabilities)

    def table(self) -> list[ClassRow]:
        """Measure every class: voxels, size and mean intensity.

        Returns:
            One row per class. The size is in ml for a volume, in mm2 for a slice with a size in mm, else in pixels.
        """
        unit, scale = self.labels.size_unit
        voxels = self._voxels
        count = len(voxels)
        sums = np.zeros((self.image.channels, count))
        for depth, plane in enumerate(self.labels.array[0]):  # plane by plane: bincount takes 8 bytes a voxel
            if not plane.any():
                continue
            ids = plane.ravel().astype(np.intp)
            for channel, total in zip(self.image.array, sums, strict=True):
                total += np.bincount(ids, weights=channel[depth].ravel().astype(np.float64), minlength=count)
        return [
            ClassRow(
                label=label,
                name=name,
                voxels=int(voxels[label]),
                size=float(voxels[label] * scale),
                unit=unit,
                mean_intensity=tuple(float(s[label] / voxels[label]) if voxels[label] else float("nan") for s in sums),
            )
            for label, name in enumerate(self.class_names, start=1)
        ]

    @cached_property
    def _voxels(self) -> np.ndarray:
        """The number of voxels of the background and of every class, counted once."""
        count = len(self.class_names) + 1
        voxels = np.zeros(count, dtype=np.int64)
        for plane in self.labels.array[0]:
            if plane.any():
                voxels += np.bincount(plane.ravel().astype(np.intp), minlength=count)
        return voxels

    def _measurements(self) -> dict[str, dict[str, Any]]:
        """The size of every class, by its label."""
        unit, scale = self.labels.size_unit
        return {
            str(label): {"voxels": int(voxels), "size": float(voxels * scale), "unit": unit}
            for label, voxels in enumerate(self._voxels[1:], start=1)
        }

    def provenance(self) -> dict[str, Any]:
        """The provenance of the labels, for their JSON file.

        Returns:
            Model and pack with their sha256, task, image, classes with their sizes, settings and warnings, in JSON's
            types; with a head also the image's class.
        """
        return {
            "task": self.task,
            "modality": self.modality,
            "model": self.model,
            "model_sha256": self.model_sha256,
            "pack": self.pack,
            "pack_sha256": self.pack_sha256,
            "version": self.version,
            **image_entries(self.image),
            "classes": {str(label): name for label, name in enumerate(self.class_names, start=1)},
            "colours": {str(label): list(colour) for label, colour in enumerate(self.colours, start=1)},
            "measurements": self._measurements(),
            **self._turned(),
            "settings": self.settings,
            "seconds": round(self.seconds, 3),
            "ran_on": self.execution,
            "intended_use": self.intended_use,
            "warnings": [finding.as_json() for finding in self.findings],
            "quality": self.quality_record,
            **({} if self.image_class is None else {"image_class": self.image_class.as_json()}),
        }

    def _turned(self) -> dict[str, int]:
        """How the pixels of the image's file, and so of the label file, are turned relative to what is displayed."""
        orientation = stored_orientation(self.image)
        return {} if orientation == 1 else {KEY: orientation}

    def labelled_series(self) -> LabelledSeries:
        """The labels with what a DICOM object says about them.

        Returns:
            The labels, their meaning and their model.
        """
        packs = {} if self.pack is None else {"pack": self.pack, "pack_sha256": self.pack_sha256 or ""}
        return LabelledSeries(
            labels=self.labels,
            image=self.image,
            classes=dict(enumerate(self.class_names, start=1)),
            colours=dict(enumerate(self.colours, start=1)),
            task=self.task,
            algorithm=self.model,
            algorithm_sha256=self.model_sha256,
            version=self.version,
            parameters=packs,
        )

    def save(
        self,
        path: str | Path,
        *,
        before: Standing | None = None,
        replace_edited: bool = False,
        tables: Sequence[str] = (),
    ) -> Path:
        """Write the labels, and beside them their provenance as ``<name>.json``, as one step.

        Probabilities, if there are any, go to ``<name>_probabilities`` in the same format, or to .npy beside a picture
        format, and instances to ``<name>_boxes.json``. An earlier result of this image is replaced unless it was edited
        since.

        Args:
            path: the label file; its ending chooses the format (.nii.gz, .nrrd, .seg.nrrd, .mha, .png, .tif, .npy),
                or the DICOM object, where the image was read from DICOM (`dicom_objects.DICOM_FORMATS`). A report
                (.sr.dcm) comes with the segmentation that it refers to.
            before: what was there when the work began (`former_results.standing`).
            replace_edited: also replace a result that was edited since it was written.
            tables: tables of the classes to write beside the labels (`label_tables.TABLES`).

        Returns:
            The path of the label file.

        Raises:
            UsageError: the library for DICOM objects is missing, or the image itself, a file that is not a result of
                ours or an edited result is in the way.
            BadInputError: the format is unknown or cannot hold the labels (a PNG holds one slice), the result of
                another image is there, or another program has written there since ``before``.
            UnwritableError: the folder cannot be written to.
        """
        path = Path(path)
        files: dict[str, Callable[[Path], object]]
        if dicom_format_of(path) is not None:
            files = dicom_writers([self.labelled_series()], path)
        else:
            check_ending(path)
            named = self.labelled_series()
            names, colours = named.classes, named.colours
            files = {
                path.name: lambda target: write_labels(
                    self.labels, target, like=self.image, names=names, colours=colours
                )
            }
        probabilities = self.probabilities
        if probabilities is not None:
            name = probabilities_name(path)
            files[name] = lambda target: write_image(probabilities, target, like=self.image)
        if self.instances is not None:
            listed = boxes_text(self.instances, self.labels, self.image.name, self.task)
            files[boxes_name(path)] = partial(write_text, text=listed)
        for kind in tables:
            text = TABLES[kind][1](LabelTable(self.labelled_series().classes, self.labelled_series().colours))
            files[table_name(path, kind)] = partial(write_text, text=text)
        write_result(
            provenance_path(path),
            self.provenance(),
            files,
            RESULT,
            inputs=identities(self.image.files),
            before=before,
            replace_edited=replace_edited,
        )
        return path
