"""Decisions on a finished run: compare its result with the base model, adopt it, roll it back or discard it."""

from __future__ import annotations

from pathlib import Path

from meduniseg_core.adaptation.finetune import data_of
from meduniseg_core.adaptation.gate import Side, gate, refined_note, served_note
from meduniseg_core.adaptation.gate_files import read_gate, write_gate
from meduniseg_core.adaptation.gate_report import GateReport
from meduniseg_core.adaptation.runs import Run
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.events import CancelToken, EventSink, ignore
from meduniseg_core.files import sha256_of
from meduniseg_core.inference import Predictor
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.training.prepare import CASES_FILE
from meduniseg_core.training.split import read_splits
from meduniseg_core.weights import ActiveModels, Model, PackRegistry, Registry, load_model, read_pack

GATE = "gate"


def judge(
    run: Run,
    base: Model,
    *,
    device: str = "auto",
    precision: str = "auto",
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> dict[str, GateReport]:
    """Compare a run's result with its base on the run's validation cases, task by task.

    The reports are written into the run's folder (see :func:`gate_folder`).

    Args:
        run: a run that has produced a model or a pack.
        base: the model it was trained from.
        device: where both models run, as in :class:`meduniseg_core.inference.Predictor`.
        precision: the precision they compute with.
        events: receives the progress.
        cancel: stops the comparison.

    Returns:
        The report of each task.

    Raises:
        BadInputError: the run has no model yet, ``base`` is not the file it was trained from, or a validation case is
            missing.
    """
    if not run.model_file.is_file():
        raise BadInputError(f"{run.model_file}: there is no model yet; finish the run first.")
    before = Side(base.info.name, base.sha256, Predictor(base, device, precision))
    after, notes = _candidate(run, base, device, precision)
    found = {}
    for folder, task in zip(run.job.datasets, run.job.tasks, strict=True):
        dataset = RawDataset.open(data_of(folder, task, run.output))
        cases = validation_cases(run, dataset.task)
        report = gate(before, after, dataset, cases, notes=notes, events=events, cancel=cancel)
        write_gate(report, gate_folder(run, task))
        found[task] = report
    return found


def gate_folder(run: Run, task: str) -> Path:
    """The folder of a task's comparison with the base.

    Args:
        run: the run.
        task: one of its tasks. A run with a single task has no folder per task.

    Returns:
        The folder; it need not exist.
    """
    return run.folder / GATE if len(run.job.tasks) == 1 else run.folder / GATE / task


def _candidate(run: Run, base: Model, device: str, precision: str) -> tuple[Side, tuple[str, ...]]:
    """What the run made, ready to segment, and what is to be said about it."""
    if run.job.kind == "refine":
        pack = read_pack(run.model_file)
        predictor = Predictor(base, device, precision, packs=dict.fromkeys(pack.info.tasks, pack))
        return Side(pack.info.name, pack.sha256, predictor), refined_note(base, pack)
    model = load_model(str(run.model_file))
    if model.info.provenance.get("base_sha256") not in (None, base.sha256):
        raise BadInputError(
            f"Run '{run.job.name}' was trained from another file than the model {base.info.name} of today; "
            "compare it with the one it was trained from."
        )
    return Side(model.info.name, model.sha256, Predictor(model, device, precision)), served_note(base, model)


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
        report = read_gate(gate_folder(run, task))
        if report is None or report.candidate_sha256 != digest:  # or of a model that this run made before
            return "it was not compared with its base yet."
        if not report.recommended:
            return report.reason if len(run.job.tasks) == 1 else f"{task}: {report.reason}"
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


def validation_cases(run: Run, task: str) -> tuple[str, ...]:
    """The validation cases of a run; cases that were left out of the run are not among them.

    Args:
        run: the run.
        task: one of its tasks.

    Returns:
        The names of the cases.

    Raises:
        BadInputError: the run's list of cases is missing or damaged.
    """
    path = run.output / CASES_FILE
    if not path.is_file():
        raise BadInputError(f"{path}: is not there, so the cases held back are not known; start the run anew.")
    return read_splits(path)[task].validation
