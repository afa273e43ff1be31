"""The cases of ``segment`` on the workers of a scheduler: what a worker is told, what it does, what it answers."""

from __future__ import annotations

import platform
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from meduniseg_core.errors import MedUniSegError, UnwritableError, UsageError
from meduniseg_core.events import CancelToken, EventSink, Message, Progress
from meduniseg_core.paths import expanded
from training_cli.case_run import End, Runner
from training_cli.case_work import CaseOptions, CaseWork, FinishedCase, Team
from training_cli.explaining import explain_error
from training_cli.teams import TeamOrder, make_team

if TYPE_CHECKING:
    from meduniseg_core.images import Case
    from meduniseg_core.preprocessing import TaskPlan
    from training_cli.targets import Targets


@dataclass(frozen=True)
class RemoteTeam:
    """A model for a worker, which must be what the command found: sha256 of the model (or models), and of each task's
    pack."""

    order: TeamOrder
    sha256: tuple[str, ...]
    packs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CaseOrder:
    """A case for a worker, and all that it needs to know. Paths are absolute: workers see the same disk."""

    case: Case
    teams: tuple[RemoteTeam, ...]
    plans: dict[str, TaskPlan]
    model: str
    targets: Targets
    options: CaseOptions


@dataclass(frozen=True)
class RemoteFailure:
    """Why a case failed on a worker, in words: errors lose their way through a network. ``unwritable`` is the disk's
    refusal."""

    sentence: str
    code: int
    unwritable: str | None = None


class RemoteCaseError(MedUniSegError):
    """A case failed on a worker."""

    def __init__(self, failure: RemoteFailure) -> None:
        super().__init__(failure.sentence)
        self.exit_code = failure.code  # type: ignore[misc]  # of this failure, not of all


def remote_runner(address: str, work: CaseWork, orders: Sequence[TeamOrder], events: EventSink) -> Runner:
    """Runs cases on a scheduler's workers, as ``CaseRun.elsewhere``."""
    teams = tuple(
        RemoteTeam(
            replace(
                order,
                model=_seen_elsewhere(order.model),
                pack=tuple(map(_seen_elsewhere, order.pack)),
                ensemble=tuple(map(_seen_elsewhere, order.ensemble)),
            ),
            tuple(model.sha256 for model in team.predictor.models),
            tuple((task, pack.sha256) for task, pack in sorted(team.predictor.packs.items())),
        )
        for order, team in zip(orders, work.teams, strict=True)
    )
    targets = replace(work.targets, output=work.targets.output.absolute())

    def run(cases: Sequence[Case], end: End) -> None:
        from meduniseg_core.archive.scheduler import RemoteWork, run_on_scheduler

        absolute = [replace(case, paths=tuple(path.absolute() for path in case.paths)) for case in cases]
        told = [CaseOrder(case, teams, dict(work.plans), work.model, targets, work.options) for case in absolute]
        done = 0

        def ended(number: int, answer: object | None, error: Exception | None) -> None:
            nonlocal done
            done += 1
            if isinstance(answer, RemoteFailure):
                refused = answer.unwritable
                error = UnwritableError(targets.output, refused) if refused is not None else RemoteCaseError(answer)
            end(cases[number], answer, error)
            events(Progress("cases", done, len(cases), 0.0, cases[number].name))

        run_on_scheduler(address, RemoteWork(segment_remotely, told, ended), events, work.cancel)

    return run


def segment_remotely(order: CaseOrder) -> FinishedCase | RemoteFailure:
    """On a worker: read, segment and write one case. Cases of other threads wait for the network, not for the disk."""
    try:
        teams = [_team(team) for team in order.teams]
        names = order.targets.survey([order.case])
        work = CaseWork(teams, order.plans, order.model, order.targets, order.options, names, CancelToken())
        said: list[Message] = []
        ready = work.read(order.case)
        with _NETWORK:
            segmented = work.work(ready, lambda event: said.append(event) if isinstance(event, Message) else None)
        finished = work.write(segmented)
        return replace(finished, said=[*said], host=platform.node())
    except UnwritableError as error:
        return RemoteFailure(*explain_error(error), unwritable=error.reason)
    except Exception as error:  # whatever a reader or the network meets costs this one case
        return RemoteFailure(*explain_error(error))


_NETWORK = threading.Lock()
_LOADING = threading.Lock()
_teams: dict[RemoteTeam, Team] = {}  # of this worker's process; a second command may bring others


def _team(wanted: RemoteTeam) -> Team:
    with _LOADING:
        if wanted not in _teams:
            team = make_team(wanted.order)
            packs = tuple((task, pack.sha256) for task, pack in sorted(team.predictor.packs.items()))
            if tuple(model.sha256 for model in team.predictor.models) != wanted.sha256 or packs != wanted.packs:
                raise UsageError(
                    f"The worker on {platform.node()} has another model or other packs than this machine under "
                    f"the name {wanted.order.model}; install the same there, or give a file that all machines see."
                )
            _teams.clear()
            _teams[wanted] = team
        return _teams[wanted]


def _seen_elsewhere(name: str) -> str:
    """A model's or pack's name as it is, its file as an absolute path."""
    path = expanded(name)
    return str(path.absolute()) if path.suffix == ".safetensors" or Path(name).name != name else name
