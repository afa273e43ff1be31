"""The corrections ledger: every accepted correction, in a folder that is also a data set.

Any number of processes may use one ledger. Writers take turns through a file lock; readers need none. An acceptance
consists of its line in ``ledger.jsonl``, which is written last. What a crash leaves without a line is removed by the
next writer (or the next :meth:`Ledger.open`), so files and lines always agree.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from meduniseg_core.catalog import find_modality
from meduniseg_core.corrections.journal import Journal, journal_path, read_journal, start_journal
from meduniseg_core.corrections.layout import (
    LedgerFolder,
    case_name,
    copy_contents,
    description_text,
    holds_data,
    may_describe,
    numbered,
    update_description,
)
from meduniseg_core.corrections.patient_split import assign_subset, patient_key
from meduniseg_core.corrections.records import (
    Adjudication,
    LedgerEntry,
    LedgerHeader,
    ModelReference,
    Reading,
    Subset,
)
from meduniseg_core.corrections.schema import check_classes, check_form, check_ledger_ending, longer_classes
from meduniseg_core.corrections.transaction import recover, write_acceptance, writing
from meduniseg_core.corrections.voxels import class_changes, labels_on, storable
from meduniseg_core.errors import BadInputError, UsageError
from meduniseg_core.files import write_text
from meduniseg_core.images import Image
from meduniseg_core.images.upright import plain
from meduniseg_core.preprocessing import RawDataset
from meduniseg_core.preprocessing.dataset import DatasetDescription
from meduniseg_core.validation import first_fault


class Ledger:
    """The corrections of one task. Create a ledger with :meth:`create`, open an existing one with :meth:`open`."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    @staticmethod
    def is_at(folder: str | Path) -> bool:
        """Whether a folder is a ledger (and not just a data set).

        Args:
            folder: the folder.

        Returns:
            True if it has a journal.
        """
        return journal_path(Path(folder)).is_file()

    @classmethod
    def create(
        cls,
        folder: str | Path,
        *,
        task: str,
        modality: str,
        classes: Sequence[str],
        channels: Sequence[str],
        file_ending: str = ".nii.gz",
        validation_fraction: float = 0.2,
        exist_ok: bool = False,
        begins_with: tuple[Image, Image] | None = None,
    ) -> Ledger:
        """Create a ledger.

        Args:
            folder: the folder; created if missing.
            task: what is segmented.
            modality: the images' modality.
            classes: the foreground classes; the label is the position + 1.
            channels: names of the images' channels (R, G and B for colour images, which are one file).
            file_ending: ending of all files, see :func:`ending_for`.
            validation_fraction: approximate share of the cases that are for validation.
            exist_ok: open an existing ledger of the same task.
            begins_with: the image and labels that will be accepted first; no ledger is made where they cannot be.

        Returns:
            The ledger.

        Raises:
            UsageError: a name or value cannot be used.
            BadInputError: the folder already holds a ledger or a data set, or the labels cannot be accepted.
        """
        if begins_with is not None:
            labels_on(storable(begins_with[0]), begins_with[1], check_classes(classes))
        check_ledger_ending(file_ending)
        ledger = cls(Path(folder))
        content = {
            "name": ledger.folder.resolve().name,
            "modality": find_modality(modality).name,
            "task": task,
            "channel_names": {str(index): name for index, name in enumerate(channels)},
            "labels": numbered(check_classes(classes)),
            "numTraining": 0,
            "file_ending": file_ending,
            "patient_of": {},
        }
        try:
            DatasetDescription.model_validate(content)
            header = LedgerHeader(task=task, validation_fraction=validation_fraction, created=datetime.now(UTC))
        except ValidationError as error:
            raise UsageError(f"The ledger cannot be created: {first_fault(error)}; give another value.") from None
        with writing(ledger.folder):
            if journal_path(ledger.folder).is_file():
                if not exist_ok or ledger.task != task:
                    raise BadInputError(f"{folder} holds a ledger already (of task {ledger.task}); open that one.")
                return ledger
            if holds_data(ledger.folder) or not may_describe(ledger.folder, content):
                raise BadInputError(f"{folder} holds a data set already; choose another folder for the ledger.")
            write_text(ledger.folder / "dataset.json", description_text(content))
            start_journal(journal_path(ledger.folder), header)
        return ledger

    @classmethod
    def open(cls, folder: str | Path) -> Ledger:
        """Open a ledger, undoing an acceptance that a crash interrupted.

        Args:
            folder: the ledger's folder.

        Returns:
            The ledger.

        Raises:
            BadInputError: there is no ledger, or its journal is damaged (the message names file and line).
        """
        ledger = cls(Path(folder))
        if not journal_path(ledger.folder).is_file():
            raise BadInputError(f"There is no corrections ledger at {folder}; check the path or create one.")
        recover(ledger.folder)
        ledger._read()
        _ = ledger.dataset
        return ledger

    @property
    def dataset(self) -> RawDataset:
        """The ledger as a data set, in its present state."""
        return RawDataset.open(self.folder)

    @property
    def task(self) -> str:
        """The task's name."""
        return self._read().header.task

    @property
    def classes(self) -> tuple[str, ...]:
        """The foreground classes; the label is the position + 1."""
        return self.dataset.classes

    @property
    def files(self) -> LedgerFolder:
        """The paths of the cases' files."""
        return LedgerFolder(self.folder, self.dataset.description.file_ending)

    def entries(self) -> tuple[LedgerEntry, ...]:
        """List all acceptances.

        Returns:
            The entries, oldest first.
        """
        return self._read().entries

    def cases(self) -> dict[str, LedgerEntry]:
        """The latest acceptance of every case.

        Returns:
            The entry of each case, in the order of the first acceptances.
        """
        return {entry.case: entry for entry in self.entries()}

    def split(self) -> dict[str, Subset]:
        """The subset of every case, as decided when it was first accepted; nothing is drawn here.

        Returns:
            "training" or "validation" for each case.
        """
        return {entry.case: entry.subset for entry in self.entries()}

    def predictions(self) -> dict[str, Path]:
        """The newest prediction of every case that was corrected.

        Returns:
            The prediction's file by case; cases that were accepted without a prediction are absent.
        """
        files = self.files
        return {
            entry.case: files.prediction(entry.case, entry.sequence) for entry in self.entries() if entry.has_prediction
        }

    def find(self, image: Image) -> LedgerEntry | None:
        """Find an image by its voxels and geometry.

        Args:
            image: the image, as for :meth:`accept`.

        Returns:
            Its latest acceptance; None if it was never accepted.
        """
        return _latest(self.entries(), storable(image).sha256)

    def readings(self, case: str) -> dict[str, Reading]:
        """Find each reader's newest label map of a case. Adjudications are nobody's reading.

        Args:
            case: the case's name.

        Returns:
            By the reader's name ("" if none was given), in the order of the first acceptances.
        """
        entries = [entry for entry in self.entries() if entry.case == case]
        files, newest = self.files, max((entry.sequence for entry in entries), default=0)
        found: dict[str, Reading] = {}
        for entry in entries:
            if not entry.adjudicates:
                kept = files.labels(case) if entry.sequence == newest else files.history(case, entry.sequence)
                found[entry.who or ""] = Reading(entry, kept)
        return found

    def extend_classes(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Add classes; existing labels keep their numbers.

        Args:
            classes: the existing classes, in their order, followed by the new ones.

        Returns:
            All classes.

        Raises:
            UsageError: a class would be renumbered or renamed.
        """
        with writing(self.folder):
            names = self._classes_with(classes, self.dataset)
            update_description(self.dataset, names, self.entries())
            return names

    def snapshot(self, target: Path) -> Ledger:
        """Copy the ledger in its present state; later acceptances do not change the copy.

        Files are linked if the disk supports it (a ledger replaces files but never writes into them), else copied.

        Args:
            target: the folder of the copy; an existing one is kept.

        Returns:
            The snapshot.
        """
        if Ledger.is_at(target):
            return Ledger.open(target)
        with writing(self.folder):
            temporary = target.with_name(f".{target.name}.tmp")
            shutil.rmtree(temporary, ignore_errors=True)
            copy_contents(self.folder, temporary)
            temporary.rename(target)
        return Ledger.open(target)

    def as_taken(self, image: Image, labels: Image, classes: Sequence[str] | None = None) -> Image:
        """Labels as :meth:`accept` would store them: on the image's grid, with the ledger's label numbers.

        Args:
            image: (C, D, H, W).
            labels: (1, D, H, W).
            classes: as for :meth:`extend_classes`.

        Returns:
            The labels. Their findings say what was changed and assumed.

        Raises:
            BadInputError: as for :meth:`accept`.
        """
        dataset = self.dataset
        return labels_on(storable(image), labels, self._classes_with(classes, dataset), dataset.ignored)

    def accept(
        self,
        image: Image,
        labels: Image,
        *,
        patient: str | None = None,
        predicted: Image | None = None,
        model: ModelReference | None = None,
        seconds: float | None = None,
        who: str | None = None,
        classes: Sequence[str] | None = None,
        adjudication: Adjudication | None = None,
    ) -> LedgerEntry:
        """Store an image with its corrected labels. They are on disk when the call returns.

        If the same image is accepted again it gets the new labels, and the earlier ones move to ``history``.

        Args:
            image: (C, D, H, W).
            labels: (1, D, H, W), on the image's grid in any axis order.
            patient: a key that keeps images of one patient in one subset; see
                :mod:`meduniseg_core.corrections.patient_split` for keys that are given late or changed.
            predicted: the label map that was corrected.
            model: the model that made it.
            seconds: editing time in seconds.
            who: the annotator.
            classes: as for :meth:`extend_classes`.
            adjudication: the readings that the labels were decided from.

        Returns:
            The new entry.

        Raises:
            UsageError: the patient key or a class name cannot be used, or a reading is not the newest of its reader, or
                of another image.
            BadInputError: the labels are on another grid or exceed the classes, the image has another form than the
                ledger's, or the patient would be in both subsets; nothing is changed.
        """
        key = patient_key(patient)
        image = storable(image)
        digest = image.sha256
        with writing(self.folder):
            journal, dataset = self._read(), self.dataset
            names = self._classes_with(classes, dataset)
            corrected = labels_on(image, labels, names, dataset.ignored)
            before = labels_on(image, predicted, names) if predicted is not None else None
            check_form(image, dataset, journal.entries[0].shape if journal.entries else None)
            if adjudication is not None:
                digest = _adjudicated(adjudication, journal.entries, image)
            former = _latest(journal.entries, digest)
            taken = {entry.case.casefold() for entry in journal.entries}
            case = former.case if former is not None else case_name(image, digest, taken)
            placement = assign_subset(case, key, journal.entries, journal.header.validation_fraction)
            entry = LedgerEntry(
                sequence=len(journal.entries) + 1,
                case=case,
                patient=placement.patient,
                subset=placement.subset,
                image_sha256=digest,
                labels_sha256=corrected.sha256,
                shape=image.geometry.shape,
                source=image.source.name if image.source is not None else None,
                model=model,
                classes=class_changes(corrected, before, names, dataset.ignored),
                seconds=seconds,
                who=who,
                adjudicates=() if adjudication is None else adjudication.readings,
                consensus=None if adjudication is None else adjudication.consensus,
                when=datetime.now(UTC),
            )
            # upright in the ledger, photographs that were stored turned, too: other programs need not know of EXIF
            write_acceptance(journal, dataset, entry, former, plain(image), corrected, before)
        return entry

    # -- inside -------------------------------------------------------------------------------------------------

    def _classes_with(self, wanted: Sequence[str] | None, dataset: RawDataset) -> tuple[str, ...]:
        """The ledger's classes and the new ones in ``wanted``; UsageError if a new one would take the number of
        "ignore"."""
        names = longer_classes(dataset.classes, wanted)
        if dataset.ignored is not None and len(names) > len(dataset.classes):
            raise UsageError(
                f"{self.folder} has the label 'ignore' with the number {dataset.ignored}, which a new class would "
                "take; begin another ledger for more classes."
            )
        return names

    def _read(self) -> Journal:
        return read_journal(journal_path(self.folder))


def _latest(entries: Sequence[LedgerEntry], digest: str) -> LedgerEntry | None:
    return next((entry for entry in reversed(entries) if entry.image_sha256 == digest), None)


def _adjudicated(adjudication: Adjudication, entries: Sequence[LedgerEntry], image: Image) -> str:
    """The hash of the image whose readings are decided between: a photograph that was stored turned has another hash
    when it is read from the ledger. UsageError for no readings, those of another image, or outdated ones."""
    chosen = [entry for entry in entries if entry.sequence in adjudication.readings and not entry.adjudicates]
    digests = {entry.image_sha256 for entry in chosen if entry.shape == image.geometry.shape}
    if len(chosen) != len(set(adjudication.readings)) or len(digests) != 1:
        raise UsageError("Only readings of one image can be adjudicated; open those that the ledger holds of it.")
    decided = {(entry.case, entry.who): entry.sequence for entry in chosen}
    for entry in entries:
        if not entry.adjudicates and entry.sequence > decided.get((entry.case, entry.who), entry.sequence):
            raise UsageError(
                f"{entry.who or 'A reader'} has accepted {entry.case} again meanwhile; open its readings once more."
            )
    return digests.pop()
