"""One case from the download's files to the data set's, in this process or in others."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from meduniseg_core.conversion.record import OutputFile, output_file
from meduniseg_core.conversion.source import Loaded
from meduniseg_core.conversion.table import Subset
from meduniseg_core.errors import MedUniSegError, UnwritableError
from meduniseg_core.files import atomic_path
from meduniseg_core.images import write_image, write_labels
from meduniseg_core.images.findings import merge
from meduniseg_core.processes import end_with_parent

FOLDERS: Mapping[Subset, tuple[str, str]] = {"train": ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}
"""The folders of images and of label maps."""


@dataclass(frozen=True)
class ConversionJob:
    """A case to convert: how to read it, and where it goes."""

    case: str
    subset: Subset
    folder: Path
    ending: str
    load: Callable[[], Loaded]


@dataclass(frozen=True)
class ConversionOutcome:
    """A converted case's files (relative to the data set) and findings, or why it could not be converted.

    ``refused`` is the system's reason where the disk or the folder refused a file: then nothing else can be written.
    """

    case: str
    outputs: dict[str, OutputFile] = field(default_factory=dict)
    findings: dict[str, str] = field(default_factory=dict)
    fault: str | None = None
    refused: str | None = None


def convert_cases(jobs: Sequence[ConversionJob], processes: int) -> Generator[ConversionOutcome, None, None]:
    """Convert cases.

    Args:
        jobs: The cases.
        processes: How many to work on at once, each in a process of its own; with 1 they are converted here.

    Yields:
        What became of each, in the order in which they are finished. No case is begun after the caller has stopped
        asking.
    """
    if processes == 1 or len(jobs) < 2:
        yield from map(_convert, jobs)
        return
    waiting = list(reversed(jobs))
    running: set[Future[ConversionOutcome]] = set()
    # spawn: a forked child of a process with threads can hang
    pool = ProcessPoolExecutor(min(processes, len(jobs)), mp_context=get_context("spawn"), initializer=end_with_parent)
    try:
        while waiting or running:
            while waiting and len(running) < 2 * processes:
                running.add(pool.submit(_convert, waiting.pop()))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _convert(job: ConversionJob) -> ConversionOutcome:
    try:
        loaded = job.load()
        return ConversionOutcome(job.case, _write(job, loaded), _said(loaded))
    except UnwritableError as error:  # as values: errors with a signature of their own do not survive the way back
        return ConversionOutcome(job.case, refused=error.reason)
    except MedUniSegError as error:
        return ConversionOutcome(job.case, fault=str(error))


def _write(job: ConversionJob, loaded: Loaded) -> dict[str, OutputFile]:
    images, labels = (job.folder / part for part in FOLDERS[job.subset])
    images.mkdir(exist_ok=True)
    labels.mkdir(exist_ok=True)
    written = []
    for channel, (image, same) in enumerate(zip(loaded.images, loaded.unchanged, strict=True)):
        written.append(images / f"{job.case}_{channel:04d}{job.ending}")
        if same is None:
            write_image(image, written[-1])
        else:
            with atomic_path(written[-1]) as temporary:
                shutil.copyfile(same, temporary)
    written.append(labels / f"{job.case}{job.ending}")
    write_labels(loaded.labels, written[-1])
    return {path.relative_to(job.folder).as_posix(): output_file(path) for path in written}


def _said(loaded: Loaded) -> dict[str, str]:
    """What the readers found out that the user must know, by code."""
    found = merge(*(image.findings for image in (*loaded.images, loaded.labels)))
    return {finding.code: finding.text for finding in found if finding.level == "warning"}
