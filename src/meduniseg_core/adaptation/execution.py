"""A job done: the training, the comparison with the base, and what is to happen to the result."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from meduniseg_core.adaptation.decisions import gate_folder, judge
from meduniseg_core.adaptation.finetune import finetune, finetune_config
from meduniseg_core.adaptation.gate_report import GateReport
from meduniseg_core.adaptation.jobs import FinetuneJob, Job, RefineJob
from meduniseg_core.adaptation.refine import refine, refine_config
from meduniseg_core.adaptation.runs import Run, check_new_name, is_run, runs_folder
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import CancelToken, EventSink, ignore
from meduniseg_core.training import TrainingConfig, TrainingResult
from meduniseg_core.weights import Model, PackRegistry


class Comparison(BaseModel):
    """The gate's verdict in short; ``html`` is its page. See :class:`GateReport`."""

    model_config = ConfigDict(frozen=True)

    verdict: str
    recommended: bool
    reason: str
    bias: str
    dice_before: float | None
    dice_after: float | None
    html: Path

    @classmethod
    def of(cls, report: GateReport, folder: Path) -> Comparison:
        """That of a report.

        Args:
            report: what was found.
            folder: where its files lie.

        Returns:
            Its main figures.
        """
        fields = {name: getattr(report, name) for name in cls.model_fields if name != "html"}
        return cls(**fields, html=folder / "gate.html")


class JobResult(BaseModel):
    """What a job left. ``file``: the model or the pack; ``gate``: by task, empty where nothing was compared;
    ``in_use_for``: the tasks that a pack was taken into use for."""

    model_config = ConfigDict(frozen=True)

    file: Path
    epochs: int
    best_dice: float | None
    best_epoch: int
    seconds: float
    stopped_early: bool
    gate: dict[str, Comparison] = {}
    installed: bool = False
    in_use_for: tuple[str, ...] = ()

    def answer(self, job: Job) -> dict[str, object]:
        """The result as JSON has it.

        Args:
            job: what was done.

        Returns:
            ``model`` with the gate of its one task, or ``pack`` with a gate by task.
        """
        fields = self.model_dump(mode="json")
        file, gates = fields.pop("file"), fields.pop("gate")
        if isinstance(job, RefineJob):
            return {**fields, "pack": file, **({"gate": gates} if gates else {})}
        del fields["installed"], fields["in_use_for"]
        return {**fields, "model": file, **({"gate": gates[job.task]} if gates else {})}


def training_config(job: Job, base: Model, folder: Path) -> TrainingConfig:
    """The training that a job stands for; nothing is written.

    Args:
        job: what is asked for.
        base: the model that it names.
        folder: where run and cache are to lie.

    Returns:
        The configuration. UsageError for what no training can do, BadInputError for data that are none.
    """
    left_out = {"leave_out": job.leave_out}
    if isinstance(job, FinetuneJob):
        return finetune_config(
            job.dataset,
            base,
            job.name,
            folder,
            iterations=job.iterations,
            quick=job.quick,
            seed=job.seed,
            device=job.device,
            precision=job.precision,
            overrides=left_out,
        )
    return refine_config(
        job.datasets,
        base,
        job.name,
        folder,
        iterations=job.iterations,
        seed=job.seed,
        device=job.device,
        precision=job.precision,
        overrides=left_out,
    )


def begin(job: Job) -> Run:
    """Make a new run of a job and start its process.

    Args:
        job: what is to be done.

    Returns:
        The run. UsageError where its name is taken.
    """
    check_new_name(job.name)
    run = Run.create(job)
    run.start()
    return run


def take_up(job: Job, going_on: bool) -> Run:
    """The listed run of a job, begun where there is none, with the present process at work on it.

    Args:
        job: what is asked for.
        going_on: whether a checkpoint is to be gone on with.

    Returns:
        The run.

    Raises:
        UsageError: another training has this name, or a model or pack.
        BadInputError: there is nothing to go on with, or another process trains there.
    """
    if is_run(runs_folder() / job.name):
        run = Run.open(job.name)
        run.check_same(job, going_on)
        run.taken_up()
        run.keep_newer_job(job)
        return run
    if isinstance(job, FinetuneJob):
        if going_on:
            raise BadInputError(
                f"{runs_folder() / job.name}: there is no checkpoint to resume from; start it without --resume."
            )
        check_new_name(job.name)
    run = Run.create(job)
    run.taken_up()
    return run


def check_pack_name(name: str, *, install: bool = True) -> None:
    """Refuse a name that a pack has: a day's training would end so.

    Args:
        name: the pack's that is to be made.
        install: whether it is to be installed; any name is good otherwise.

    Raises:
        UsageError: there is a pack of this name.
    """
    if install and name in PackRegistry().names():
        raise UsageError(f"There is a pack '{name}' already; choose another name, or --replace it.")


def execute(
    run: Run,
    base: Model,
    config: TrainingConfig,
    *,
    resume: bool = False,
    finish: bool = False,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> JobResult:
    """Do a run's job: train, compare, keep. Raises what :func:`meduniseg_core.training.train` raises.

    Args:
        run: the job and its folder.
        base: the model that the job names.
        config: the training, see :func:`training_config`.
        resume: go on from the last checkpoint.
        finish: make the best checkpoint a model without training further.
        events: hears of progress.
        cancel: ends the training where nothing is half done.

    Returns:
        What it left.
    """
    job = run.job
    if isinstance(job, FinetuneJob):
        trained = finetune(
            job.dataset, base, config, modality=job.modality, resume=resume, finish=finish, events=events, cancel=cancel
        )
    else:
        trained = refine(
            base,
            config,
            rank=job.rank,
            alpha=2.0 * job.rank,  # the paper's ratio
            resume=resume,
            finish=finish,
            events=events,
            cancel=cancel,
        )
    gates: dict[str, Comparison] = {}
    if job.compare:
        reports = judge(run, base, device=job.device, precision=job.precision, events=events, cancel=cancel)
        gates = {task: Comparison.of(report, gate_folder(run, task)) for task, report in reports.items()}
    installed, used = _kept(job, trained)
    return JobResult(
        file=trained.model,
        epochs=trained.epochs,
        best_dice=trained.best_dice,
        best_epoch=trained.best_epoch,
        seconds=trained.seconds,
        stopped_early=trained.stopped_early,
        gate=gates,
        installed=installed,
        in_use_for=used,
    )


def _kept(job: Job, trained: TrainingResult) -> tuple[bool, tuple[str, ...]]:
    """Whether a pack was installed, and the tasks that it was taken into use for."""
    if not isinstance(job, RefineJob) or not job.install:
        return False, ()
    packs = PackRegistry()
    name = packs.install(trained.model, replace=job.replace).name
    if not job.activate:
        return True, ()
    return True, tuple(task for task, own in packs.activate(name).items() if own == name)
