"""A download -> a data set in nnU-Net's raw layout: only what is new or changed is written, each file whole."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from meduniseg_core.conversion.counts import deviation
from meduniseg_core.conversion.description import write_description
from meduniseg_core.conversion.find import find_source_cases
from meduniseg_core.conversion.record import REWRITING, ConversionHeader, ConvertedCase, OutputFile, Record, state_of
from meduniseg_core.conversion.source import SourceCase, Tree
from meduniseg_core.conversion.split import random_subsets, ranked
from meduniseg_core.conversion.table import Conversion, Subset
from meduniseg_core.conversion.writing import FOLDERS, ConversionJob, ConversionOutcome, convert_cases
from meduniseg_core.errors import BadInputError, CancelledError, MedUniSegError, UnwritableError, UsageError
from meduniseg_core.events import CancelToken, EventSink, Message, Progress, ignore
from meduniseg_core.files import remove_leftovers, writing_into

_VERSION = 1  # of what conversion does with a case; a higher one converts all cases anew


@dataclass(frozen=True)
class ConversionResult:
    """What a conversion found and did.

    ``train`` and ``test`` count the data set's cases, ``converted`` those that this run wrote. ``deviations`` say how
    the data set differs from the paper's, ``warnings`` what was found out or assumed about images and labels,
    ``faults`` which cases could not be converted.
    """

    folder: Path
    train: int
    test: int
    converted: int
    deviations: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass
class _Run:
    conversion: Conversion
    folder: Path
    root: Path
    record: Record
    events: EventSink
    cancel: CancelToken | None
    processes: int = 1
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    converted: int = 0


def convert_dataset(
    conversion: Conversion,
    source: Path,
    folder: Path,
    *,
    seed: int = 0,
    processes: int = 1,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> ConversionResult:
    """Convert a data set's official download.

    A second run does nothing; a case whose files changed is converted anew, and one whose converted files are missing.
    Cases keep their subset. Converted files that were edited since are never replaced.

    Args:
        conversion: The table's entry.
        source: The unpacked download, or a folder above it.
        folder: The data set to write; new, empty, or of an earlier run.
        seed: Of the split, where there is no official one, and of the choice of normal images.
        processes: How many cases to work on at once.
        events: Receives progress and what was left out.
        cancel: Ends the work between two cases.

    Returns:
        Counts, deviations from the paper, and faults.

    Raises:
        UsageError: The folder holds something else, or another process converts into it.
        BadInputError: The source is not such a download.
        CancelledError: ``cancel`` was set; what is converted stays.
        UnwritableError: The folder or the disk refuses a file.
    """
    source, folder = Path(source), Path(folder)
    if not source.is_dir():
        raise BadInputError(f"{source} is not a folder; unpack the download and give its folder.")
    if source.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{folder} holds the download itself; give a folder of its own with --output.")
    task = conversion.task.model_dump(include={"classes", "channels"})
    recipe = f"{_VERSION}\0{conversion.model_dump_json(include={'parts', 'balance', 'split'})}\0{task}"
    header = ConversionHeader(dataset=conversion.name, seed=seed, recipe=hashlib.sha256(recipe.encode()).hexdigest())
    Record.open(folder, header)  # refuses before anything is made
    cases = find_source_cases(conversion, Tree(source, without=folder))
    if not cases:
        raise BadInputError(
            f"{source} holds no case of {conversion.name}, whose download looks like this: {conversion.layout}; "
            "check the folder."
        )
    _check_names(cases)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".conversion.lock", timeout=0):
            record = Record.open(folder, header)
            with writing_into(folder):
                return _convert(_Run(conversion, folder, source, record, events, cancel, processes), cases, seed)
    except Timeout:
        raise UsageError(f"Another process converts into {folder}; wait for it, or give another folder.") from None


def _convert(run: _Run, cases: Sequence[SourceCase], seed: int) -> ConversionResult:
    run.record.save()
    for part in (run.folder, *(run.folder / name for names in FOLDERS.values() for name in names)):
        remove_leftovers(part)
    prints = _fingerprints(run, cases)
    cases = [case for case in cases if case.name in prints]
    chosen = _chosen(run, cases, prints, f"{seed}\0{run.conversion.task_name}")
    _write_all(run, cases, chosen, prints)
    run.record.save()
    _say_what_has_gone(run, cases)
    write_description(run.conversion, run.folder, run.record)
    subsets = [record.subset for record in run.record.cases.values() if record.outputs]
    train, test = subsets.count("train"), subsets.count("test")
    deviations = tuple(filter(None, [deviation(run.conversion, train, test)]))
    warnings = _warnings(run)
    for text in warnings:
        run.events(Message("warning", text))
    return ConversionResult(
        run.folder, train, test, run.converted, (*deviations, *run.notes), tuple(warnings), tuple(run.faults)
    )


def _check_names(cases: Sequence[SourceCase]) -> None:
    known: dict[str, SourceCase] = {}
    for case in cases:
        other = known.setdefault(case.name.lower(), case)
        if other is not case:
            raise BadInputError(
                f"{case.files[0]} and {other.files[0]} are both of the case {case.name}; keep one of them."
            )


def _fingerprints(run: _Run, cases: Sequence[SourceCase]) -> dict[str, str]:
    prints = {}
    for case in cases:
        _stop_if_cancelled(run)
        try:
            prints[case.name] = case.fingerprint(run.root)
        except BadInputError as error:
            run.faults.append(str(error))
    return prints


def _chosen(run: _Run, cases: Sequence[SourceCase], prints: Mapping[str, str], seed: str) -> dict[str, Subset]:
    """The cases that the data set takes, with their subsets."""
    targets = _targets(run, cases, prints)
    known = run.record.subsets()
    taken = [
        case
        for case in cases
        if case.has_target is None or targets.get(case.name) or (run.conversion.balance and case.name in targets)
    ]
    subsets = {case.name: case.subset for case in taken if case.subset is not None}
    drawn = [case for case in taken if case.subset is None]
    for fraction in {case.test_fraction for case in drawn}:
        patients = {case.name: case.patient for case in drawn if case.test_fraction == fraction}
        share = run.conversion.test_fraction if fraction is None else fraction
        subsets |= random_subsets(patients, share, seed, known)
    if run.conversion.balance:
        normal = [case.name for case in taken if subsets[case.name] == "train" and not targets[case.name]]
        ill = sum(subset == "train" for subset in subsets.values()) - len(normal)
        left_out = ranked(normal, seed)[ill:]
        if left_out:
            run.notes.append(f"{len(left_out)} normal training image(s) left out: there are as many as with lesions.")
        for case in taken:
            if case.name in left_out:
                del subsets[case.name]
                if case.name in run.record.cases:
                    _leave_out(run, case, prints[case.name])
    return subsets


def _targets(run: _Run, cases: Sequence[SourceCase], prints: Mapping[str, str]) -> dict[str, bool]:
    """Whether each case that asks for it has a target; from the record where its files are as they were."""
    asking = [case for case in cases if case.has_target is not None]
    targets: dict[str, bool] = {}
    begin = time.monotonic()
    for done, case in enumerate(asking, start=1):
        _stop_if_cancelled(run)
        known = run.record.cases.get(case.name)
        if known is not None and known.source == prints[case.name] and not run.conversion.balance:
            targets[case.name] = bool(known.outputs)
            continue
        assert case.has_target is not None
        try:
            targets[case.name] = case.has_target()
            if not targets[case.name] and not run.conversion.balance:
                _leave_out(run, case, prints[case.name])
        except MedUniSegError as error:
            run.faults.append(f"{case.name}: {error}")
            targets.pop(case.name, None)
        run.events(Progress("look for targets", done, len(asking), time.monotonic() - begin, case.name))
    without = sum(not there for there in targets.values())
    if without and not run.conversion.balance:
        run.notes.append(f"{_cases(without)} without any target left out.")
    return targets


def _leave_out(run: _Run, case: SourceCase, source: str) -> None:
    known = run.record.cases.get(case.name)
    _check_unedited(run, known)
    _remove(run, known, {})
    run.record.add(ConvertedCase(case=case.name, source=source, patient=case.patient, site=case.site))


def _write_all(
    run: _Run, cases: Sequence[SourceCase], subsets: Mapping[str, Subset], prints: Mapping[str, str]
) -> None:
    wanted = {case.name: case for case in cases if case.name in subsets}
    jobs = [job for case in wanted.values() if (job := _job(run, case, prints[case.name], subsets[case.name]))]
    begin, done = time.monotonic(), len(wanted) - len(jobs)
    _stop_if_cancelled(run)
    with closing(convert_cases(jobs, run.processes)) as outcomes:
        for outcome in outcomes:
            if outcome.refused is not None:
                raise UnwritableError(run.folder, outcome.refused)
            if outcome.fault is not None:
                run.faults.append(f"{outcome.case}: {outcome.fault}")
            else:
                _keep(run, wanted[outcome.case], prints[outcome.case], subsets[outcome.case], outcome)
            done += 1
            run.events(Progress("convert", done, len(wanted), time.monotonic() - begin, outcome.case))
            _stop_if_cancelled(run)


def _job(run: _Run, case: SourceCase, source: str, subset: Subset) -> ConversionJob | None:
    """What is to be done for a case; None where it is done, or may not be done again."""
    known = run.record.cases.get(case.name)
    if known is not None and _is_done(run, known, source, subset):
        return None
    try:
        _check_unedited(run, known)
    except BadInputError as error:
        run.faults.append(f"{case.name}: {error}")
        return None
    if known is not None and known.outputs:  # killed from here on, its files are not taken for edited ones
        rewriting = dict.fromkeys(known.outputs, OutputFile(size=-1, changed=REWRITING))
        run.record.add(known.model_copy(update={"source": "", "outputs": rewriting}))
    return ConversionJob(case.name, subset, run.folder, run.conversion.ending, case.load)


def _keep(run: _Run, case: SourceCase, source: str, subset: Subset, outcome: ConversionOutcome) -> None:
    _remove(run, run.record.cases.get(case.name), outcome.outputs)
    run.record.add(
        ConvertedCase(
            case=case.name,
            source=source,
            patient=case.patient,
            site=case.site,
            subset=subset,
            outputs=outcome.outputs,
            findings=outcome.findings,
        )
    )
    run.converted += 1


def _warnings(run: _Run) -> list[str]:
    """For each kind of finding how many cases have it, and the first one's sentence."""
    by_code: dict[str, list[str]] = {}
    for _, case in sorted(run.record.cases.items()):
        for code, text in case.findings.items() if case.outputs else ():
            by_code.setdefault(code, []).append(f"{case.case}: {text}")
    return [texts[0] if len(texts) == 1 else f"{len(texts)} cases, e.g. {texts[0]}" for texts in by_code.values()]


