"""All cases of ``segment``: overlapped or side by side, with or without a manifest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meduniseg_core.errors import CancelledError, UnwritableError
from meduniseg_core.events import Event, Message, Progress
from training_cli.case_failures import CaseFailures
from training_cli.case_work import CaseWork, FinishedCase, ReadyCase, SegmentedCase
from training_cli.explaining import explain_error
from training_cli.results import Result, results_table, verdicts
from training_cli.session import Session
from training_cli.side_progress import SideBySideEvents

if TYPE_CHECKING:
    from meduniseg_core.archive import Manifest
    from meduniseg_core.images import Case, Finding

End = Callable[["Case", object, Exception | None], None]
Runner = Callable[[Sequence["Case"], End], None]
"""Runs cases and calls ``end`` for each, with a `FinishedCase` or an exception."""


class _StopError(Exception):
    """Nothing more can be written: the cases that are left are not begun."""


@dataclass
class CaseRun:
    """Segments cases; one that fails is reported and the others go on.

    ``elsewhere`` runs the cases on other machines. ``retries`` is how often failed cases are tried again at the end,
    one by one. ``at_once`` is how many are segmented at once on a CPU at most; None chooses it by the cores.
    ``left_out`` says which images of the folders given are no cases.
    """

    session: Session
    work: CaseWork
    manifest: Manifest | None = None
    elsewhere: Runner | None = None
    retries: int = 0
    at_once: int | None = None
    left_out: Sequence[Finding] = ()
    results: list[Result] = field(default_factory=list)
    kept: list[tuple[str, str, Finding]] = field(default_factory=list)
    failed: CaseFailures = field(init=False)
    done: int = 0
    not_begun: int = 0
    began: float = field(default_factory=time.perf_counter)
    _begun: int = 0
    _most: int = 1
    _alone: Exception | None = None

    def __post_init__(self) -> None:
        self.failed = CaseFailures(self.session)

    def all(self, cases: Sequence[Case]) -> None:
        """Segment every case, after reporting those that cannot be. The error of a single case is :meth:`finish`'s."""
        only = len(cases) == 1 and self.elsewhere is None
        faulty = [case for case in cases if case.fault is not None]
        sound = [case for case in cases if case.fault is None]
        try:
            for case in faulty:
                self._end(case, None, case.fault, raised=only)
                self._begun += 1
            self._some(sound, len(cases), only=only)
            for _ in range(self.retries):
                again = [case for case in sound if case.name in self.failed and self.failed.may_succeed(case.name)]
                for case in again:
                    self.failed.forget(case.name)
                self._alone = None if again else self._alone
                self._some(again, len(cases), only=only, in_turn=True)
        except _StopError:
            self.not_begun = len(cases) - self.done - len(self.failed)
        except CancelledError as error:
            whole = f"{self.done} of {len(cases)} cases are done, and their results whole"
            raise CancelledError(f"Interrupted; {whole if self.done else 'nothing was written'}.") from error
        # they ended in the order in which they were done
        places = {case.name: place for place, case in enumerate(cases)}
        self.results.sort(key=lambda result: places[result.case])
        self.kept.sort(key=lambda kept: places[kept[0]])

    def _some(self, cases: Sequence[Case], total: int, *, only: bool, in_turn: bool = False) -> None:
        from meduniseg_core.archive import Stages, overlapped

        def begin(case: Case) -> None:
            if total > 1:
                elapsed = time.perf_counter() - self.began
                self.session.events(Progress("cases", min(self._begun, total - 1), total, elapsed, case.name))
            self._begun += 1

        def end(case: Case, finished: object, error: Exception | None) -> None:
            self._end(case, finished, error, raised=only)

        if self.elsewhere is not None:
            if cases:
                self.elsewhere(cases, end)
            return
        count = 1 if in_turn else self._at_once(len(cases))
        if count > 1:
            self._side_by_side(cases, total, count)
            return
        work = self.work

        def segment(ready: ReadyCase, end_written: Callable[[], None]) -> SegmentedCase:
            def hear(event: Event) -> None:
                end_written()  # at every window: the case before is told as soon as it is written
                self.session.events(event)

            return work.work(ready, hear)

        stages = Stages(
            read=work.read,
            work=segment,
            write=work.write,
            begin=begin,
            end=end,
            room=(lambda: False) if in_turn else work.has_room,
        )
        overlapped(cases, stages)

    def _at_once(self, cases: int) -> int:
        """How many cases to segment at once, as far as memory allows."""
        import torch

        from meduniseg_core.allowance import usable_cores
        from meduniseg_core.archive import items_at_once

        if cases < 2 or not self.work.can_share:
            return 1
        if self.at_once is not None:
            return min(self.at_once, cases)
        return items_at_once(min(usable_cores(), torch.get_num_threads()), cases)

    def _side_by_side(self, cases: Sequence[Case], total: int, count: int) -> None:
        from meduniseg_core.archive import Lanes, run_in_lanes

        work, events = self.work, self.session.events
        joined = SideBySideEvents(total, self.began, lambda: self.done + len(self.failed), events)

        def end(case: Case, finished: object, error: Exception | None) -> None:
            joined.end(case.name)
            self._end(case, finished, error, raised=False)

        def again(case: Case) -> None:
            joined.forget(case.name)
            text = f"Memory ran out beside other cases: {case.name} is done again, and all others one by one."
            events(Message("warning", text))

        lanes = Lanes(
            read=work.read,
            work=lambda ready, alone, hear: work.work(ready, hear, fall_back=alone),
            write=work.write,
            begin=lambda case: joined.begin(case.name),
            heard=lambda case, event: joined.heard(case.name, event),
            again=again,
            end=end,
            need=work.need,
            ahead=work.ahead,
            free=work.free,
        )
        self._most = max(self._most, run_in_lanes(cases, lanes, count))

    def _end(self, case: Case, finished: object, error: Exception | None, *, raised: bool) -> None:
        """Take a case's outcome: tell it, and write its line. CancelledError is raised; where ``raised``, any other
        error will be."""
        if isinstance(error, CancelledError):
            raise error
        if error is not None:
            self._note_failure(case, error)
            if raised:
                self._alone = error
                self.failed.note(case.name, error)
                return
            self.failed.add(case.name, error)
            if isinstance(error, UnwritableError):
                raise _StopError  # the others could not be written, either
            return
        assert isinstance(finished, FinishedCase)
        if self.manifest is not None:
            try:
                self.manifest.append(
                    case.name, "done", source=finished.source, tasks=finished.records, host=finished.host
                )
            except UnwritableError as unwritable:
                if raised:
                    raise
                self.failed.add(case.name, unwritable)
                raise _StopError from unwritable
        for event in (*finished.said, *finished.done):
            self.session.events(event)
        self.results += finished.results
        self.kept += [(case.name, task, finding) for task, finding in finished.kept]
        self.done += 1

    def _note_failure(self, case: Case, error: Exception) -> None:
        """Write the line of a case that failed; the disk may be full, which is said of the case itself."""
        if self.manifest is None:
            return
        from meduniseg_core.archive import input_record

        sentence, code = explain_error(error)
        with suppress(UnwritableError):
            self.manifest.append(case.name, "failed", source=input_record(case.paths), error=sentence, exit_code=code)

    def finish(self, case_count: int) -> int:
        """Show what was done and return the exit code. Where the only case failed, its error is raised, which says it
        once; a program gets its object before."""
        teams = self.work.teams
        models = [team.predictor.model for team in teams]
        payload = {
            "model": models[0].info.name,
            "model_sha256": models[0].sha256,
            "models": [
                {"name": model.info.name, "sha256": model.sha256, "tasks": team.tasks}
                for team in teams
                for model in team.predictor.models
            ],
            "packs": {
                task: {"name": pack.info.name, "sha256": pack.sha256}
                for team in teams
                for task, pack in team.predictor.packs.items()
            },
            "intended_use": models[0].info.intended_use,
            "cases_at_once": self._most,
            "seconds": round(time.perf_counter() - self.began, 3),
            "results": [result.report for result in self.results],
            "failed": self.failed.as_json(),
            "left_out": [finding.as_json() for finding in self.left_out],
            "warnings": [
                *(warning for result in self.results for warning in result.warnings),
                *({"case": case, "task": task, **finding.as_json()} for case, task, finding in self.kept),
            ],
        }
        if self._alone is not None:
            if self.session.as_json:
                self.session.result(payload)
            raise self._alone
        if self.results:
            self.session.show(results_table(self.results))
            for verdict in verdicts(self.results):
                self.session.show(verdict)
            for model in models:
                self.session.show(f"{model.info.name}: {model.info.intended_use}")
        self.session.result(
            payload, *dict.fromkeys(str(result.path) for result in self.results)
        )  # tasks may share a file
        return self.failed.exit_code(case_count, self.not_begun)
