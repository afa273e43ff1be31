"""Data sets in nnU-Net v2's raw layout.

They hold `dataset.json`, `imagesTr/CASE_0000.ext` and `labelsTr/CASE.ext`, and `imagesTs` and `labelsTs` for testing;
or `dataset.json` lists the training cases.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from meduniseg_core.errors import BadInputError
from meduniseg_core.images import read_image
from meduniseg_core.images.formats import ENDINGS, composed, ending_of, stem_of
from meduniseg_core.preprocessing.channel_names import files_per_case, modality_of_channels
from meduniseg_core.preprocessing.dataset_files import (
    CaseList,
    FoundFiles,
    Split,
    by_list,
    by_name,
    named_list,
)
from meduniseg_core.structured_text import parse_json
from meduniseg_core.validation import NAME_PATTERN, first_fault

IGNORE = "ignore"
"""nnU-Net's name for the label of voxels that nobody has labelled."""

_LIMIT = 64 * 2**20


def task_name(dataset: str) -> str:
    """Make a task's name from a data set's name.

    Args:
        dataset: nnU-Net's name for it, such as ``Dataset004_Hippocampus``.

    Returns:
        The name without its number, in lower case, and without characters that file names cannot have.
    """
    plain = re.sub(r"^Dataset\d+_", "", dataset)
    return re.sub(r"[^a-z0-9_.\-]+", "_", plain.lower()).strip("_.-") or "task"


