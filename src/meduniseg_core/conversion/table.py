"""The table of data sets that can be converted (`datasets.toml`), typed and checked, and its entries by name."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from functools import cached_property
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from meduniseg_core.catalog.entries import Task
from meduniseg_core.catalog.lookup import TASKS
from meduniseg_core.errors import UsageError

REST = "*"
"""Stands in ``values`` for every value but 0 that is not named."""
BACKGROUND = "background"

Subset = Literal["train", "test"]


def _compiles(text: str) -> str:
    re.compile(text)
    return text


Pattern = Annotated[str, AfterValidator(_compiles)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class LabelRule(_Entry):
    """Label files of a case, and what their values mean."""

    files: Pattern
    values: dict[str, str] = Field(default_factory=dict, description="value in the file -> class")
    above: float | None = Field(default=None, description="brighter pixels are of class_name")
    class_name: str | None = Field(default=None, alias="class")
    several: bool = Field(default=False, description="a case may have several such files: they are merged")
    optional: bool = Field(default=False, description="a case may have no such file: it has nothing of the class")


class PatientTable(_Entry):
    """A table (CSV) that says which patient a case is of, and its columns' names."""

    files: Pattern
    case: str
    patient: str


class Part(_Entry):
    """One part of a download: how its cases are found and read."""

    reader: Literal["files", "dicom_series", "pet_ct", "contours", "run_lengths"] = "files"
    case: str = Field(description="template of the case's name")
    patient: str | None = Field(default=None, description="template; None: each case is a patient")
    patient_table: PatientTable | None = None
    site: str | None = Field(default=None, description="template of the source or centre")
    subset: Subset | None = None
    test_fraction: float | None = Field(default=None, gt=0, lt=1, description="drawn for testing from this part")
    images: tuple[Pattern | tuple[Pattern, ...], ...] = Field(min_length=1)
    exclude: Pattern | None = Field(default=None, description="paths in which it is found are passed over")
    labels: tuple[LabelRule, ...] = ()
    grid: int | None = Field(default=None, description="channel whose grid the others are resampled to")
    outside: float = Field(default=0.0, description="value of resampled channels beyond their own grid")
    only_with_target: bool = Field(default=False, description="cases without any foreground are left out")
    series: Pattern | None = Field(default=None, description="which DICOM series: must be found in its description")
    structure: Pattern | None = Field(default=None, description="which contours: must match the structure's name")


class Conversion(_Entry):
    """How one data set's official download becomes a data set in nnU-Net's raw layout."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")
    aliases: tuple[str, ...] = ()
    task_name: str = Field(alias="task", description="of the catalogue")
    licence: str
    page: str
    layout: str = Field(description="how the download looks, in words")
    split: Literal["official", "random"]
    balance: bool = Field(default=False, description="training cases without target are cut to those with it")
    paper: str | None = Field(default=None, description="why a complete download's counts differ from the paper's")
    parts: tuple[Part, ...] = Field(alias="part", min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.task_name not in TASKS:
            raise ValueError(f"{self.name}: the catalogue has no task {self.task_name}")
        known = {*self.task.classes, BACKGROUND}
        for part in self.parts:
            if (part.subset is None and part.test_fraction is None) != (self.split == "random"):
                raise ValueError(f"{self.name}: parts name a subset or a fraction exactly where the split is official")
            for rule in part.labels:
                named = {*rule.values.values(), *([rule.class_name] if rule.class_name else [])}
                if not named or not named <= known:
                    raise ValueError(f"{self.name}: labels name {sorted(named - known)}, not of {self.task_name}")
        return self

    @cached_property
    def task(self) -> Task:
        """The catalogue's entry: classes, channels, modality, the paper's counts."""
        return TASKS[self.task_name]

    @property
    def is_2d(self) -> bool:
        """Whether its images are pictures."""
        return self.task.dimension == 2

    @property
    def ending(self) -> str:
        """The ending of converted files."""
        return ".png" if self.is_2d else ".nii.gz"

    @property
    def files_per_case(self) -> int:
        """How many image files a converted case has: a colour picture is one file."""
        return 1 if self.is_2d else len(self.task.channels)

    @property
    def test_fraction(self) -> float:
        """The paper's share of test cases."""
        return self.task.test / (self.task.train + self.task.test)


def _load() -> Mapping[str, Conversion]:
    text = files("meduniseg_core.conversion").joinpath("datasets.toml").read_text("utf-8")
    entries = [Conversion.model_validate(entry) for entry in tomllib.loads(text)["dataset"]]
    return MappingProxyType({entry.name: entry for entry in entries})


CONVERSIONS: Mapping[str, Conversion] = _load()
"""In the paper's order: 17 upstream data sets, then 6 downstream ones."""


def find_conversion(name: str) -> Conversion:
    """Find a data set by its name, an alias, or the catalogue's name of its task, in any case.

    Args:
        name: As a user writes it.

    Returns:
        The table's entry.

    Raises:
        UsageError: There is none of that name.
    """
    spellings: dict[str, Conversion] = {}
    for entry in CONVERSIONS.values():
        for word in (entry.name, *entry.aliases, entry.task.name, entry.task.dataset, entry.task.title):
            spellings.setdefault(_plain(word), entry)
    found = spellings.get(_plain(name))
    if found is None:
        close = difflib.get_close_matches(_plain(name), spellings, n=1, cutoff=0.7)
        hint = f"did you mean {spellings[close[0]].name}?" if close else f"there are: {', '.join(CONVERSIONS)}."
        raise UsageError(f"There is no data set '{name}' that can be converted; {hint}")
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name.lower())
