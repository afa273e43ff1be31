"""Proves from its manifest that a run is complete, or says what it lacks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meduniseg_core.archive.manifest import COMPARED, ManifestFile, read_manifest
from meduniseg_core.archive.manifest_records import CaseLine
from meduniseg_core.archive.shards import Shard, shard_manifests
from meduniseg_core.errors import BadInputError, MedUniSegError
from meduniseg_core.events import CancelToken, EventSink, Progress, ignore
from meduniseg_core.files import digest_of

_NAMED = 10  # cases, in a sentence


@dataclass(frozen=True)
class ManifestReport:
    """What was found, by name: ``altered`` and ``gone`` list files, all else cases.

    ``inputs`` are those whose image is not the one that was segmented (None: not looked at), ``failed`` has their
    sentences, ``shards`` lists shards without a manifest.
    """

    manifests: tuple[Path, ...]
    output: Path
    cases: int
    done: int
    results: int
    missing: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    doubled: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    shards: tuple[str, ...] = ()
    inputs: tuple[str, ...] | None = None

    @property
    def complete(self) -> bool:
        """Whether every case is there once, with results as they were written."""
        faults = (self.missing, self.failed, self.doubled, self.altered, self.gone, self.shards, self.inputs or ())
        return not any(faults)

    def sentences(self) -> list[str]:
        """Say what was found.

        Returns:
            One sentence if the run is complete, else one for each kind of fault.
        """
        if self.complete:
            looked = "" if self.inputs is None else "; so are the images"
            return [f"complete: {self.cases} cases, {self.results} results, all as they were written{looked}."]
        found: list[tuple[str, Sequence[str]]] = [
            ("shards without a manifest", self.shards),
            ("cases missing", self.missing),
            ("cases failed", list(self.failed)),
            ("cases done more than once", self.doubled),
            ("files gone", self.gone),
            ("files altered since they were written", self.altered),
            ("images that are not those which were segmented", self.inputs or ()),
        ]
        lines = [f"incomplete: {self.done} of {self.cases} cases are done."]
        return lines + [f"{what}: {len(names)} ({_listed(names)})." for what, names in found if names]

    def as_json(self) -> dict[str, Any]:
        """The report in JSON's types.

        Returns:
            The fields, and "complete".
        """
        return {
            "complete": self.complete,
            "manifests": [str(path) for path in self.manifests],
            "output": str(self.output),
            "cases": self.cases,
            "done": self.done,
            "results": self.results,
            "missing": list(self.missing),
            "failed": dict(self.failed),
            "doubled": list(self.doubled),
            "altered": list(self.altered),
            "gone": list(self.gone),
            "shards": list(self.shards),
            "inputs": None if self.inputs is None else list(self.inputs),
        }


def verify_manifest(
    path: Path,
    *,
    output: Path | None = None,
    inputs: bool = False,
    events: EventSink = ignore,
    cancel: CancelToken | None = None,
) -> ManifestReport:
    """Check a run against its manifest: every case once, every file there with the hash it was written with.

    Args:
        path: the manifest; those of its shards lie beside it (see `shards`).
        output: the folder of the results, if it was moved.
        inputs: also read every image again, and compare it with that which was segmented.
        events: receives progress (stage "verify").
        cancel: stops between two cases.

    Returns:
        What was found.

    Raises:
        BadInputError: there is no manifest, one is damaged, or the shards are of different runs.
        CancelledError: ``cancel`` was set.
    """
    content, missing_shards = _manifests(path)
    header = content[0].header
    folder = output if output is not None else content[0].output
    done: dict[str, list[CaseLine]] = {}
    failed: dict[str, str] = {}
    doubled: list[str] = []
    for manifest in content:
        for case, records in _by_case(manifest).items():
            standing, twice = _standing(records)
            if twice or (standing is not None and case in done):
                doubled.append(case)
            if standing is not None:
                done.setdefault(case, []).append(standing)
            elif records[-1].status == "failed":
                failed[case] = records[-1].error or ""
    altered: list[str] = []
    gone: list[str] = []
    other: list[str] = []
    results, began = 0, time.perf_counter()
    for number, (case, records) in enumerate(done.items()):
        if cancel is not None:
            cancel.raise_if_cancelled()
        events(Progress("verify", number, len(done), time.perf_counter() - began, case))
        for task in records[-1].tasks:
            results += 1
            for name, digest in task.files.items():
                found = _digest(folder / name)
                if found is None:
                    gone.append(name)
                elif found != digest:
                    altered.append(name)
        if inputs and not _same_image(records[-1], header.settings):
            other.append(case)
    events(Progress("verify", len(done), len(done), time.perf_counter() - began))
    return ManifestReport(
        manifests=tuple(manifest.path for manifest in content),
        output=folder,
        cases=len(header.cases),
        done=len(done),
        results=results,
        missing=tuple(case for case in header.cases if case not in done and case not in failed),
        failed={case: sentence for case, sentence in failed.items() if case not in done},
        doubled=tuple(dict.fromkeys(doubled)),
        altered=tuple(dict.fromkeys(altered)),  # tasks may share a file
        gone=tuple(dict.fromkeys(gone)),
        shards=missing_shards,
        inputs=tuple(other) if inputs else None,
    )


def _manifests(path: Path) -> tuple[list[ManifestFile], tuple[str, ...]]:
    """The run's manifests, and the shards that have none."""
    if path.is_file():
        return [read_manifest(path)], ()
    found = shard_manifests(path)
    if not found:
        raise BadInputError(f"{path} is not there, nor are manifests of its shards beside it; check the path.")
    counts = sorted({shard.count for shard in found})
    if len(counts) > 1:
        listed = ", ".join(map(str, counts))
        raise BadInputError(f"Beside {path} lie manifests of runs in {listed} shards; keep those of one run.")
    content = [read_manifest(there) for there in found.values()]
    first = content[0].header
    for manifest in content[1:]:
        for name in (name for name in COMPARED if name != "shard"):
            if getattr(manifest.header, name) != getattr(first, name):
                raise BadInputError(
                    f"{manifest.path} and {content[0].path} are of different runs ({name}); keep those of one run."
                )
    return content, tuple(
        str(shard) for number in range(1, counts[0] + 1) if (shard := Shard(number, counts[0])) not in found
    )


def _by_case(manifest: ManifestFile) -> dict[str, list[CaseLine]]:
    found: dict[str, list[CaseLine]] = {}
    for record in manifest.records:
        found.setdefault(record.case, []).append(record)
    return found


def _standing(records: Sequence[CaseLine]) -> tuple[CaseLine | None, bool]:
    """The line by which a case is done, and whether it was done twice without being lost in between."""
    standing: CaseLine | None = None
    twice = False
    for record in records:
        if record.status == "done":
            twice = twice or standing is not None
            standing = record
        elif record.status == "lost":
            standing = None
    return standing, twice


def _digest(path: Path) -> str | None:
    try:
        return digest_of(path)
    except (BadInputError, OSError):
        return None


def _same_image(record: CaseLine, settings: dict[str, Any]) -> bool:
    from meduniseg_core.images import read_image

    if record.input is None or record.input.sha256 is None:
        return False
    files = tuple(Path(name) for name in record.input.files)
    try:
        image = read_image(
            files[0] if len(files) == 1 else files, series=settings.get("series"), frame=settings.get("frame")
        )
    except (MedUniSegError, OSError):
        return False
    return image.sha256 == record.input.sha256


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
