"""The gate: compares a new model with its base, case by case, on cases that neither run was trained on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meduniseg_core.adaptation.finetune import data_of
from meduniseg_core.adaptation.gate_bias import corrected, corrections_in
from meduniseg_core.adaptation.gate_files import write_gate
from meduniseg_core.adaptation.gate_report import PICTURES, GateReport, Pair, by_gain
from meduniseg_core.adaptation.run import Run
from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation import evaluate_case
from meduniseg_core.evaluation.overlay import overlay, png_bytes, side_by_side
from meduniseg_core.evaluation.report import ReportPicture
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.images import Image, place_labels, read_image, read_labels
from meduniseg_core.inference import Predictor, Segmentation
from meduniseg_core.preprocessing import RawCase, RawDataset
from meduniseg_core.training.prepare import CASES_FILE
from meduniseg_core.training.split import read_splits
from meduniseg_core.weights import Model, Pack, load_model, read_pack

GATE = "gate"
_SIDE = 300


@dataclass(frozen=True)
class Side:
    """One side of the comparison: a predictor with its model's name and sha256."""

    name: str
    sha256: str
    predictor: Predictor


def gate(
    base: Side,
    candidate: Side,
    dataset: RawDataset,
    cases: Sequence[str],
    *,
    notes: Sequence[str] = (),
    selected: bool = True,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> GateReport:
    """Segment labelled cases with two models and compare both with the reference labels.

    The base is asked for the same task if it has it and its classes come first, in the same order, among the
    candidate's. Classes that only the candidate has are reported without a score before. For a case of a ledger whose
    labels began as a prediction, the voxels that the annotator changed are counted, too.

    Args:
        base: the model in use so far.
        candidate: the new model.
        dataset: the data set or ledger of the cases.
        cases: names of validation cases.
        notes: sentences to put into the report.
        selected: the candidate's best checkpoint was chosen on these same cases.
        events: receives the progress.
        cancel: stops the comparison.

    Returns:
        The report, with pictures of the worst cases.

    Raises:
        BadInputError: a case is no longer in the data set, or cannot be read.
        CancelledError: ``cancel`` was set.
    """
    task = dataset.task
    known = {case.case: case for case in dataset.cases("Tr")}
    gone = sorted(set(cases) - set(known))
    if gone:
        raise BadInputError(f"{dataset.folder}: case {gone[0]} is no longer there; restore it or train again.")
    classes = candidate.predictor.model.info.plan_of(task).classes
    shared = known_classes(base.predictor.model, task, classes)
    sides = [(base, shared)] if shared else []
    sides.append((candidate, len(classes)))
    if shared == 0 and knows(base.predictor.model, task):
        notes = (*notes, f"The task {task} of {base.name} has other classes, so there is nothing to compare with.")
    elif 0 < shared < len(classes):
        notes = (*notes, f"New, and not compared: {', '.join(classes[shared:])}.")
    corrections = corrections_in(dataset, cases)
    began, pairs = time.monotonic(), list[Pair]()
    kept: dict[str, tuple[list[Segmentation], Image]] = {}  # of the worst so far, for their pictures
    for done, name in enumerate(cases):
        image, truth = _read(known[name])
        found = [side.predictor.segment(image, task, cancel=cancel)[task] for side, _ in sides]
        scores = [
            evaluate_case(
                result.labels,
                truth,
                dict(enumerate(classes[:count], start=1)),
                case=name,
                lesions=False,
                ignored=dataset.ignored,
            )
            for result, (_, count) in zip(found, sides, strict=True)
        ]
        changed = None
        if name in corrections:
            shown = [result.labels for result in found]
            changed = corrected(corrections[name], base.sha256, truth, image, shown, len(sides) == 2, dataset.ignored)
        pairs.append(Pair(before=scores[0] if len(sides) == 2 else None, after=scores[-1], corrected=changed))
        kept[name] = found, truth
        kept = {pair.after.case: kept[pair.after.case] for pair in by_gain(pairs)[:PICTURES]}
        events(Progress("gate", done + 1, len(cases), time.monotonic() - began, name))
    report = GateReport(
        task=task,
        base=base.name,
        base_sha256=base.sha256,
        candidate=candidate.name,
        candidate_sha256=candidate.sha256,
        notes=tuple(notes),
        selected=selected,
        pairs=tuple(pairs),
    )
    pictures = tuple(ReportPicture(rank="worst", case=case, png=_picture(*kept[case])) for case in report.worst)
    return report.model_copy(update={"pictures": pictures})


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
        raise BadInputError(f"{path}: is missing, so the held-back cases are not known; start the run again.")
    return read_splits(path)[task].validation


def known_classes(model: Model, task: str, classes: Sequence[str]) -> int:
    """How many of a task's classes a model has.

    Args:
        model: the model.
        task: the task's name.
        classes: the task's classes, in label order.

    Returns:
        The number of the model's classes for the task if they are the first of ``classes``, in their order; else 0.
    """
    if not knows(model, task):
        return 0
    own = model.info.plan_of(task).classes
    return len(own) if tuple(classes[: len(own)]) == own else 0


def knows(model: Model, task: str) -> bool:
    """Whether a model has a task.

    Args:
        model: the model.
        task: the task's name.

    Returns:
        True if it does.
    """
    return task in [plan.task for plan in model.info.tasks]


def served_note(base: Model, candidate: Model) -> tuple[str, ...]:
    """A note for the report of a fine-tuned model that lacks some of its base's tasks.

    Args:
        base: the base.
        candidate: the fine-tuned model.

    Returns:
        One sentence, or none if the candidate has all of the base's tasks.
    """
    served = {plan.task for plan in candidate.info.tasks}
    if all(plan.task in served for plan in base.info.tasks):
        return ()
    return (f"The new model serves {', '.join(sorted(served))} only; {base.info.name} stays in use for the others.",)


def refined_note(base: Model, pack: Pack) -> tuple[str, ...]:
    """A note for the report of a pack: the base's other tasks do not change.

    Args:
        base: the base.
        pack: the pack.

    Returns:
        One sentence.
    """
    tasks = ", ".join(pack.info.tasks)
    return (f"The pack changes {tasks} only; all other tasks of {base.info.name} stay as they are, bit for bit.",)


def _read(case: RawCase) -> tuple[Image, Image]:
    assert case.label is not None
    image = read_image(case.images)
    return image, place_labels(read_labels(case.label), image)


def _picture(found: Sequence[Segmentation], truth: Image) -> bytes:
    """PNG of the base's labels (if there are any), the candidate's and the reference, in the slice where the reference
    is largest."""
    image = found[-1].image
    colours = dict(enumerate(found[-1].colours, start=1))
    shown = [*(result.labels for result in found), truth]
    return png_bytes(
        side_by_side([overlay(image, labels, colours, longest_side=_SIDE, like=truth) for labels in shown])
    )


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
