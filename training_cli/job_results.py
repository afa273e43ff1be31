"""What `meduniseg finetune` and `meduniseg refine` share: they carry out a job and describe its result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from training_cli.session import Session, resumable

if TYPE_CHECKING:
    from meduniseg_core.adaptation.execution import JobResult
    from meduniseg_core.adaptation.jobs import Job
    from meduniseg_core.weights import Model


def carry_out(
    session: Session, job: Job, base: Model, folder: Path, *, listed: bool, resume: bool, finish: bool
) -> JobResult:
    """Run a job in this process.

    Args:
        session: of the command.
        job: what is to be trained.
        base: its base model.
        folder: of the run.
        listed: whether ``folder`` is a run that 'meduniseg runs' lists; then its answer is kept there.
        resume: go on from the last checkpoint.
        finish: end an interrupted training with its best checkpoint.

    Returns:
        The result.
    """
    from meduniseg_core.adaptation.execution import execute, take_up, training_config
    from meduniseg_core.adaptation.run import Run

    config = training_config(job, base, folder)
    run = take_up(job, resume or finish) if listed else Run(folder, job)
    with resumable(config.output):
        result = execute(run, base, config, resume=resume, finish=finish, events=session.events, cancel=session.cancel)
    if listed:
        run.answered(result.answer(job))
    return result


def show_result(session: Session, job: Job, result: JobResult, *next_steps: str) -> None:
    """Show a result.

    Args:
        session: of the command.
        job: the job.
        result: what came of it.
        *next_steps: sentences that follow it.
    """
    dice = "" if result.best_dice is None else f", best validation Dice {result.best_dice:.3f}"
    line = f"{result.file}{dice}, {result.seconds / 60:.1f} min"
    session.result(result.answer(job), line, *_gate_lines(result), *next_steps)


def into_use(result: JobResult, command: str) -> str:
    """How a result is put into use.

    Args:
        result: what came of a job.
        command: puts it into use.

    Returns:
        A sentence; where the comparison found the result worse, it names the option that insists.
    """
    if any(gate.verdict == "worse" for gate in result.gate.values()):
        return f"It is worse than before: '{command}' refuses it, and '{command} --anyway' puts it into use"
    return f"'{command}' puts it into use"


def _gate_lines(result: JobResult) -> list[str]:
    """The comparison with the base, a line for each task; the task is named where there are several."""
    named = len(result.gate) > 1
    return [
        (f"{task}: " if named else "") + f"{gate.reason} {gate.bias}".strip() + f" ({gate.html})"
        for task, gate in result.gate.items()
    ]
