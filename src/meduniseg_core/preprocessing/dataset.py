"""Data sets in nnU-Net v2's raw layout.

`dataset.json`, `imagesTr/CASE_0000.ext`, `labelsTr/CASE.ext`, and for testing `imagesTs`, `labelsTs`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from meduniseg_core.errors import BadInputError
from meduniseg_core.events import CancelToken, EventSink, ignore
from meduniseg_core.images import find_cases, read_image
from meduniseg_core.preprocessing._validation import first_fault

Split = Literal["Tr", "Ts"]
_LIMIT = 64 * 2**20
_COLOURS = ({"r", "red"}, {"g", "green"}, {"b", "blue"})
# what nnU-Net users write as channel names, where it settles the modality
_CHANNELS_OF_MODALITY = {
    "ct": ("ct",),
    "mri": ("mri", "mr", "t1", "t2", "t1w", "t2w", "t1c", "t1ce", "t1gd", "flair", "adc", "dwi"),
    "pet": ("pet", "suv"),
    "ultrasound": ("ultrasound", "us"),
    "xray": ("xray", "x-ray"),
    "fundus": ("fundus",),
    "dermoscopy": ("dermoscopy",),
    "pathology": ("pathology",),
    "endoscopy": ("endoscopy",),
}
_MODALITY_OF_CHANNEL = {name: modality for modality, names in _CHANNELS_OF_MODALITY.items() for name in names}


def is_colour(channels: tuple[str, ...]) -> bool:
    """Whether ``channels`` are the red, green and blue of one colour image."""
    return len(channels) == 3 and all(name.lower() in names for name, names in zip(channels, _COLOURS, strict=True))


def files_per_case(channels: tuple[str, ...]) -> int:
    """How many files hold one case: one per channel, a single one for a colour image."""
    return 1 if is_colour(channels) else len(channels)


class DatasetDescription(BaseModel):
    """`dataset.json`; keys of nnU-Net that do not concern us are ignored. ``modality``, ``task``, ``patient_of`` and
    ``sided`` are our optional additions, which nnU-Net ignores."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    channel_names: dict[str, str] = Field(min_length=1)
    labels: dict[str, int] = Field(min_length=2)
    file_ending: str = Field(pattern=r"^\.[A-Za-z0-9.]+$")
    name: str | None = None
    modality: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_&+\-]*$")
    task: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")
    patient_of: dict[str, str] = Field(default_factory=dict)
    sided: bool | None = Field(default=None, description="classes differ by body side; None: judged by their names")

    @field_validator("labels", mode="before")
    @classmethod
    def _single_ids(cls, value: Any) -> Any:
        if isinstance(value, dict):
            if any(isinstance(ids, list) for ids in value.values()):
                raise ValueError("region-based labels (lists of ids) are not supported; give each class one id")
            if "ignore" in value:
                raise ValueError("the 'ignore' label is not supported; leave those cases out")
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
        return self


@dataclass(frozen=True)
class RawCase:
    """One case: its channel files (one file for a colour image), its label map if any, and whose it is."""

    case: str
    images: tuple[Path, ...]
    label: Path | None
    patient: str


@dataclass(frozen=True)
class RawDataset:
    """A data-set folder. Open it with :meth:`open`; files are looked up when asked for."""

    folder: Path
    description: DatasetDescription = field(repr=False)

    @classmethod
    def open(cls, folder: Path) -> RawDataset:
        """Read ``folder/dataset.json``; raises BadInputError where it is missing or wrong."""
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
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInputError(f"{path} cannot be read ({error.strerror}); make it readable.") from None
        except (ValueError, RecursionError) as error:
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
        """Channel names in the order of their numbers."""
        names = self.description.channel_names
        return tuple(names[str(index)] for index in range(len(names)))

    @property
    def classes(self) -> tuple[str, ...]:
        """Foreground classes; label id = position + 1."""
        ids = self.description.labels
        return tuple(sorted((name for name in ids if ids[name] > 0), key=lambda name: ids[name]))

    @property
    def task(self) -> str:
        """The task's name: dataset.json's ``task``, else the folder's name without DatasetNNN_, in lower case."""
        if self.description.task is not None:
            return self.description.task
        plain = re.sub(r"^Dataset\d+_", "", self.name)
        return re.sub(r"[^a-z0-9_.\-]+", "_", plain.lower()).strip("_.-") or "task"

    @property
    def modality(self) -> str:
        """dataset.json's ``modality``, else what the channel names settle; raises BadInputError where they do not."""
        if self.description.modality is not None:
            return self.description.modality.lower()
        found = {_MODALITY_OF_CHANNEL.get(name.strip().lower()) for name in self.channels}
        if found == {"ct", "pet"}:  # PET/CT counts as PET (SPEC section 3)
            return "pet"
        modality = found.pop() if len(found) == 1 else None
        if modality is None:
            raise BadInputError(
                f'{self.folder / "dataset.json"} does not say its modality; add for instance "modality": "ct".'
            )
        return modality

    @cached_property
    def dimension(self) -> Literal[2, 3]:
        """2 where the first case's image has depth 1, else 3 (reads that image)."""
        cases = self.cases("Tr") or self.cases("Ts")
        if not cases:
            raise BadInputError(
                f"{self.folder} holds no cases; put images named CASE_0000{self.description.file_ending} in imagesTr."
            )
        return 2 if read_image(cases[0].images).is_2d else 3

    def cases(self, split: Split = "Tr") -> list[RawCase]:
        """The cases of ``split``, sorted by name; an absent folder has none. ``label`` is None where no file is."""
        folder = self.folder / f"images{split}"
        if not folder.is_dir():
            return []
        ending = self.description.file_ending
        labels = self.folder / f"labels{split}"
        found: list[RawCase] = []
        for case, images in find_cases(folder, ending, files_per_case(self.channels)).items():
            label = labels / f"{case}{ending}"
            patient = self.description.patient_of.get(case, case)
            found.append(RawCase(case, images, label if label.is_file() else None, patient))
        return found

    def check(self, *, events: EventSink = ignore, cancel: CancelToken | None = None) -> list[str]:
        """Every problem as one sentence that names the file; an empty list means fit for use. Reads every image."""
        from meduniseg_core.preprocessing.dataset_check import check_dataset

        return check_dataset(self, events=events, cancel=cancel)
