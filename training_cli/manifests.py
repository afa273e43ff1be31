"""The manifest of ``segment``: what a run is, and which of its cases are left to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from meduniseg_core.events import EventSink, Message
from training_cli.case_work import CaseWork

if TYPE_CHECKING:
    from meduniseg_core.archive import Manifest, ManifestHeader, Shard
    from meduniseg_core.images import Case, Finding


def header_of(
    work: CaseWork,
    cases: Sequence[Case],
    shard: Shard,
    path: Path,
    said: Mapping[str, str | None],
    left_out: Sequence[Finding] = (),
) -> ManifestHeader:
    """The header of a run over ``cases`` (of all shards); ``path`` is its manifest, ``said`` are options of the command
    that the work does not know."""
    from meduniseg_core.archive import ManifestHeader, UsedModel, relative_output
    from meduniseg_core.version import __version__

    options = work.options
    models = [
        (model.info.name, model.sha256, tuple(team.tasks)) for team in work.teams for model in team.predictor.models
    ]
    packs = {
        (pack.info.name, pack.sha256): [task for task, used in team.predictor.packs.items() if used is pack]
        for team in work.teams
        for pack in team.predictor.packs.values()
    }
    return ManifestHeader(
        program=__version__,
        output=relative_output(work.targets.output, path),
        tasks=tuple(work.targets.tasks),
        models=tuple(UsedModel(name=name, sha256=sha256, tasks=tasks) for name, sha256, tasks in models),
        packs=tuple(UsedModel(name=name, sha256=sha256, tasks=tuple(own)) for (name, sha256), own in packs.items()),
        settings={
            **options.settings,
            **said,
            "layout": "plain" if work.targets.bids is None else "bids",
            "tables": list(work.targets.tables),
            "series": options.series,
            "frame": options.frame,
            "skip_unfit": options.skip_unfit,
        },
        shard=(shard.number, shard.count),
        cases=tuple(sorted(case.name for case in cases)),
        left_out=tuple(finding.text for finding in left_out),
        created=datetime.now(UTC),
    )


def left_to_do(manifest: Manifest, cases: Sequence[Case], events: EventSink, *, redo_edited: bool) -> list[Case]:
    """The cases that have no line yet, or failed, or of which a result is gone or (``redo_edited``) was edited."""
    left, lost = [], []
    for case in cases:
        standing = manifest.standing(case.name, case.paths, redo_edited=redo_edited)
        if standing == "lost":
            manifest.append(case.name, "lost")
            lost.append(case.name)
        if standing != "done":
            left.append(case)
    done = len(cases) - len(left)
    if done:
        events(Message("info", f"{done} of {len(cases)} cases are done already; this run goes on with the others."))
    if lost:
        listed = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
        text = (
            f"{len(lost)} cases are done again, because their results are gone or changed, or their images: {listed}."
        )
        events(Message("warning", text))
    return left
