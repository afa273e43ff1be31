"""What is to be trained, as data: a fine-tuning or a refinement with every option.

The command line and the Learn panel build the same object; a run's folder holds it whole (``job.json``), so whoever
goes on with the run does what was asked for.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from meduniseg_core.adaptation.legacy_request import fields_of_request
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import json_text, parse_json, read_small
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.validation import first_fault

FILE = "job.json"
OLD_FILE = "request.json"
_MAX_BYTES = 1 << 20
_AFTERWARDS = frozenset({"device", "compare", "created"})  # what a checkpoint does not depend on


class TrainingJob(BaseModel):
    """What both kinds of job have. ``name`` is the run's and the new model's or pack's.

    ``base`` is a model's name or the path of its file, ``leave_out`` are cases to pass over, ``compare`` asks for the
    comparison with the base on the cases held back.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=200)
    base: str = Field(min_length=1)
    leave_out: tuple[str, ...] = ()
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compare: bool = True
    created: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))


class FinetuneJob(TrainingJob):
    """A model of its own from ``base`` and one data set. ``iterations`` None: the recipe's own number."""

    kind: Literal["finetune"] = "finetune"
    dataset: Path
    task: str = Field(min_length=1)
    iterations: int | None = Field(default=None, ge=1)
    quick: bool = False
    modality: str | None = None

    @property
    def datasets(self) -> tuple[Path, ...]:
        """The one data set."""
        return (self.dataset,)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The one task."""
        return (self.task,)


class RefineJob(TrainingJob):
    """A pack beside ``base``: ``tasks`` are those of ``datasets``, in their order.

    ``install`` keeps the pack among those of this machine (``replace``: in place of another of its name), ``activate``
    takes it into use at once.
    """

    kind: Literal["refine"] = "refine"
    datasets: tuple[Path, ...] = Field(min_length=1)
    tasks: tuple[str, ...] = Field(min_length=1)
    iterations: int = Field(default=50_000, ge=1)
    rank: int = Field(default=32, ge=1, le=1024)
    install: bool = True
    activate: bool = False
    replace: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.activate and not self.install:
            raise ValueError("a pack that is not installed cannot be taken into use")
        if len(self.tasks) != len(self.datasets):
            raise ValueError("every data set has one task")
        return self

    @property
    def task(self) -> str:
        """The tasks, for lists."""
        return ", ".join(self.tasks)


Job = FinetuneJob | RefineJob
_Kind = TypeVar("_Kind", bound=TrainingJob)
_JOBS: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="kind")])


def finetune_job(dataset: Path, name: str, base: str, **options: Any) -> FinetuneJob:
    """A fine-tuning of ``base`` on ``dataset``.

    Args:
        dataset: a folder in nnU-Net's raw layout, or a ledger of corrections.
        name: the run's and the new model's.
        base: a model's name, or the path of its file.
        **options: the other fields of :class:`FinetuneJob`.

    Returns:
        The job, its paths whole.

    Raises:
        UsageError: no job has such values.
        BadInputError: ``dataset`` is none.
    """
    fields = {"dataset": dataset.resolve(), "task": RawDataset.open(dataset).task, **options}
    return _made(FinetuneJob, name, base, fields)


def refine_job(datasets: tuple[Path, ...], name: str, base: str, **options: Any) -> RefineJob:
    """A refinement of ``base`` on ``datasets``.

    Args:
        datasets: folders in nnU-Net's raw layout, or ledgers of corrections, of one task each.
        name: the run's and the pack's.
        base: a model's name, or the path of its file.
        **options: the other fields of :class:`RefineJob`.

    Returns:
        The job, its paths whole.

    Raises:
        UsageError: no job has such values.
        BadInputError: one of ``datasets`` is none.
    """
    tasks = tuple(RawDataset.open(folder).task for folder in datasets)
    fields = {"datasets": tuple(folder.resolve() for folder in datasets), "tasks": tasks, **options}
    return _made(RefineJob, name, base, fields)


def renamed(job: Job, name: str) -> Job:
    """The same job, asked for now, for a run of another name.

    Args:
        job: what is to be done.
        name: the new run's.

    Returns:
        A new job.

    Raises:
        UsageError: ``name`` cannot be a name.
    """
    fields = job.model_dump(exclude={"name", "base", "created"})
    return _made(type(job), name, job.base, fields)


def read_job(path: Path) -> Job:
    """The job in a file: ours, or the request that versions before wrote.

    Args:
        path: a ``job.json``, or a ``request.json`` of such a version.

    Returns:
        The job, checked.

    Raises:
        BadInputError: the file cannot be read or holds no job.
    """
    data = read_small(path, _MAX_BYTES)
    try:
        fields = fields_of_request(data) if path.name == OLD_FILE else parse_json(data)
        return _JOBS.validate_python(fields)
    except ValidationError as error:
        raise BadInputError(f"{path}: is no training job ({first_fault(error)}); delete it or mend it.") from None
    except ValueError as error:
        raise BadInputError(f"{path}: is no training job ({error}); delete it or mend it.") from None


def job_text(job: Job) -> str:
    """The job as the text of ``job.json``.

    Args:
        job: any.

    Returns:
        JSON.
    """
    return json_text(job.model_dump(mode="json"))


def same_training(one: Job, other: Job) -> bool:
    """Whether a checkpoint of one job is one of another.

    Args:
        one: a job.
        other: another.

    Returns:
        Whether they differ in what happens after the training at most (and in the device).
    """
    later = _AFTERWARDS | {"install", "activate", "replace"}
    return one.model_dump(exclude=set(later)) == other.model_dump(exclude=set(later))


def command_line(job: Job) -> str:
    """The ``meduniseg`` command that asks for a job, as one would type it.

    Args:
        job: any.

    Returns:
        Its words, quoted for a shell.
    """
    words = [job.kind, *map(str, job.datasets), "--output", job.name, "--base", job.base]
    if job.iterations is not None:
        words += ["--iterations", str(job.iterations)]
    if isinstance(job, FinetuneJob):
        words += ["--quick"] if job.quick else []
        words += ["--modality", job.modality] if job.modality is not None else []
    else:
        words += ["--rank", str(job.rank)]
        words += [] if job.install else ["--no-install"]
        words += ["--activate"] if job.activate else []
        words += ["--replace"] if job.replace else []
    words += ["--seed", str(job.seed), "--device", job.device, "--precision", job.precision]
    words += [] if job.compare else ["--no-gate"]
    words += [word for case in job.leave_out for word in ("--leave-out", case)]
    return shlex.join(["meduniseg", *words])


def _made(kind: type[_Kind], name: str, base: str, fields: Mapping[str, object]) -> _Kind:
    source = str(Path(base).resolve()) if Path(base).suffix == ".safetensors" else base
    try:
        return kind.model_validate({"name": name, "base": source, **fields})
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("name",):
            raise UsageError(
                f"'{name}' cannot be a name; it begins with a letter or digit and has letters, digits, _, - and . only."
            ) from None
        raise UsageError(f"There is no such training: {first_fault(error)}; give another value.") from None