class DatasetDescription(BaseModel):
    """`dataset.json`. Other keys of nnU-Net are ignored.

    ``modality``, ``task``, ``patient_of`` and ``sided`` are our optional additions, which nnU-Net ignores. ``dataset``
    and ``training`` list the cases.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    channel_names: dict[str, str] = Field(min_length=1)
    labels: dict[str, int] = Field(min_length=2, description="with nnU-Net's 'ignore', if there is one: the highest")
    file_ending: str = Field(pattern=r"^[A-Za-z0-9.]+$")
    name: str | None = None
    stated_cases: object = Field(default=None, alias="numTraining")
    modality: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_&+\-]*$")
    task: str | None = Field(default=None, pattern=NAME_PATTERN)
    patient_of: dict[str, str] = Field(default_factory=dict)
    sided: bool | None = Field(default=None, description="classes differ by body side; None: judged by their names")
    dataset: CaseList | None = None
    training: Annotated[CaseList, BeforeValidator(named_list)] | None = None

    @field_validator("labels", mode="before")
    @classmethod
    def _single_ids(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if all(_is_id(label) for label in value.values()) and not all(_is_id(name) for name in value):
            value = {name: int(label) for name, label in value.items()}  # numbers as text
        if value and all(isinstance(name, str) for name in value.values()):  # nnU-Net v1 and the Decathlon
            turned = {name: int(label) if str(label).isdecimal() else label for label, name in value.items()}
            raise ValueError(
                "labels are written as id: name, and nnU-Net v2's as name: id: "
                f"{json.dumps(turned, ensure_ascii=False)}"
            )
        single = {name: ids[0] if isinstance(ids, list) and len(ids) == 1 else ids for name, ids in value.items()}
        if any(isinstance(ids, list) for ids in single.values()):
            raise ValueError(
                "region-based labels (lists of ids) overlap, and here a voxel has one class; the label files can stay "
                f"if 'labels' names their ids instead: {json.dumps(_exclusive(single), ensure_ascii=False)}"
            )
        return single

    @field_validator("file_ending")
    @classmethod
    def _begins_with_a_dot(cls, value: str) -> str:
        if not value.startswith("."):
            raise ValueError(f"file_ending must begin with a dot: .{value}")
        return value

    @field_validator("patient_of", mode="before")
    @classmethod
    def _patients_as_text(cls, value: Any) -> Any:
        return {case: str(patient) for case, patient in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if sorted(self.channel_names) != sorted(str(i) for i in range(len(self.channel_names))):
            raise ValueError("channel_names must be numbered 0, 1, ...")
        if self.labels.get("background") != 0:
            raise ValueError("labels must hold 'background' with the id 0")
        if sorted(self.labels.values()) != list(range(len(self.labels))):
            raise ValueError("label ids must be 0, 1, 2, ... without a gap")
        if IGNORE in self.labels and self.labels[IGNORE] != len(self.labels) - 1:
            raise ValueError(f"the label '{IGNORE}' must have the highest id, {len(self.labels) - 1}")
        if not all(name.strip() for name in self.labels):
            raise ValueError("a label has no name; name every class")
        if self.labels.keys() <= {"background", IGNORE}:
            raise ValueError("labels must hold a class besides the background")
        return self


@dataclass(frozen=True)
class RawCase:
    """One case: its channel files (one for a colour image), its label map if there is one, and its patient."""

    case: str
    images: tuple[Path, ...]
    label: Path | None
    patient: str


@dataclass(frozen=True)
class RawDataset:
    """A data-set folder, opened with `open`. Files are looked up when they are asked for."""

    folder: Path
    description: DatasetDescription = field(repr=False)

    @classmethod
    def open(cls, folder: Path) -> RawDataset:
        """Open a data set.

        Args:
            folder: The folder that holds ``dataset.json``.

        Returns:
            The data set.

        Raises:
            BadInputError: The folder or its ``dataset.json`` is missing, unreadable or wrong.
        """
        folder = Path(folder)
        path = folder / "dataset.json"
        if not folder.is_dir():
            raise BadInputError(f"There is no data set at {folder}; give a folder in nnU-Net v2 raw layout.")
        if not path.is_file():
            raise BadInputError(f"{folder} has no dataset.json; give a folder in nnU-Net v2 raw layout.")
        try:
            if path.stat().st_size > _LIMIT:
                raise BadInputError(
                    f"{path} is too large to be a data-set description; write a plain nnU-Net v2 dataset.json."
                )
            content = parse_json(path.read_bytes())  # as bytes: Windows editors put a mark of the encoding in front
        except OSError as error:
            raise BadInputError(f"{path} cannot be read ({error.strerror}); make it readable.") from None
        except ValueError as error:
            raise BadInputError(f"{path} is not JSON ({error}); correct that place.") from None
        if isinstance(content, dict) and isinstance(content.get("modality"), dict):
            raise BadInputError(
                f"{path} is of nnU-Net v1 or the Decathlon; convert the data set to nnU-Net v2's raw layout."
            )
        try:
            return cls(folder, DatasetDescription.model_validate(content))
        except ValidationError as error:
            raise BadInputError(f"{path} does not hold: {first_fault(error)}; correct that entry.") from None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels' names, in the order of their numbers."""
        names = self.description.channel_names
        return tuple(names[str(index)] for index in range(len(names)))

    @property
    def classes(self) -> tuple[str, ...]:
        """The foreground classes; label id = position + 1."""
        ids = self.description.labels
        return tuple(sorted((name for name in ids if ids[name] > 0 and name != IGNORE), key=lambda name: ids[name]))

    @property
    def ignored(self) -> int | None:
        """The label id of voxels that training and evaluation leave out; None where the data set has no such label."""
        return self.description.labels.get(IGNORE)

    @property
    def task(self) -> str:
        """The task's name: ``task`` in dataset.json, else the folder's name without DatasetNNN_, in lower case."""
        if self.description.task is not None:
            return self.description.task
        return task_name(self.name)

    @property
    def modality(self) -> str:
        """The modality: ``modality`` in dataset.json, else what the channels' names tell.

        Raises:
            BadInputError: Neither tells.
        """
        if self.description.modality is not None:
            return self.description.modality.lower()
        modality = modality_of_channels(self.channels)
        if modality is None:
            raise BadInputError(
                f'{self.folder / "dataset.json"} does not say its modality; add for instance "modality": "ct".'
            )
        return modality

    @cached_property
    def dimension(self) -> Literal[2, 3]:
        """2 if the first case's image has depth 1, else 3. That image is read.

        Raises:
            BadInputError: There are no cases, or the image cannot be read.
        """
        cases = self.cases("Tr") or self.cases("Ts")
        if not cases:
            raise BadInputError(
                f"{self.folder} holds no cases; put images named CASE_0000{self.description.file_ending} in imagesTr."
            )
        return 2 if read_image(cases[0].images).is_2d else 3

    def files(self, split: Split = "Tr") -> FoundFiles:
        """Find the files of a split's cases. None is opened.

        Args:
            split: "Tr" (training) or "Ts" (test).

        Returns:
            The files, and what their names alone show to be wrong.
        """
        listed = self._listed if split == "Tr" else None
        channels = files_per_case(self.channels)
        if listed is not None:
            return by_list(self.folder, listed, channels)
        return by_name(self.folder, split, self.description.file_ending, channels)

    def cases(self, split: Split = "Tr") -> list[RawCase]:
        """List the cases of a split.

        Args:
            split: "Tr" (training) or "Ts" (test).

        Returns:
            The cases, sorted by name; none where the folder is absent. ``label`` is None where there is no label file.

        Raises:
            BadInputError: A channel is missing, a case is there twice, a label has no image, or a list is wrong.
        """
        found = self.files(split)
        if found.faults:
            raise BadInputError(found.faults[0])
        patients = {composed(case): patient for case, patient in self.description.patient_of.items()}
        return [
            RawCase(
                files.case,
                files.images,
                files.label if files.label is not None and files.label.is_file() else None,
                patients.get(composed(files.case), files.case),  # a case that is not named is a patient of its own
            )
            for files in found.cases
        ]

    def name_faults(self, split: Split = "Tr") -> list[str]:
        """List what the file names and patients of a split show to be wrong. No image is opened.

        Args:
            split: "Tr" (training) or "Ts" (test).

        Returns:
            One sentence per fault.
        """
        found = self.files(split)
        faults = list(found.faults)
        wanted = split == "Tr" or (self.folder / f"labels{split}").is_dir()
        for files in found.cases if wanted else ():
            if files.label is None:
                faults.append(
                    f"{self.folder / 'dataset.json'} lists no label for {files.case}; add it or remove the case."
                )
            elif not files.label.is_file():
                faults.append(_without_label(files.label))
        if split == "Tr":
            folder = self.folder / "imagesTr"
            if self._listed is None and not folder.is_dir():
                faults.append(f"{folder} is missing, so there are no training cases; put images there.")
            elif not found.cases:
                faults.append(self._nothing_found(folder))
            known = {composed(files.case) for files in (*found.cases, *self.files("Ts").cases)}
            strangers = sorted(case for case in self.description.patient_of if composed(case) not in known)
            if strangers and known:
                path = self.folder / "dataset.json"
                faults.append(f"{path}: patient_of names {strangers[0]}, which is not a case; correct it.")
        return faults

    def _nothing_found(self, images: Path) -> str:
        """Why there are no training cases, in a sentence."""
        if self._listed is not None:
            return f"{self.folder / 'dataset.json'} holds no usable training cases; put images there."
        others = [path.name for path in sorted(images.iterdir()) if ending_of(path) and path.is_file()]
        if others:
            wanted = self.description.file_ending
            return (
                f"{images} holds no {wanted} files, and dataset.json says file_ending {wanted}: there is {others[0]}; "
                "correct file_ending, or convert the images."
            )
        return f"{images} holds no usable training cases; put images there."

    def training_cases(self) -> list[RawCase]:
        """List the training cases, all of which have labels.

        Returns:
            The cases, sorted by name.

        Raises:
            BadInputError: `name_faults` finds a fault.
        """
        faults = self.name_faults("Tr")
        if faults:
            raise BadInputError(faults[0])
        return self.cases("Tr")

    @property
    def _listed(self) -> CaseList | None:
        """The list of training cases where one counts: "dataset" always (as in nnU-Net), "training" without imagesTr
        (nnU-Net leaves old lists where they were)."""
        if self.description.dataset is not None:
            return self.description.dataset
        return None if (self.folder / "imagesTr").is_dir() else self.description.training


