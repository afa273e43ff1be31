"""Evaluate a folder of predictions against a folder of references, case by case."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from meduniseg_core.errors import BadInputError
from meduniseg_core.evaluation.box_lists import BoxComparison
from meduniseg_core.evaluation.cases import CaseScores, evaluate_case, on_one_grid
from meduniseg_core.evaluation.matching import Sides
from meduniseg_core.evaluation.overlay import overlay, png_bytes, side_by_side
from meduniseg_core.evaluation.report import Report, ReportPicture
from meduniseg_core.evaluation.writing import is_output, report_files
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.images import Case, Finding, Image, place_labels, read_image, read_labels
from meduniseg_core.images.cases import folder_cases
from meduniseg_core.images.findings import merge
from meduniseg_core.images.formats import composed, ending_of, stem_of
from meduniseg_core.images.reading import check_exists, smallest_dtype
from meduniseg_core.images.upright import DrawnOn, meet
from meduniseg_core.provenance import is_result, provenance_path

PICTURE_SIDE = 360
_NAMED = 5
_REPORT = ".sr.dcm"  # measurements; the label map that they were taken from lies beside it


def evaluate_folders(
    predictions: Path,
    references: Path,
    *,
    class_names: Sequence[str] | Mapping[int, str] | None = None,
    images: Path | None = None,
    missing: Literal["empty", "refuse"] = "empty",
    ignored: int | None = None,
    tolerance: float = 2.0,
    surface: bool = True,
    lesions: bool = True,
    boxes: float | None = None,
    pictures: bool = True,
    title: str = "Evaluation",
    task: str = "",
    drawn_on: DrawnOn | None = None,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> Report:
    """Compare the label maps ``CASE.ext`` of two folders (or two files) by the name of the case.

    A case has one label map on each side. Of several predictions that one is taken which ``CASE.json`` lists as the
    present result, and a finding says so.

    If no id occurs on both sides, the ids are matched or refused by the rule in `matching`.

    Args:
        predictions: folder of label maps, or one file.
        references: folder of label maps, or one file.
        class_names: foreground classes, in the order of ids 1, 2, ... or by id; None takes every id that occurs, by
            the name that the files give it.
        images: folder of images to draw the worst, median and best case on; None draws on black. A note names a case
            whose image cannot be drawn on.
        missing: "empty": a missing prediction counts as an empty one, and a note names it; "refuse": it is an error.
        ignored: the references' label of voxels that do not count.
        tolerance: of the surface Dice, in mm (pixels where images have no size).
        surface: whether to measure surface Dice and HD95.
        lesions: whether to count lesions that were found, missed and invented.
        boxes: also compare the lists of boxes beside the predictions, by this least IoU; None: not.
        pictures: whether to draw pictures.
        title: the report's.
        task: what was segmented, for the report.
        drawn_on: which pixels the masks of rotated photographs were drawn on, where the files do not say
            (`images.upright`).
        events: receives progress.
        cancel: stops the work between two cases.

    Returns:
        The report.

    Raises:
        BadInputError: there are no label maps, no images or no common cases, a case is there more than once, grids
            differ, no id occurs on both sides, or a list of boxes is missing or damaged.
        CancelledError: ``cancel`` was set.
    """
    pairs, notes, found_twice = _matched(Path(predictions), Path(references), missing)
    sources = None if images is None else _sources(Path(images))  # refused now, not once all is computed
    names, sides = _names(class_names), Sides(ignored, trust_names=class_names is None)
    scores: list[CaseScores] = []
    findings: list[Finding] = [*found_twice]
    comparison = None if boxes is None else BoxComparison(boxes)
    read = partial(_read, drawn_on=drawn_on, ignored=ignored)
    began = time.monotonic()

    def score(case: str, guess: Image | None, truth: Image) -> CaseScores:
        return evaluate_case(
            guess, truth, None, case=case, tolerance=tolerance, surface=surface, lesions=lesions, ignored=ignored
        )

    for done, pair in enumerate(pairs):
        if cancel is not None:
            cancel.raise_if_cancelled()
        guess, truth = read(pair)
        sides.add(guess, truth)
        findings += [finding for labels in (guess, truth) if labels is not None for finding in labels.findings]
        scores.append(score(pair[0], guess, truth))
        if comparison is not None:
            comparison.add(pair[0], pair[1], truth, ignored)
        events(Progress("evaluate", done + 1, len(pairs), time.monotonic() - began, pair[0]))
    only = sides.same_class(names)
    if only is None and names is not None:
        sides.check_named(names)
    if only is not None:  # rare: then all is read again, rather than twice always
        scores = [score(pair[0], *read(pair, only)) for pair in pairs]
    found = {label.label for case in scores for label in case.classes}
    absent = sides.nowhere(names) if only is None else None
    notes += [absent] if absent is not None else []
    if names is None:
        names = {label: sides.names[label][0] if label in sides.names else f"label {label}" for label in sorted(found)}
        one_sided = sides.one_sided() if only is None else None
        notes += [one_sided] if one_sided is not None else []
    elif found - names.keys():
        ids = ", ".join(str(label) for label in sorted(found - names.keys()))
        notes.append(f"Labels without a class name were left out: {ids}.")
    if only is not None:
        findings.append(sides.matched(only, names.get(only, f"label {only}")))
    findings += sides.swapped(only)
    warnings = merge(findings)
    report = Report(
        title=title,
        task=task,
        tolerance=tolerance,
        notes=(*notes, *(finding.text for finding in warnings if finding.level == "warning")),
        warnings=warnings,
        cases=tuple(case.with_classes(names, surface, lesions) for case in scores),
        detection=() if comparison is None else comparison.summary(names, only),
    )
    if not pictures:
        return report
    drawn, undrawn = _pictures(report, pairs, sources, partial(read, only=only))
    return report.model_copy(update={"pictures": drawn, "notes": (*report.notes, *undrawn)})


Pair = tuple[str, Path | None, Path]


def _matched(predictions: Path, references: Path, missing: str) -> tuple[list[Pair], list[str], list[Finding]]:
    for path in (predictions, references):
        check_exists(path)
    if predictions.is_file() and references.is_file():
        return [(stem_of(references), predictions, references)], [], []
    ours, theirs = _label_files(predictions), _label_files(references)
    if not theirs:
        raise BadInputError(f"{references} holds no label maps; check the folder.")
    if not ours.keys() & theirs.keys():
        raise BadInputError(
            f"No file of {predictions} has the name of a case of {references}; predictions are named CASE.ext."
        )
    absent = [case for case in theirs if case not in ours]
    if absent and missing == "refuse":
        raise BadInputError(f"{predictions} has no prediction of {_listed(absent)}; segment these cases first.")
    notes = []
    if absent:
        notes.append(f"Predictions are missing and count as empty: {_listed(absent)}.")
    extra = [case for case in ours if case not in theirs]
    if extra:
        notes.append(f"Predictions without a reference were passed over: {_listed(extra)}.")
    pairs: list[Pair] = []
    findings: list[Finding] = []
    for case, files in theirs.items():
        prediction = None if case not in ours else _only(case, _present(case, ours[case], findings))
        pairs.append((case, prediction, _only(case, files)))
    return pairs, notes, findings


def _label_files(folder: Path) -> dict[str, list[Path]]:
    """Label maps by case, however its name encodes accents. A label map is one file: here ``_0001`` at the end of a
    name does not mean a channel. A report is not one, whether of an evaluation or of measurements (DICOM)."""
    if not folder.is_dir():
        raise BadInputError(f"{folder} is not a folder; give two folders of label maps, or two files.")
    ours = report_files(folder)
    cases: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name.startswith(".") or path.name in ours:
            continue
        if ending_of(path) not in (None, _REPORT):
            cases.setdefault(composed(stem_of(path)), []).append(path)
    return cases


def _present(case: str, files: list[Path], findings: list[Finding]) -> list[Path]:
    """Of several files of a case the one that its record lists as the present result, which adds a finding."""
    listed = [path for path in files if is_result(path, earlier=False)] if len(files) > 1 else []
    if len(listed) != 1:
        return files
    others = _listed(path.name for path in files if path not in listed)
    text = (
        f"Case {case} is there more than once in {files[0].parent}: {listed[0].name} was taken, which "
        f"{provenance_path(listed[0]).name} lists as the result, and {others} was left out."
    )
    findings.append(Finding("slices_chosen", text))
    return listed


def _only(case: str, files: list[Path]) -> Path:
    if len(files) == 1:
        return files[0]
    names = _listed(path.name for path in files)
    raise BadInputError(f"Case {case} is there more than once in {files[0].parent} ({names}); keep one of them.")


def _sources(images: Path) -> dict[str, Case]:
    """The images to draw on, by case; whether one can be used matters only if its case is drawn."""
    return {composed(case.name): case for case in folder_cases(images, passed_over=is_output)}


def _names(class_names: Sequence[str] | Mapping[int, str] | None) -> dict[int, str] | None:
    if class_names is None or isinstance(class_names, Mapping):
        return None if class_names is None else {label: class_names[label] for label in sorted(class_names) if label}
    return dict(enumerate(class_names, start=1))


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more


def _pictures(
    report: Report,
    pairs: Sequence[Pair],
    sources: Mapping[str, Case] | None,
    read: Callable[[Pair], tuple[Image | None, Image]],
) -> tuple[tuple[ReportPicture, ...], list[str]]:
    """The pictures, and a note for each case whose image cannot be drawn on: the figures stand without it."""
    by_case = {pair[0]: pair for pair in pairs}
    drawn, notes = [], []
    for rank, scores in report.ranked():
        found, truth = read(by_case[scores.case])
        guess = found if found is not None else truth.with_array(np.zeros_like(truth.array))
        image = truth.with_array(np.zeros_like(truth.array))
        try:
            if sources is not None:
                image, guess, truth = _on_image(guess, truth, scores.case, sources)
        except BadInputError as error:
            notes.append(f"The picture of case {scores.case} has no background: {error}")
        # both halves show the slice in which the reference is largest, or the prediction where there is none
        leading = truth if truth.array.any() else guess
        shown = [overlay(image, labels, longest_side=PICTURE_SIDE, like=leading) for labels in (guess, truth)]
        drawn.append(ReportPicture(rank=rank, case=scores.case, png=png_bytes(side_by_side(shown))))
    return tuple(drawn), notes


def _read(
    pair: Pair, only: int | None = None, *, drawn_on: DrawnOn | None, ignored: int | None
) -> tuple[Image | None, Image]:
    """The prediction, if there is one, and the reference, on one grid; binary masks with ``only`` as their label."""
    case, prediction, reference = pair
    guess, truth = read_labels(prediction) if prediction is not None else None, read_labels(reference)
    if only is not None:
        guess, truth = _called(only, guess, None) if guess is not None else None, _called(only, truth, ignored)
    if guess is None:
        return None, truth
    return on_one_grid(meet(guess, truth, drawn_on), meet(truth, guess, drawn_on), case)


def _called(label: int, labels: Image, ignored: int | None) -> Image:
    """A binary mask with ``label`` for its foreground; voxels that are ``ignored`` stay so."""
    marked = (labels.array != 0) & (labels.array != (0 if ignored is None else ignored))
    dtype = smallest_dtype(max(label, ignored or 0))
    unknown = 0 if ignored is None else np.where(labels.array == ignored, ignored, 0)
    return labels.with_array(np.where(marked, label, unknown).astype(dtype))


def _on_image(guess: Image, truth: Image, case: str, sources: Mapping[str, Case]) -> tuple[Image, Image, Image]:
    """The case's image, with both label maps on its grid."""
    source = sources.get(case)
    if source is None:
        raise BadInputError("the folder of images has none of this name.")
    if source.fault is not None:
        raise source.fault
    image = read_image(source.paths)
    return image, place_labels(guess, image), place_labels(truth, image)
