"""Series from an archive into a folder, and objects to an archive: whole, or not at all."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from meduniseg_core.errors import BadInputError
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.files import atomic_path, open_regular, sync_folder, writing_into
from meduniseg_core.pacs.archive import DicomArchive, RemoteSeries, check_uid

_AS_STORED = (("application/dicom", "*"),)
_UNFINISHED = ".meduniseg-pull-"
_REFERS = ("SR", "PR", "KO")  # what refers to other objects is sent after them


def pull(
    archive: DicomArchive,
    series: RemoteSeries,
    folder: Path,
    *,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> Path:
    """Fetch a series into a folder of its own, as the archive stores it. The folder appears when the series is whole.

    Args:
        archive: the archive.
        series: the series.
        folder: where its folder goes; it is made.
        events: receives progress (stage "pull") in instances.
        cancel: stops between two instances.

    Returns:
        The series' folder, named by modality, number and the end of the UID.

    Raises:
        BadInputError: the archive fails or goes away, sends something else, or less than it says it has; or the folder
            is there already.
        UnwritableError: the folder cannot be written to.
        CancelledError: ``cancel`` was set.
    """
    target = folder / _folder_name(series)
    if target.exists():
        raise BadInputError(f"{target} exists already; remove it or choose another folder.")
    with writing_into(folder):
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
    try:
        expected = _instances(archive, series)
        _receive(archive, series, unfinished, expected, events, cancel)
        there = {path.stem for path in unfinished.iterdir()}
        missing = expected - there
        if missing or not there:
            raise BadInputError(
                f"{archive.address} sent {len(there)} of the {len(expected)} instances of {series.uid}; try again."
            )
        with writing_into(folder):
            unfinished.chmod(0o755)
            unfinished.rename(target)
            sync_folder(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return target


def _instances(archive: DicomArchive, series: RemoteSeries) -> set[str]:
    with archive.speaking():
        found = archive.client.search_for_instances(check_uid(series.study_uid), check_uid(series.uid))
        return {check_uid(str(pydicom.Dataset.from_json(item).SOPInstanceUID)) for item in found}


def _receive(
    archive: DicomArchive,
    series: RemoteSeries,
    folder: Path,
    expected: set[str],
    events: EventSink,
    cancel: CancelToken | None,
) -> None:
    began, number = time.perf_counter(), 0
    with archive.speaking():
        for instance in archive.client.iter_series(series.study_uid, series.uid, media_types=_AS_STORED):
            if cancel is not None:
                cancel.raise_if_cancelled()
            if str(instance.get("SeriesInstanceUID") or "") != series.uid:
                raise BadInputError(f"{archive.address} sent an instance of another series than {series.uid}.")
            path = folder / f"{check_uid(str(instance.get('SOPInstanceUID') or ''))}.dcm"
            with atomic_path(path) as temporary:
                instance.save_as(temporary, enforce_file_format=True)
            number += 1
            events(Progress("pull", number, max(number, len(expected)), time.perf_counter() - began))


def _folder_name(series: RemoteSeries) -> str:
    words = [series.modality, series.number, series.uid[-12:].strip(".")]
    return "_".join("".join(letter for letter in word if letter.isalnum() or letter in ".-") for word in words if word)


def push(
    archive: DicomArchive, paths: Sequence[Path], *, events: EventSink = ignore, cancel: CancelToken | None = None
) -> list[str]:
    """Send DICOM objects (results) to an archive. All are read and checked before the first is sent.

    Each object is one request, so the archive has it whole or not at all; what refers to others (reports) is sent after
    them. Sending an object again is harmless: it keeps its UID.

    Args:
        archive: the archive.
        paths: the files.
        events: receives progress (stage "push") in objects.
        cancel: stops between two objects.

    Returns:
        The objects' SOP instance UIDs, in the order in which they were sent.

    Raises:
        BadInputError: a file is no DICOM object, or the archive fails, goes away, or refuses an object; the sentence
            says how many it has.
        CancelledError: ``cancel`` was set.
    """
    objects = [(path, _object(path)) for path in paths]
    objects.sort(key=lambda pair: str(pair[1].get("Modality")) in _REFERS)  # stable: else as they were given
    sent: list[str] = []
    began = time.perf_counter()
    for path, instance in objects:
        if cancel is not None:
            cancel.raise_if_cancelled()
        try:
            with archive.speaking():
                answer = archive.client.store_instances([instance], check_uid(str(instance.StudyInstanceUID)))
            _check_stored(archive, instance, answer, path)
        except BadInputError as error:
            stored = f"{len(sent)} of {len(objects)} objects were stored" if sent else "nothing was stored"
            text = str(error).rstrip(".")
            raise BadInputError(f"{path.name} was not stored: {text}; {stored}.") from error
        sent.append(str(instance.SOPInstanceUID))
        events(Progress("push", len(sent), len(objects), time.perf_counter() - began, path.name))
    return sent


def _object(path: Path) -> Dataset:
    try:
        with open_regular(path) as stream:
            instance = pydicom.dcmread(stream)
            instance.walk(lambda _dataset, _element: None)  # reads what is read late
    except (InvalidDicomError, ValueError, EOFError, KeyError, AttributeError, NotImplementedError) as error:
        raise BadInputError(f"{path} is not a complete DICOM object; give the .dcm files of results.") from error
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        try:
            check_uid(str(instance.get(keyword) or ""))
        except BadInputError as error:
            raise BadInputError(
                f"{path} has no valid {keyword}, by which archives file objects; correct it."
            ) from error
    return instance


def _check_stored(archive: DicomArchive, instance: Dataset, answer: Dataset, path: Path) -> None:
    """Whether the archive says that it has the object, or (where its answer does not tell) finds it."""
    uid = str(instance.SOPInstanceUID)
    if any(str(item.get("ReferencedSOPInstanceUID")) == uid for item in answer.get("FailedSOPSequence", ())):
        raise BadInputError(f"{archive.address} does not accept it.")
    if any(str(item.get("ReferencedSOPInstanceUID")) == uid for item in answer.get("ReferencedSOPSequence", ())):
        return
    with archive.speaking():
        found = archive.client.search_for_instances(
            str(instance.StudyInstanceUID), str(instance.SeriesInstanceUID), search_filters={"SOPInstanceUID": uid}
        )
    if not found:
        raise BadInputError(f"{archive.address} did not confirm it and does not find it.")
