"""What DICOM calls a class: SNOMED CT codes for segments and measurements."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from meduniseg_core.catalog.lookup import load_tables

SCHEME = "SCT"
LOCAL_SCHEME = "99MEDUNISEG"
"""The coding scheme of classes that the catalogue has no code for; 99 marks a private one."""

_CODE_LENGTH, _MEANING_LENGTH = 16, 64  # DICOM's SH and LO
_SIDES = {"left": ("7771000", "Left"), "right": ("24028007", "Right")}
_PARTS = {"anterior": ("255549009", "Anterior"), "posterior": ("255551008", "Posterior")}
_ANATOMICAL = ("91723000", "Anatomical Structure")
_ABNORMAL = ("49755003", "Morphologically Abnormal Structure")
_RELATIONAL = ("309825002", "Spatial and Relational Concept")


@dataclass(frozen=True)
class Code:
    """A coded concept: its value, the scheme that defines it, and its meaning in words."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class SegmentCodes:
    """The codes of a class. ``modifier`` is its side or part, ``region`` where an abnormality lies."""

    category: Code
    type: Code
    modifier: Code | None = None
    region: Code | None = None


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...] = Field(min_length=1)
    type: tuple[str, str]
    task: str | None = None
    abnormal: bool = False
    region: tuple[str, str] | None = None
    modifier: Literal["anterior", "posterior"] | None = None


def _by_name() -> dict[tuple[str | None, str], _Entry]:
    entries = [_Entry.model_validate(table) for table in load_tables("segment_codes.toml", "segment")]
    return {(entry.task, name): entry for entry in entries for name in entry.names}


_ENTRIES = _by_name()


def segment_codes(name: str, task: str | None = None) -> SegmentCodes:
    """Find the codes of a class.

    Args:
        name: The class's name, as a task gives it.
        task: The task, whose own meaning of a name ("anterior", "lesion") comes first.

    Returns:
        SNOMED codes where the catalogue knows the class, else a local code (`LOCAL_SCHEME`) made of the name.
    """
    plain = " ".join(re.split(r"[\s_\-]+", name.strip().lower()))
    entry = _ENTRIES.get((task, plain)) or _ENTRIES.get((None, plain))
    if entry is not None:
        return _codes(entry, _PARTS[entry.modifier] if entry.modifier else None)
    for side, code in _SIDES.items():
        bare = plain.removeprefix(f"{side} ").removesuffix(f" {side}")
        entry = _ENTRIES.get((None, bare))
        if bare != plain and entry is not None:
            return _codes(entry, code)
    meaning = name.strip()[:_MEANING_LENGTH] or "segment"
    value = meaning
    if len(value) > _CODE_LENGTH or not re.fullmatch(r"[A-Za-z0-9 ]+", value):  # told apart by a hash
        digest = hashlib.sha256(name.encode("utf-8")).hexdigest()[:6]
        value = f"{re.sub(r'[^A-Za-z0-9]+', '_', value)[: _CODE_LENGTH - 7]}_{digest}"
    return SegmentCodes(Code(_RELATIONAL[0], SCHEME, _RELATIONAL[1]), Code(value, LOCAL_SCHEME, meaning))


def _codes(entry: _Entry, modifier: tuple[str, str] | None) -> SegmentCodes:
    category = _ABNORMAL if entry.abnormal else _ANATOMICAL
    return SegmentCodes(
        Code(category[0], SCHEME, category[1]),
        Code(entry.type[0], SCHEME, entry.type[1]),
        None if modifier is None else Code(modifier[0], SCHEME, modifier[1]),
        None if entry.region is None else Code(entry.region[0], SCHEME, entry.region[1]),
    )
