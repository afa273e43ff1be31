"""``meduniseg classify`` and ``classify-fit``: image-level classes from a frozen network, and the fit of their head."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meduniseg_core.errors import BadInputError, CancelledError, UsageError
from meduniseg_core.events import Message, Progress
from training_cli.case_failures import CaseFailures
from training_cli.inputs import cases_for, check_arguments, tell_left_out, without_results
from training_cli.options import Device, Json, Precision, ProgressOption
from training_cli.output import table
from training_cli.session import work

if TYPE_CHECKING:
    from meduniseg_core.evaluation.classification import ClassificationSummary
    from meduniseg_core.events import EventSink
    from meduniseg_core.images import Finding, Image
    from meduniseg_core.inference.image_class import ImageClass
    from meduniseg_core.preprocessing import RawCase, RawDataset

_LARGEST = 1 << 24  # bytes of a table of classes


@dataclass(frozen=True)
class _Found:
    """What is kept of a case: its class, and what its user must know."""

    case: str
    found: ImageClass
    findings: tuple[Finding, ...]

    def as_json(self) -> dict[str, Any]:
        warnings = [finding.as_json() for finding in self.findings]
        return {"case": self.case, **self.found.as_json(), "warnings": warnings}


def classify(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="Image files, DICOM folders, or folders of cases."),
    ],
    head: Annotated[Path, typer.Option("--head", metavar="FILE", help="The head, of 'classify-fit'.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME|FILE", help="The model it was fitted to. Default: by its name."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="CSV", help="The true classes (case,class): also show AUROC and accuracy."),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> int:
    """Say the class of each image, with the probability of each class. For research, not for clinical use."""
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.images import read_image
        from meduniseg_core.inference import Predictor
        from meduniseg_core.inference.classification import check_head, classify_image
        from meduniseg_core.preprocessing import files_per_case
        from meduniseg_core.weights import load_model
        from meduniseg_core.weights.classifier import read_head

        check_arguments(images)
        images = without_results(images, session.events)
        left_out = tell_left_out(images, session.events)
        known = read_head(head)
        truth = {} if labels is None else _classes_in(labels)
        predictor = Predictor(load_model(model or known.model), device, precision)
        check_head(predictor, known)
        cases = cases_for(images, [files_per_case(predictor.model.info.plan_of(known.task).channels)])
        if labels is not None:
            _check_truth(known.classes, truth, [case.name for case in cases], labels)
            _say_unmatched(labels, truth, [case.name for case in cases], session.events)
        found, failed = list[_Found](), CaseFailures(session)
        for number, case in enumerate(cases):
            session.cancel.raise_if_cancelled()
            session.events(Progress("classify", number, len(cases), 0.0, case.name))
            try:
                if case.fault is not None:
                    raise case.fault
                image = read_image(case.source).with_findings(*case.findings)
                one = classify_image(predictor, image, known, events=session.events, cancel=session.cancel)
                assert one.image_class is not None
                found.append(_Found(case.name, one.image_class, one.findings))  # without the voxels
            except CancelledError:
                raise
            except Exception as error:
                if len(cases) == 1:
                    raise
                failed.add(case.name, error)
        if found:
            rows = [(one.case, one.found.name, f"{one.found.probabilities[one.found.name]:.3f}") for one in found]
            session.show(table(("case", "class", "probability"), rows, right=("probability",)))
        summary = None if labels is None else _summary(known.classes, found, truth, session.events)
        if summary is not None:
            session.show(_said(summary))
        payload = {
            "head": head,
            "model": known.model,
            "model_sha256": known.model_sha256,
            "task": known.task,
            "results": [one.as_json() for one in found],
            "failed": failed.as_json(),
            "left_out": [finding.as_json() for finding in left_out],
            "summary": None if summary is None else summary.model_dump(mode="json"),
            "intended_use": predictor.model.info.intended_use,
        }
        session.result(payload, *(f"{one.case}: {one.found.name}" for one in found))
        return failed.exit_code(len(cases))


def classify_fit(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Training images, in nnU-Net's raw layout.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.json", help="The head.")],
    labels: Annotated[
        Path | None, typer.Option("--labels", metavar="CSV", help="The class of each case, as columns case and class.")
    ] = None,
    present: Annotated[
        str | None,
        typer.Option("--present", metavar="CLASS", help="Instead: whether the case's labels hold this class."),
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", metavar="NAME|FILE", help="The frozen model.")] = "starter",
    task: Annotated[
        str | None,
        typer.Option("--task", "-t", metavar="TASK", help="The model's task whose prompts are used. Default: its own."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the cross-validation.")] = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> int:
    """Fit an image-level classifier (disease grade, lesion type, present or not) to a frozen model's features.

    The head is a small JSON file for 'classify'. Its strength and inputs are chosen by cross-validation by patient.
    """
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.adaptation.classifier import LabelledEvidence, fit_head
        from meduniseg_core.images import read_image
        from meduniseg_core.inference import Predictor
        from meduniseg_core.inference.classification import check_shows_something
        from meduniseg_core.preprocessing import RawDataset
        from meduniseg_core.weights import load_model
        from meduniseg_core.weights.classifier import check_place_of_head, write_head

        if (labels is None) == (present is None):
            raise UsageError("Say the classes by --labels CSV or by --present CLASS, and not by both.")
        if output.suffix != ".json":
            raise UsageError(f"A head is a JSON file; give --output a name that ends in .json, not {output.name}.")
        check_place_of_head(output)
        opened = RawDataset.open(dataset)
        predictor = Predictor(load_model(model), device, precision)
        name = task or opened.task
        predictor.model.info.plan_of(name)
        named = _classes_of_cases(opened, labels, present, session.events)
        samples, failed = list[LabelledEvidence](), CaseFailures(session)
        for number, (case, class_of_case) in enumerate(named):
            session.cancel.raise_if_cancelled()
            session.events(Progress("classify", number, len(named), 0.0, case.case))
            try:
                label = class_of_case()
                image: Image = read_image(case.images)
                result = predictor.segment(image, name, evidence=True, cancel=session.cancel)[name]
                assert result.evidence is not None
                check_shows_something(result.evidence, image.name)
            except BadInputError as error:  # this image is left out, and said
                failed.add(case.case, error)
                continue
            samples.append(LabelledEvidence(result.evidence, label, case.patient))
        if failed and not samples:
            return failed.exit_code(len(named))
        fitted = fit_head(predictor.model, name, samples, seed=seed)
        write_head(fitted, output)
        payload = {
            "head": output,
            "inputs": fitted.inputs,
            "classes": fitted.classes,
            **fitted.provenance,
            "failed": failed.as_json(),
        }
        loss = f"log loss {fitted.provenance['log_loss']:.3f} on held-back patients"
        session.show(f"{', '.join(fitted.classes)}: {len(samples)} images, {loss}, by {fitted.inputs}.")
        session.result(payload, str(output))
        return failed.exit_code(len(named))


def _classes_of_cases(
    dataset: RawDataset, labels: Path | None, present: str | None, events: EventSink
) -> Sequence[tuple[RawCase, Callable[[], str]]]:
    """The training cases that have a class, with what finds it out: that may read the case's labels."""
    cases = dataset.cases("Tr")
    if labels is not None:
        known = _classes_in(labels)
        chosen = [(case, partial(known.__getitem__, case.case)) for case in cases if case.case in known]
        if not chosen:
            raise BadInputError(f"{labels} names no case of {dataset.folder}; its column 'case' has the cases' names.")
        _say_unmatched(labels, known, [case.case for case in cases], events)
        return chosen
    assert present is not None
    if present not in dataset.classes:
        raise UsageError(f"{dataset.name} has no class '{present}'; it has {', '.join(dataset.classes)}.")
    label = dataset.classes.index(present) + 1
    return [(case, partial(_presence, case.label, label)) for case in cases if case.label is not None]


