"""The worklist of one task over a folder (or data set) of cases.

The state of a case is never stored: it is read from the result and its JSON (predicted, corrected), the ledger
(accepted) and the worklist's own file (skipped). So it is right after a crash, whichever program wrote the result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from meduniseg_core.corrections import Ledger
from meduniseg_core.corrections.records import LedgerEntry
from meduniseg_core.corrections.voxels import storable
from meduniseg_core.errors import BadInputError, MedUniSegError, UsageError
from meduniseg_core.evaluation.writing import is_output
from meduniseg_core.events import CancelToken, EventSink, Message, ignore
from meduniseg_core.former_results import Standing, identities, read_record, standing
from meduniseg_core.images import Image, read_image
from meduniseg_core.images.cases import Case, folder_cases
from meduniseg_core.images.label_record import PROBABILITIES
from meduniseg_core.inference import Predictor
from meduniseg_core.outputs import check_name, clear_leftovers
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.provenance import IMAGE_SHA256, RESULT, recorded_task
from meduniseg_core.worklist.items import State, WorkItem
from meduniseg_core.worklist.pace import learn_pace
from meduniseg_core.worklist.state_file import (
    Predicted,
    Seen,
    Signature,
    WorklistFile,
    locked,
    read_state,
    signature_of,
    write_state,
)
from meduniseg_core.worklist.worth import novelties, uncertainty_of

_ENDINGS = (".nii.gz", ".png")  # of results that are volumes, and 2D
_MOST_NAMED = 12  # cases, in an error


class Worklist:
    """Cases, results and ledger of one task.

    Args:
        folder: images (`images.cases` says which files make a case), or a data set in nnU-Net's raw layout.
        results: the folder of predictions and corrections, ``CASE.nii.gz`` (2D: ``CASE.png``), and ``worklist.json``.
        task: the task's name.
        ledger: the collection into which corrections are accepted; it need not exist yet.
        channels: the number of files of a case (`preprocessing.files_per_case`); None if not known.
        reader: for a second reading: count only this reader's acceptances, and neither those of others nor labels that
            the data set has. Give ``results`` of the reader's own (`results_of_reader`), because corrections that were
            not accepted yet lie there. None counts what anybody did.
    """

    def __init__(
        self,
        folder: str | Path,
        results: str | Path,
        task: str,
        *,
        ledger: str | Path | None = None,
        channels: int | None = None,
        reader: str | None = None,
    ) -> None:
        self.folder, self.results, self.task = Path(folder), Path(results), task
        self.ledger = None if ledger is None else Path(ledger)
        self._channels = channels
        self._reader = reader
        # by label file, whether it was edited: files are hashed once while their signatures stay the same
        self._edited: dict[Path, tuple[tuple[Signature, ...], bool]] = {}

    # -- the cases ----------------------------------------------------------------------------------------------

    def cases(self) -> list[Case]:
        """Find the cases without reading them.

        Returns:
            The cases by name; those that cannot be used have a ``fault``.

        Raises:
            BadInputError: the folder is missing or holds no image.
        """
        return [case for case, _ in self._found()]

    def items(self, cancel: CancelToken | None = None) -> list[WorkItem]:
        """List the cases with their state.

        An image is read only if the ledger holds a case of that file name and it is not known yet whether that is the
        same image.

        Args:
            cancel: stops between two cases.

        Returns:
            One entry for each case, by name.

        Raises:
            BadInputError: the folder holds no image, or ``worklist.json`` or the ledger cannot be used.
            CancelledError: ``cancel`` was set.
        """
        clear_leftovers(self.results)
        found, state, entries = self._found(), self._state(), self._entries()
        accepted = {one.image_sha256 for one in entries if self._reader in (None, one.who) or one.adjudicates}
        sources = {one.source for one in entries if one.image_sha256 in accepted}
        items, digests = [], {}
        for case, labelled in found:
            if cancel is not None:
                cancel.raise_if_cancelled()
            labels, content, edited = self._result(case)
            digest = self._digest(case, state, content, case.paths[0].name in sources)
            digests[case.name] = digest
            done = (labelled and self._reader is None) or (digest is not None and digest in accepted)
            name: State = "predicted" if labels is not None else "new"
            if edited:
                name = "corrected"
            if case.name in state.skipped:
                name = "skipped"
            if done:
                name = "accepted"
            quality = content.get("quality") if labels is not None and not edited else None
            items.append(WorkItem(case, name, labels, quality if isinstance(quality, dict) else {}))
        return self._rated(items, state.predicted, digests, entries)

    def case(self, name: str) -> Case:
        """Find a case by its name.

        Args:
            name: the case's name.

        Returns:
            The case.

        Raises:
            UsageError: there is no case of this name.
            BadInputError: its files cannot be read as a case.
        """
        cases = {case.name: case for case in self.cases()}
        if name not in cases:
            listed = ", ".join(list(cases)[:_MOST_NAMED]) + (", ..." if len(cases) > _MOST_NAMED else "")
            raise UsageError(f"There is no case '{name}'; there are: {listed}.")
        fault = cases[name].fault
        if fault is not None:
            raise fault
        return cases[name]

    # -- changes ------------------------------------------------------------------------------------------------

    def skip(self, name: str, skipped: bool = True) -> None:
        """Leave a case out, or take it up again. The change is on disk when the call returns.

        Args:
            name: the case's name.
            skipped: False takes it up again.

        Raises:
            UsageError: there is no such case.
            UnwritableError: the folder of the results cannot be written to.
        """
        if name not in {case.name for case in self.cases()}:
            self.case(name)

        def change(state: WorklistFile) -> WorklistFile:
            others = [one for one in state.skipped if one != name]
            return state.model_copy(update={"skipped": (*others, name) if skipped else tuple(others)})

        self._change(change)

    def seen(self, name: str, image: Image) -> None:
        """Note a case's image, so that its acceptance in the ledger is recognised.

        Args:
            name: the case's name.
            image: the image, as it was read from the case's files.

        Raises:
            UsageError: there is no such case.
            UnwritableError: the folder of the results cannot be written to.
        """
        one = Seen(image_sha256=storable(image).sha256, files=_signatures(self.case(name)))
        if self._state().seen.get(name) != one:
            self._change(lambda state: state.model_copy(update={"seen": {**state.seen, name: one}}))

    def predict(
        self, name: str, predictor: Predictor, *, events: EventSink = ignore, cancel: CancelToken | None = None
    ) -> Path:
        """Segment a case and note the figures of the prediction. A correction is never replaced.

        Args:
            name: the case's name.
            predictor: a model with the worklist's task.
            events: receives progress.
            cancel: stops after the current batch of windows, without any change.

        Returns:
            The label file.

        Raises:
            UsageError: there is no such case, or another program's file is in the way.
            BadInputError: the image cannot be read, or not by this task.
            UnwritableError: the folder of the results cannot be written to.
            CancelledError: ``cancel`` was set.
        """
        case = self.case(name)
        before = self._standing(case)
        labels = self._labels_among(before.vouched)
        if labels is not None and before.edited():
            events(Message("info", f"{name}: its labels were corrected by hand and are kept."))
            return labels
        image = read_image(case.source).with_findings(*case.findings)
        target = self.results / f"{name}{_ENDINGS[image.is_2d]}"
        check_name(target)
        found = predictor.segment(image, self.task, evidence=True, events=events, cancel=cancel)[self.task]
        if cancel is not None:
            cancel.raise_if_cancelled()
        path = found.save(target, before=before)
        assert found.evidence is not None
        noted = Predicted(
            image_sha256=storable(image).sha256,
            model_sha256=found.pack_sha256 or found.model_sha256,
            uncertainty=uncertainty_of(found.evidence, found.quality),
            voxels=sum(row.voxels for row in found.table()),
            features=tuple(float(f"{value:.5g}") for value in found.evidence.features),
        )
        self._change(lambda state: state.model_copy(update={"predicted": {**state.predicted, name: noted}}))
        return path

    # -- inside -------------------------------------------------------------------------------------------------

    def _found(self) -> list[tuple[Case, bool]]:
        """The cases, each with whether the data set has labels for it."""
        if (self.folder / "dataset.json").is_file() and not any(self.folder.glob("[!.]*_0000.*")):
            dataset = RawDataset.open(self.folder)
            raw = [*dataset.cases("Tr"), *dataset.cases("Ts")]
            if not raw:
                raise BadInputError(f"{self.folder} holds no cases; put images named CASE_0000.ext in imagesTr.")
            return [(Case(one.case, one.images), one.label is not None) for one in raw]
        return [(case, False) for case in folder_cases(self.folder, channels=self._channels, passed_over=is_output)]

    def _state(self) -> WorklistFile:
        return read_state(self.results, self.task)

    def _change(self, change: Callable[[WorklistFile], WorklistFile]) -> None:
        with locked(self.results):
            write_state(self.results, change(self._state()))

    def _entries(self) -> tuple[LedgerEntry, ...]:
        if self.ledger is None or not Ledger.is_at(self.ledger):
            return ()
        return Ledger.open(self.ledger).entries()

    def _standing(self, case: Case) -> Standing:
        record = self.results / f"{case.name}.json"
        content = read_record(record)
        owner = recorded_task(content)
        if owner is not None and not self._is_of_task(content):
            raise UsageError(f"{record} is the result of task {owner}; choose another folder for {self.task}.")
        names = [f"{case.name}{ending}" for ending in _ENDINGS]
        return standing(record, names, RESULT, identities(case.paths), former=True)

    def _is_of_task(self, content: Mapping[str, Any]) -> bool:
        """Whether a JSON describes a result of this task, or labels made by hand."""
        return recorded_task(content) == self.task or (recorded_task(content) is not None and not content.get("model"))

    def _result(self, case: Case) -> tuple[Path | None, dict[str, Any], bool]:
        """The label file of a case (None if there is none), its JSON, and whether it was edited."""
        record = self.results / f"{case.name}.json"
        content = read_record(record)
        if not self._is_of_task(content):
            return None, {}, False
        vouched = RESULT.vouched(record, content)
        labels = self._labels_among(vouched)
        if labels is None:
            return None, {}, False
        signatures = signature_of(record), signature_of(labels)
        known = self._edited.get(labels)
        if known is None or known[0] != signatures:
            files = {labels.name: (0, 0, 0), record.name: (0, 0, 0)}
            edited = bool(Standing(record, files, content, vouched).edited())
            known = self._edited[labels] = signatures, edited
        return labels, content, known[1]

    def _labels_among(self, vouched: Mapping[str, str]) -> Path | None:
        paths = [self.results / name for name in vouched if f"{PROBABILITIES}." not in name]
        return next((path for path in paths if path.is_file()), None)

    def _digest(self, case: Case, state: WorklistFile, content: Mapping[str, Any], maybe: bool) -> str | None:
        """The hash of a case's image: as noted, as in its result's JSON, or, if it is ``maybe`` accepted, computed."""
        if case.fault is not None:
            return None
        noted = state.seen.get(case.name)
        if noted is not None and noted.files == _signatures(case):
            return noted.image_sha256
        recorded = content.get(IMAGE_SHA256)
        if isinstance(recorded, str):
            return recorded
        if not maybe:
            return None
        try:
            image = read_image(case.source)
        except (MedUniSegError, OSError):
            return None  # opening the case reports what is wrong with it
        self.seen(case.name, image)
        return storable(image).sha256

    def _rated(
        self,
        items: list[WorkItem],
        predicted: dict[str, Predicted],
        digests: Mapping[str, str | None],
        entries: tuple[LedgerEntry, ...],
    ) -> list[WorkItem]:
        """Add expected time, uncertainty and novelty to the entries."""
        names = {item.name for item in items}
        valid = {
            name: one
            for name, one in predicted.items()
            if name in names and digests.get(name) in (None, one.image_sha256)
        }
        novelty = novelties(valid, {item.name for item in items if item.state == "accepted"})
        pace = learn_pace(entries, {one.image_sha256: one.uncertainty for one in valid.values()})
        rated = []
        for item in items:
            known = valid.get(item.name)
            unsure = None if known is None else known.uncertainty
            seconds = None
            if pace is not None and not item.is_done:
                seconds = pace.seconds(None if known is None else known.voxels, unsure)
            rated.append(
                WorkItem(item.case, item.state, item.labels, item.quality, seconds, unsure, novelty.get(item.name))
            )
        return rated


def default_results(folder: Path, task: str, reader: str | None = None) -> Path:
    """Choose the default folder for the results of a worklist: beside the folder of the cases.

    Args:
        folder: the folder of the cases.
        task: the worklist's task.
        reader: see `results_of_reader`.

    Returns:
        A folder named after the cases' folder and the task.
    """
    whole = Path(folder).resolve()
    return results_of_reader(whole.with_name(f"{whole.name}_{task}"), reader)


def results_of_reader(results: Path, reader: str | None) -> Path:
    """Choose the folder for a reader's results, so that nobody else's corrections lie there.

    Args:
        results: the folder of the first reading.
        reader: the reader of a second reading; None for the first reading.

    Returns:
        ``results``, or a folder beside it with the reader's name.
    """
    return results if reader is None else results.with_name(f"{results.name}_{_in_a_file_name(reader)}")


def _in_a_file_name(reader: str) -> str:
    """A reader's name as part of a file name; names that would look alike then get a mark that tells them apart."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in reader).strip("-").lower()
    return plain if plain == reader else f"{plain}-{hashlib.sha256(reader.encode()).hexdigest()[:6]}"


def _signatures(case: Case) -> tuple[Signature, ...]:
    return tuple(signature_of(path) for path in case.paths)