def _is_done(run: _Run, known: ConvertedCase, source: str, subset: Subset) -> bool:
    there = bool(known.outputs) and all(state_of(run.folder / name) is not None for name in known.outputs)
    return there and known.source == source and known.subset == subset


def _check_unedited(run: _Run, known: ConvertedCase | None) -> None:
    for name, written in known.outputs.items() if known is not None else ():
        state = state_of(run.folder / name)
        if state is not None and state != written and written.changed != REWRITING:
            raise BadInputError(
                f"{run.folder / name} was changed since it was converted; move it away to convert the case again."
            )


def _remove(run: _Run, known: ConvertedCase | None, outputs: Mapping[str, OutputFile]) -> None:
    """Remove what an earlier conversion of the case wrote elsewhere (into the other subset)."""
    for name in known.outputs if known is not None else ():
        if name not in outputs:
            (run.folder / name).unlink(missing_ok=True)


def _say_what_has_gone(run: _Run, cases: Sequence[SourceCase]) -> None:
    names = {case.name for case in cases}
    gone = sorted(name for name, record in run.record.cases.items() if record.outputs and name not in names)
    if gone:
        text = f"{_cases(len(gone))} no longer in {run.root} ({gone[0]}, for one) but kept in the data set."
        run.notes.append(text)
        run.events(Message("warning", text))


def _cases(count: int) -> str:
    return f"{count} case{'s' if count != 1 else ''}"


def _stop_if_cancelled(run: _Run) -> None:
    if run.cancel is not None and run.cancel.cancelled:
        raise CancelledError(
            f"Stopped on request with {_cases(run.converted)} converted; run the same command to continue."
        )