def _presence(labels: Path, label: int) -> str:
    """Whether a label map holds a label."""
    from meduniseg_core.images import read_labels

    return "present" if bool((read_labels(labels).array == label).any()) else "absent"


def _classes_in(path: Path) -> dict[str, str]:
    """Class by case, from a CSV with the columns case and class (BadInputError where they are not there)."""
    from meduniseg_core.user_tables import read_rows

    found: dict[str, str] = {}
    for number, row in read_rows(path, ("case", "class"), max_bytes=_LARGEST):
        case, label = row["case"], row["class"]
        if not case or not label:
            raise BadInputError(f"{path}, line {number}: a row has a case and a class; fill both cells.")
        if found.setdefault(case, label) != label:
            raise BadInputError(f"{path}, line {number}: case {case} has two classes; keep one.")
    if not found:
        raise BadInputError(f"{path} holds no row; give the columns case and class.")
    return found


def _say_unmatched(table: Path, known: Collection[str], cases: Sequence[str], events: EventSink) -> None:
    """Name what a table and the images do not have in common: names are misspelt soon."""
    there = set(cases)
    strangers = [case for case in known if case not in there]
    without = [case for case in cases if case not in known]
    for names, text in ((strangers, "names {} not among the images"), (without, "has no class for {}")):
        if names:
            listed = f"{len(names)} case{'' if len(names) == 1 else 's'} ({', '.join(names[:3])}"
            listed += ", ...)" if len(names) > 3 else ")"
            events(Message("warning", f"{table} {text.format(listed)}: left out."))


def _check_truth(classes: Sequence[str], truth: Mapping[str, str], cases: Sequence[str], table: Path) -> None:
    """Refuse a table of which no figures can come, before anything is run."""
    named = {truth[case] for case in cases if case in truth}
    if not named:
        raise BadInputError(f"{table} names none of the images; its column 'case' has their names, as {cases[0]}.")
    strangers = sorted(named - set(classes))
    if strangers:
        raise UsageError(
            f"{table}: the head knows {', '.join(classes)} and not {', '.join(strangers)}; check the table."
        )
    missing = [name for name in classes if name not in named]
    if missing:
        raise UsageError(
            f"{table}: AUROC needs images of each class, and none is of {', '.join(missing)}; add some, or leave out "
            "--labels."
        )


def _summary(
    classes: Sequence[str], found: Sequence[_Found], truth: dict[str, str], events: EventSink
) -> ClassificationSummary | None:
    """The figures of the cases that the table names; None, which is said, where all cases of a class failed."""
    import numpy as np

    from meduniseg_core.evaluation.classification import summarise_classification

    known = [one for one in found if one.case in truth]
    lost = [name for name in classes if name not in {truth[one.case] for one in known}]
    if lost:
        text = f"AUROC needs images of each class, and all of {', '.join(lost)} failed: it is left out."
        events(Message("warning", text))
        return None
    shares = np.array([[one.found.probabilities[name] for name in classes] for one in known])
    return summarise_classification(classes, [classes.index(truth[one.case]) for one in known], shares)


def _said(summary: ClassificationSummary) -> str:
    area, rate = summary.auroc_interval, summary.balanced_accuracy_interval
    return (
        f"AUROC {summary.auroc:.3f} (95 % interval {area.low:.3f} to {area.high:.3f}), "
        f"balanced accuracy {summary.balanced_accuracy:.3f} ({rate.low:.3f} to {rate.high:.3f}), "
        f"{sum(summary.images.values())} images"
    )
