"""Training jobs as data: a fine-tuning or a refinement with all its options.

The command line and the Learn panel build the same object. A run's folder stores all of it (``job.json``), so resuming
a run keeps every option.
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
from meduniseg_core.files import read_small
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.structured_text import json_text, parse_json
from meduniseg_core.validation import NAME_PATTERN, first_fault

FILE = "job.json"
OLD_FILE = "request.json"
_MAX_BYTES = 1 << 20
_AFTERWARDS = frozenset({"device", "compare", "created"})  # a checkpoint does not depend on these


class TrainingJob(BaseModel):
    """The fields of every job.

    ``name`` names the run and the new model or pack. ``base`` is a model's name or the path of its file, ``leave_out``
    lists cases to skip, ``compare`` asks for a comparison with the base on the validation cases.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME_PATTERN, max_length=200)
    base: str = Field(min_length=1)
    leave_out: tuple[str, ...] = ()
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compare: bool = True
    created: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))


class FinetuneJob(TrainingJob):
    """Fine-tune ``base`` on one data set into a new model. ``iterations`` None means the recipe's default."""

    kind: Literal["finetune"] = "finetune"
    dataset: Path
    task: str = Field(min_length=1)
    iterations: int | None = Field(default=None, ge=1)
    quick: bool = False
    modality: str | None = None

    @property
    def datasets(self) -> tuple[Path, ...]:
        """The data set, as a tuple of one."""
        return (self.dataset,)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task, as a tuple of one."""
        return (self.task,)


class RefineJob(TrainingJob):
    """Train a pack for ``base``; ``tasks`` are the tasks of ``datasets``, in their order.

    ``install`` installs the pack (``replace``: in place of another of its name), ``activate`` puts it into use at once.
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
            raise ValueError("a pack that is not installed cannot be put into use")
        if len(self.tasks) != len(self.datasets):
            raise ValueError("every data set has one task")
        return self

    @property
    def task(self) -> str:
        """All tasks, as text for lists."""
        return ", ".join(self.tasks)


Job = FinetuneJob | RefineJob
_Kind = TypeVar("_Kind", bound=TrainingJob)
_JOBS: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="kind")])


def finetune_job(dataset: Path, name: str, base: str, **options: Any) -> FinetuneJob:
    """Describe a fine-tuning of ``base`` on ``dataset``.

    Args:
        dataset: a folder in nnU-Net's raw layout, or a ledger of corrections.
        name: the name of the run and of the new model.
        base: a model's name, or the path of its file.
        **options: other fields of :class:`FinetuneJob`.

    Returns:
        The job, with absolute paths.

    Raises:
        UsageError: an option has an impossible value.
        BadInputError: the data set cannot be read.
    """
    fields = {"dataset": dataset.resolve(), "task": RawDataset.open(dataset).task, **options}
    return _made(FinetuneJob, name, base, fields)


def refine_job(datasets: tuple[Path, ...], name: str, base: str, **options: Any) -> RefineJob:
    """Describe a refinement of ``base`` on ``datasets``.

    Args:
        datasets: folders in nnU-Net's raw layout, or ledgers of corrections, each with one task.
        name: the name of the run and of the pack.
        base: a model's name, or the path of its file.
        **options: other fields of :class:`RefineJob`.

    Returns:
        The job, with absolute paths.

    Raises:
        UsageError: an option has an impossible value.
        BadInputError: a data set cannot be read.
    """
    tasks = tuple(RawDataset.open(folder).task for folder in datasets)
    fields = {"datasets": tuple(folder.resolve() for folder in datasets), "tasks": tasks, **options}
    return _made(RefineJob, name, base, fields)


def renamed(job: Job, name: str) -> Job:
    """The same job for a new run of another name.

    Args:
        job: the job.
        name: the new run's name.

    Returns:
        A new job, created now.

    Raises:
        UsageError: ``name`` is not a valid name.
    """
    fields = job.model_dump(exclude={"name", "base", "created"})
    return _made(type(job), name, job.base, fields)


def read_job(path: Path) -> Job:
    """Read a job from a file.

    Args:
        path: a ``job.json``, or a ``request.json`` of an earlier version.

    Returns:
        The validated job.

    Raises:
        BadInputError: the file cannot be read or does not hold a job.
    """
    data = read_small(path, _MAX_BYTES)
    try:
        fields = fields_of_request(data) if path.name == OLD_FILE else parse_json(data)
        return _JOBS.validate_python(fields)
    except ValidationError as error:
        raise BadInputError(f"{path}: is not a training job ({first_fault(error)}); delete or correct it.") from None
    except ValueError as error:
        raise BadInputError(f"{path}: is not a training job ({error}); delete or correct it.") from None


def job_text(job: Job) -> str:
    """The job as the text of ``job.json``.

    Args:
        job: the job.

    Returns:
        JSON.
    """
    return json_text(job.model_dump(mode="json"))


def same_training(one: Job, other: Job) -> bool:
    """Whether two jobs train the same, so that one can resume from the other's checkpoint.

    Args:
        one: a job.
        other: another job.

    Returns:
        True if they differ at most in the device and in what happens after the training.
    """
    later = _AFTERWARDS | {"install", "activate", "replace"}
    return one.model_dump(exclude=set(later)) == other.model_dump(exclude=set(later))


def command_line(job: Job) -> str:
    """The ``meduniseg`` command for a job, as one would type it.

    Args:
        job: the job.

    Returns:
        The command, quoted for a shell.
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
        raise UsageError(f"The training is not possible: {first_fault(error)}; give another value.") from None
