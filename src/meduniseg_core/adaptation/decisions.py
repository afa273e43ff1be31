"""The gate of a finished run: which cases, which models, and what adopting the result means."""

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
    """Compare what a run made with its base on the run's validation cases, task by task; the reports are written into
    the run (see :func:`gate_folder`).

    Args:
        run: a run that has made a model or a pack.
        base: the model it was trained from.
        device: where both run.
        precision: how precisely.
        events: hears of progress.
        cancel: ends the comparison.

    Returns:
        A report by task.

    Raises:
        BadInputError: the run has no model, or ``base`` is another file than the one it was trained from.
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
    """Where the comparison for a task lies.

    Args:
        run: any.
        task: one of its tasks; an only one has no folder of its own.

    Returns:
        The folder.
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
    """The report of a run's gate; None before it."""
    return read_gate(run.folder / GATE)


def adopt(run: Run, *, anyway: bool = False) -> str:
    """Take what a run made into use for its task: a model of the registry, or a pack on its base; its name.

    UsageError where the gate found it worse (or nothing to judge it by) and ``anyway`` is not set, and where the name
    is taken by another.
    """
    report = verdict(run)
    if run.standing().phase != "finished":
        raise UsageError(f"'{run.job.name}' is not finished; let it end, or stop it and keep the best.")
    if report is not None and report.candidate_sha256 != sha256_of(run.model_file):
        report = None  # of a model that this run made before
    if not anyway and (report is None or not report.recommended):
        why = "it was not compared with its base yet." if report is None else report.reason
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


def in_use(run: Run) -> bool:
    """Whether what a run made is in use.

    Args:
        run: any.

    Returns:
        Whether its task is segmented by it now.
    """
    used = ActiveModels().entries().get(run.job.task)
    kind = "pack" if run.job.kind == "refine" else "model"
    return used is not None and (used.kind, used.model) == (kind, run.job.name)


def roll_back(run: Run) -> str | None:
    """Take what a run made out of use.

    Args:
        run: any.

    Returns:
        The model or pack that is in use from now on; None for the base.

    Raises:
        UsageError: it is not in use.
    """
    task, name = run.job.task, run.job.name
    if not in_use(run):
        raise UsageError(f"'{name}' is not in use for {task}; there is nothing to roll back.")
    _, now = ActiveModels().roll_back(task, name)
    packs, replaced = PackRegistry(), run.replaced()
    if now is None and replaced in packs.names():
        packs.activate(str(replaced), [task])  # noted by a version that kept no history of packs
        now = replaced
    run.decide("candidate")
    return now


def discard(run: Run) -> None:
    """Decide against what a run made; its files are deleted. UsageError where it is in use."""
    if in_use(run):
        raise UsageError(f"'{run.job.name}' is in use for {run.job.task}; roll back first.")
    run.remove()


def validation_cases(run: Run, task: str) -> tuple[str, ...]:
    """The cases that the run held back; those that were left out take no part here, either."""
    path = run.output / CASES_FILE
    if not path.is_file():
        raise BadInputError(f"{path}: is not there, so the cases held back are not known; start the run anew.")
    return read_splits(path)[task].validation