def _without_label(label: Path) -> str:
    """The fault of a case without a label file; one of another format may be there."""
    formats = (label.with_name(f"{stem_of(label)}{ending}") for ending in ENDINGS)
    other = next((path for path in formats if path.is_file()), None)
    if other is None:
        return f"{label} is missing; add the labels or remove the case."
    ending = ending_of(label)
    remedy = (
        "save the images as PNG, too, because JPEG changes labels"
        if ending is not None and ENDINGS[ending] == "jpeg"
        else f"save it as {label.name}"
    )
    return f"{other} has another ending than the images, and in nnU-Net's layout both have the same; {remedy}."


def _is_id(value: object) -> bool:
    """Whether a label's id is written as text."""
    return isinstance(value, str) and value.isdecimal()


def _exclusive(labels: dict[str, Any]) -> dict[str, int]:
    """``labels`` with regions as classes that do not overlap: each id is called after the smallest region it is in."""
    regions = {name: ids if isinstance(ids, list) else [ids] for name, ids in labels.items()}
    numbers = sorted({number for ids in regions.values() for number in ids if isinstance(number, int)})
    smallest = {
        number: min((name for name in regions if number in regions[name]), key=lambda name: len(regions[name]))
        for number in numbers
    }
    names = list(smallest.values())
    return {
        name if len(regions[name]) == 1 else f"{name} {number}" if names.count(name) > 1 else f"rest of {name}": number
        for number, name in smallest.items()
    }
