"""Decisions on a finished run: adopt its result, roll it back or discard it."""

from __future__ import annotations

from collections.abc import Sequence

from meduniseg_core.adaptation.gate import GATE, gate_folder
from meduniseg_core.adaptation.gate_files import read_gate
from meduniseg_core.adaptation.gate_report import GateReport
from meduniseg_core.adaptation.run import Run
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import sha256_of
from meduniseg_core.weights import ActiveModels, PackRegistry, Registry


def verdict(run: Run) -> GateReport | None:
    """Read the report of a run's gate.

    Args:
        run: a run of one task.

    Returns:
        The report; None if the run was not compared with its base.

    Raises:
        BadInputError: the report is damaged.
    """
    return read_gate(run.folder / GATE)


def adopt(run: Run, *, anyway: bool = False) -> str:
    """Put a run's result into use for its tasks: install the model or pack and make it the active one.

    Args:
        run: a finished run.
        anyway: adopt it even if the gate does not recommend it or has not compared it.

    Returns:
        The name of the installed model or pack.

    Raises:
        UsageError: the run is not finished, the gate does not recommend its result (unless ``anyway``), or another
            model or pack has its name.
        BadInputError: the result's file is damaged.
    """
    if run.standing().phase != "finished":
        raise UsageError(f"'{run.job.name}' is not finished; let it end, or stop it and keep the best.")
    why = None if anyway else _doubt(run)
    if why is not None:
        raise UsageError(f"'{run.job.name}' is not adopted: {why} Adopt it anyway (--anyway) or keep it as it is.")
    if run.job.kind == "refine":
        packs = PackRegistry()
        name = packs.install(run.model_file).name
        packs.activate(name, run.job.tasks)
    else:
        name = Registry().import_file(run.model_file).name
        ActiveModels().adopt(run.job.task, name, run.job.base)
    run.decide("adopted")
    return name


def _doubt(run: Run) -> str | None:
    """Why the gate does not recommend a run's result; None if it does for every task."""
    digest = sha256_of(run.model_file)
    for task in run.job.tasks:
        report = _report_on(run, task, digest)
        if report is None:
            return "it was not compared with its base yet."
        if not report.recommended:
            return _reason(run, report)
    return None


def _report_on(run: Run, task: str, digest: str) -> GateReport | None:
    """The gate's report on a result with this sha256; None where there is none, or one on a former result."""
    report = read_gate(gate_folder(run, task))
    return report if report is not None and report.candidate_sha256 == digest else None


def _reason(run: Run, report: GateReport) -> str:
    """The report's reason; it names the task where the run has several."""
    return report.reason if len(run.job.tasks) == 1 else f"{report.task}: {report.reason}"


def activate_pack(name: str, tasks: Sequence[str] | None = None, *, anyway: bool = False) -> tuple[str, ...]:
    """Put an installed pack into use, unless it is known to be worse than its base.

    Args:
        name: the pack's name.
        tasks: only for these tasks; None for all that it refines.
        anyway: put it into use whatever the gate found.

    Returns:
        The tasks that the pack is in use for.

    Raises:
        UsageError: there is no such pack, it does not refine one of ``tasks``, or the gate found it worse (unless
            ``anyway``).
        BadInputError: its file is damaged.
    """
    why = None if anyway else worse_pack(name, tasks)
    if why is not None:
        raise UsageError(f"'{name}' is not put into use: {why} Use it anyway (--anyway) or keep it as it is.")
    return PackRegistry().activate(name, tasks)


def worse_pack(name: str, tasks: Sequence[str] | None = None) -> str | None:
    """What the gate of the run that made a pack found against it.

    Args:
        name: the pack's name.
        tasks: of these tasks; None for all that it refines.

    Returns:
        The reason, in a sentence or two; None where it was not found worse, or not compared on this machine.

    Raises:
        UsageError: there is no such pack.
        BadInputError: a report is damaged.
    """
    digest = sha256_of(PackRegistry().find(name).path)
    try:
        run = Run.open(name)
    except (BadInputError, UsageError):  # made elsewhere, or the run is gone
        return None
    for task in run.job.tasks if tasks is None else tasks:
        report = _report_on(run, task, digest)
        if report is not None and report.verdict == "worse":
            return _reason(run, report)
    return None


def in_use(run: Run) -> bool:
    """Whether a run's result is the active model or pack for one of its tasks.

    Args:
        run: the run.

    Returns:
        True if a task is segmented with it now.
    """
    return bool(_tasks_in_use(run))


def _tasks_in_use(run: Run) -> list[str]:
    used = ActiveModels().entries()
    kind = "pack" if run.job.kind == "refine" else "model"
    return [
        task for task in run.job.tasks if task in used and (used[task].kind, used[task].model) == (kind, run.job.name)
    ]


def roll_back(run: Run) -> str | None:
    """Take a run's result out of use; what it replaced becomes active again.

    Args:
        run: the run.

    Returns:
        The model or pack that is active from now on (of several tasks, for the last); None for the base.

    Raises:
        UsageError: the result is not in use.
    """
    name, now = run.job.name, None
    tasks = _tasks_in_use(run)
    if not tasks:
        raise UsageError(f"'{name}' is not in use for {run.job.task}; there is nothing to roll back.")
    packs, replaced = PackRegistry(), run.replaced()
    for task in tasks:
        _, now = ActiveModels().roll_back(task, name)
        if now is None and replaced in packs.names():
            packs.activate(str(replaced), [task])  # noted by a version that kept no history of packs
            now = replaced
    run.decide("candidate")
    return now


def discard(run: Run) -> None:
    """Delete a run and its result.

    Args:
        run: the run.

    Raises:
        UsageError: the result is in use, or the run is still running.
    """
    if in_use(run):
        raise UsageError(f"'{run.job.name}' is in use for {run.job.task}; roll back first.")
    run.remove()
