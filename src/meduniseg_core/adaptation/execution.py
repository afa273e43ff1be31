"""Runs a training job: trains, compares the result with the base, and installs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from meduniseg_core.adaptation.finetune import finetune, finetune_config
from meduniseg_core.adaptation.gate import gate_folder, judge
from meduniseg_core.adaptation.gate_report import GateReport
from meduniseg_core.adaptation.jobs import FinetuneJob, Job, RefineJob
from meduniseg_core.adaptation.refine import refine, refine_config
from meduniseg_core.adaptation.run import Run, is_run, runs_folder
from meduniseg_core.adaptation.runs import check_new_name
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import CancelToken, EventSink, Message, ignore
from meduniseg_core.training import TrainingConfig, TrainingResult
from meduniseg_core.weights import Model, PackRegistry


class Comparison(BaseModel):
    """Summary of a :class:`GateReport`; ``html`` is the report's page."""

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
        """Summarise a report.

        Args:
            report: the gate's report.
            folder: the folder of its files.

        Returns:
            Its main figures.
        """
        fields = {name: getattr(report, name) for name in cls.model_fields if name != "html"}
        return cls(**fields, html=folder / "gate.html")


class JobResult(BaseModel):
    """What a finished job produced.

    ``file`` is the model or the pack, ``gate`` the comparison of each task (empty if nothing was compared),
    ``in_use_for`` the tasks that the new pack was activated for.
    """

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
        """The result as a JSON object.

        Args:
            job: the job.

        Returns:
            For a fine-tuning ``model`` and the ``gate`` of its one task; for a refinement ``pack`` and a ``gate`` by
            task.
        """
        fields = self.model_dump(mode="json")
        file, gates = fields.pop("file"), fields.pop("gate")
        if isinstance(job, RefineJob):
            return {**fields, "pack": file, **({"gate": gates} if gates else {})}
        del fields["installed"], fields["in_use_for"]
        return {**fields, "model": file, **({"gate": gates[job.task]} if gates else {})}


def training_config(job: Job, base: Model, folder: Path) -> TrainingConfig:
    """The training configuration of a job. Nothing is written.

    Args:
        job: the job.
        base: the model that it names.
        folder: the folder for the run and its cache.

    Returns:
        The configuration.

    Raises:
        UsageError: the job has values that no training can have, or the base does not fit the data.
        BadInputError: a data set cannot be read.
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


def take_up(job: Job, going_on: bool) -> Run:
    """Let the present process work on a job: in the job's listed run, which is created if there is none.

    Args:
        job: the job.
        going_on: resume from the run's checkpoint.

    Returns:
        The run.

    Raises:
        UsageError: another run, a model or a pack has this name.
        BadInputError: there is no checkpoint to resume from, or another process works on the run.
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
                f"{runs_folder() / job.name}: there is no checkpoint to resume from; start it without --resume or "
                "--finish."
            )
        check_new_name(job.name)
    run = Run.create(job)
    run.taken_up()
    return run


def check_pack_name(name: str, *, install: bool = True) -> None:
    """Refuse a name that an installed pack has, before a day is spent on the training.

    Args:
        name: the new pack's name.
        install: whether the new pack is to be installed; otherwise every name is accepted.

    Raises:
        UsageError: a pack of this name is installed.
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
    """Carry out a run's job: train, compare with the base, install.

    Args:
        run: the run.
        base: the model that the job names.
        config: the training, see :func:`training_config`.
        resume: resume from the last checkpoint.
        finish: turn the best checkpoint into the result without training further.
        events: receives the progress.
        cancel: stops the training at the next safe point.

    Returns:
        What the job produced.

    Raises:
        UsageError: the base does not fit the data, or a pack of this name is installed.
        BadInputError: data or a checkpoint cannot be read.
        NonFiniteLossError: the loss became NaN or infinite.
        CancelledError: ``cancel`` was set.
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
    installed, used = _kept(job, trained, gates, events)
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


def _kept(
    job: Job, trained: TrainingResult, gates: Mapping[str, Comparison], events: EventSink
) -> tuple[bool, tuple[str, ...]]:
    """Install a new pack if the job says so; returns whether it did, and the tasks that the pack was activated for."""
    if not isinstance(job, RefineJob) or not job.install:
        return False, ()
    packs = PackRegistry()
    name = packs.install(trained.model, replace=job.replace).name
    if not job.activate:
        return True, ()
    worse = [task for task, gate in gates.items() if gate.verdict == "worse"]
    if worse:
        text = f"{name} is installed, but not put into use: it is worse than {job.base} for {', '.join(worse)}."
        events(Message("warning", text))
        return True, ()
    return True, packs.activate(name)
