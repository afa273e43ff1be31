"""Writing into a ledger: one process at a time, and each acceptance whole or not at all.

A note says what an acceptance is about to write; its line in the journal is written last. Whoever takes the lock next
keeps an acceptance that has its line, and undoes one that has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from meduniseg_core.corrections.journal import Journal, append_entry, journal_path, read_journal
from meduniseg_core.corrections.layout import LedgerFolder, Pending, end_pending, read_pending, update_description
from meduniseg_core.corrections.records import LedgerEntry
from meduniseg_core.errors import BadInputError
from meduniseg_core.images import Image, write_image, write_labels
from meduniseg_core.preprocessing import RawDataset

_LOCK_SECONDS = 120.0


class BusyError(BadInputError):
    """Another process holds the lock."""


@contextmanager
def writing(folder: Path, seconds: float = _LOCK_SECONDS) -> Iterator[None]:
    """Hold a ledger's lock; writes that were interrupted, here or in a dead process, are undone.

    Args:
        folder: the ledger's folder; created if missing.
        seconds: how long to wait for another process.

    Yields:
        Nothing.

    Raises:
        BusyError: another process holds the lock.
        BadInputError: the ledger cannot be written, or is damaged.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=seconds):
            _settle(folder)
            try:
                yield
            finally:
                _settle(folder)
    except Timeout as error:
        raise BusyError(f"{folder}: another process has been writing the ledger; try again.") from error
    except OSError as error:
        raise BadInputError(
            f"{folder}: the ledger cannot be written ({error.strerror}); free space or check permissions."
        ) from error


def recover(folder: Path) -> None:
    """Undo what a crash interrupted. Does nothing while another process is writing.

    Args:
        folder: the ledger's folder.

    Raises:
        BadInputError: the ledger cannot be written, or is damaged.
    """
    if read_pending(folder) is not None:
        try:
            with writing(folder, seconds=0):
                pass
        except BusyError:
            pass  # no crash: another process is accepting something right now


def write_acceptance(
    journal: Journal,
    dataset: RawDataset,
    entry: LedgerEntry,
    former: LedgerEntry | None,
    image: Image,
    labels: Image,
    predicted: Image | None,
) -> None:
    """Write the note, dataset.json, files, the journal's line: in this order a crash at any moment can be undone.

    Only within :func:`writing`.

    Args:
        journal: the ledger's journal.
        dataset: the ledger as a data set.
        entry: the new entry.
        former: the case's latest entry, whose labels move to ``history``; None for a new case.
        image: (C, D, H, W).
        labels: (1, D, H, W), on the image's grid.
        predicted: the label map that was corrected, on that grid.
    """
    files = LedgerFolder(dataset.folder, dataset.description.file_ending)
    images = files.images(entry.case, dataset.channels)
    prediction = files.prediction(entry.case, entry.sequence)
    new = [*images, files.labels(entry.case)] if former is None else []
    created = [*new, prediction] if predicted is not None else new
    files.begin(
        Pending(
            sequence=entry.sequence,
            case=entry.case,
            created=tuple(f"{path.parent.name}/{path.name}" for path in created),
            archived=former.sequence if former is not None else None,
        )
    )
    update_description(dataset, [change.name for change in entry.classes], (*journal.entries, entry))
    if former is not None:
        files.archive(entry.case, former.sequence)
    if former is None or not all(path.is_file() for path in images):
        for index, path in enumerate(images):
            part = image if len(images) == 1 else image.with_array(image.array[index : index + 1])
            write_image(part, path, like=image)
    write_labels(labels, files.labels(entry.case), like=image)
    if predicted is not None:
        write_labels(predicted, prediction, like=image)
    append_entry(journal_path(dataset.folder), journal, entry)


def _settle(folder: Path) -> None:
    """Keep an acceptance that has its line in the journal, undo one that has none. Only under the lock."""
    pending = read_pending(folder)
    if pending is None:
        return
    journal, dataset = read_journal(journal_path(folder)), RawDataset.open(folder)
    if len(journal.entries) < pending.sequence:
        LedgerFolder(folder, dataset.description.file_ending).undo(pending)
        update_description(dataset, dataset.classes, journal.entries)
    end_pending(folder)
