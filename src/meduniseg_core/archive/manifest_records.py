"""The lines of a manifest: what a run is, then a line for each case that was done, failed or was lost."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

VERSION = 1
"""The version of the lines; a reader refuses lines of a newer one."""

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Name = Annotated[str, Field(min_length=1)]


class _ManifestLine(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class UsedModel(_ManifestLine):
    """A model or pack, and the tasks that run through it."""

    name: _Name
    sha256: _Sha256
    tasks: tuple[str, ...]


class ManifestHeader(_ManifestLine):
    """The first line: what never changes in a run.

    ``cases`` are those of the whole run, also where this is the manifest of a shard; they are what completeness is
    measured by. ``left_out`` says which images of the folders given are no cases. ``output`` is the folder of the
    results, relative to the manifest's own.
    """

    kind: Literal["run"] = "run"
    version: int = VERSION
    program: str = Field(description="version of this program")
    output: _Name
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    models: tuple[UsedModel, ...]
    packs: tuple[UsedModel, ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict, description="options that change results")
    shard: tuple[int, int] = (1, 1)
    cases: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    created: AwareDatetime


class InputRecord(_ManifestLine):
    """What a case was read from: ``sha256`` is of voxels and place (`Image.sha256`), the rest of its files."""

    files: tuple[str, ...]
    sha256: _Sha256 | None = Field(default=None, description="None where it could not be read")
    bytes: int = Field(ge=0)
    modified_ns: int = Field(description="the newest file's time of change")


class TaskRecord(_ManifestLine):
    """The result of one task: ``files`` (relative to the output folder) with the sha256 of each, the JSON among them.

    ``status`` is "kept" where a result that was edited by hand was left as it is.
    """

    task: _Name
    status: Literal["written", "kept"]
    files: Annotated[dict[str, _Sha256], Field(min_length=1)]
    model: str | None = None
    model_sha256: str | None = None
    pack_sha256: str | None = None
    seconds: float = Field(ge=0, allow_inf_nan=False)
    warnings: tuple[str, ...] = ()
    quality: dict[str, Any] | None = None


class CaseLine(_ManifestLine):
    """A case: done (with a result for each task), failed (with a sentence), or lost (a result of it is gone)."""

    kind: Literal["case"] = "case"
    version: int = VERSION
    sequence: int = Field(ge=1, description="1 for the first case's line, then 2, 3, ...")
    case: str
    status: Literal["done", "failed", "lost"]
    input: InputRecord | None = None
    tasks: tuple[TaskRecord, ...] = ()
    error: str | None = None
    exit_code: int = 0
    host: str = ""
    when: AwareDatetime
