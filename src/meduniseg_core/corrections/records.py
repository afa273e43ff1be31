"""The lines of a ledger's journal: one header, then one entry per acceptance."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from meduniseg_core.images.findings import Finding
from meduniseg_core.provenance import provenance_path, read_provenance
from meduniseg_core.structured_text import parse_json
from meduniseg_core.validation import NAME_PATTERN

VERSION = 1
"""The version of the lines; a reader refuses lines of a newer one."""

Subset = Literal["training", "validation"]
Consensus = Literal["majority", "staple", "reading"]
CaseName = Annotated[str, Field(pattern=NAME_PATTERN, max_length=128)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Voxels = Annotated[int, Field(ge=0)]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class LedgerHeader(_Line):
    """The first line: what never changes in a ledger."""

    kind: Literal["ledger"] = "ledger"
    version: int = VERSION
    task: str
    validation_fraction: float = Field(ge=0, lt=1, description="of the cases, aimed at when a patient is drawn")
    created: AwareDatetime


class ModelReference(_Line):
    """The model that made the corrected prediction."""

    name: str = Field(min_length=1)
    sha256: _Sha256 | None = None


class ClassChange(_Line):
    """The voxels of one class in an acceptance. Without a prediction only ``corrected`` is known, the others are
    None."""

    name: str
    corrected: _Voxels
    predicted: _Voxels | None = None
    added: _Voxels | None = Field(default=None, description="of the class now, of another in the prediction")
    removed: _Voxels | None = Field(default=None, description="of the class in the prediction, of another now")


class LedgerEntry(_Line):
    """One acceptance: a corrected label map stored in the ledger."""

    kind: Literal["accepted"] = "accepted"
    version: int = VERSION
    sequence: int = Field(ge=1, description="1 for the ledger's first acceptance, then 2, 3, ...")
    case: CaseName
    patient: str = Field(min_length=1, description="the case's own name where no patient key was given")
    subset: Subset
    image_sha256: _Sha256 = Field(description="of voxels and geometry; see `images.hashing`")
    labels_sha256: _Sha256 = Field(description="the same of the label map")
    shape: tuple[int, int, int] = Field(description="(D, H, W)")
    source: str | None = Field(default=None, description="name of the file the image was read from")
    model: ModelReference | None = None
    classes: tuple[ClassChange, ...] = Field(min_length=1)
    seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False, description="of editing")
    who: str | None = Field(default=None, description="the reader")
    adjudicates: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="sequence numbers of the readings that this label map was decided from"
    )
    consensus: Consensus | None = Field(default=None, description="what the decision began with")
    when: AwareDatetime = Field(description="UTC")

    @property
    def has_prediction(self) -> bool:
        """Whether the prediction that was corrected is stored, too."""
        return self.classes[0].predicted is not None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the annotator must know of the acceptance: that nothing was labelled in it."""
        if any(one.corrected for one in self.classes):
            return ()
        names = " or ".join(one.name for one in self.classes)
        text = f"{self.source or self.case} was accepted without any label, which teaches a model that it shows no "
        return (Finding("labels_empty", f"{text}{names}: if it does, label it and accept it again."),)


@dataclass(frozen=True)
class Reading:
    """One reader's newest acceptance of a case, and the file of its label map."""

    entry: LedgerEntry
    labels: Path


@dataclass(frozen=True)
class Adjudication:
    """The decision between readings: the sequence numbers of their acceptances, and what it began with."""

    readings: tuple[int, ...]
    consensus: Consensus = "reading"


def user_logged_in() -> str | None:
    """The name of the logged-in user, as the default annotator.

    Returns:
        The name; None if the system does not know it (in some containers).
    """
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None


def model_beside(prediction: Path) -> ModelReference | None:
    """The model named in the provenance JSON beside a label file.

    Args:
        prediction: the label file.

    Returns:
        The model; None if there is no JSON of ours, or it names no model.
    """
    provenance = read_provenance(prediction)
    if provenance is None or not provenance.model:  # labels made by hand name none
        return None
    digest = parse_json(provenance_path(prediction).read_text("utf-8")).get("model_sha256")
    known = isinstance(digest, str) and len(digest) == 64 and set(digest) <= set("0123456789abcdef")
    return ModelReference(name=provenance.model, sha256=digest if known else None)
