"""The work on one case of ``segment``, in three stages that can overlap with those of other cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meduniseg_core.errors import BadInputError, MedUniSegError
from meduniseg_core.events import CancelToken, CaseDone, Event, EventSink, Message
from training_cli.results import Result, result_of
from training_cli.targets import Targets

if TYPE_CHECKING:
    from meduniseg_core.archive import InputRecord, TaskRecord
    from meduniseg_core.former_results import Standing
    from meduniseg_core.images import Case, Finding, Image
    from meduniseg_core.inference import Predictor, Segmentation
    from meduniseg_core.inference.ensemble import Ensemble
    from meduniseg_core.inference.prepared import PreparedImage
    from meduniseg_core.preprocessing import TaskPlan

_AHEAD = 8
"""An image is read ahead where that many times the largest one so far, in float32, is free."""


@dataclass(frozen=True)
class Team:
    """A model or an ensemble, ready to segment, and the tasks that are its own."""

    predictor: Predictor | Ensemble
    tasks: Sequence[str]


@dataclass(frozen=True)
class CaseOptions:
    """How cases are read, segmented and written. ``settings`` are the arguments of `Predictor.segment`.

    ``skip_unfit`` leaves out tasks that are for other kinds of images instead of failing.
    """

    settings: dict[str, Any]
    skip_unfit: bool = False
    series: str | None = None
    frame: int | None = None
    overwrite_edited: bool = False


@dataclass
class ReadyCase:
    """A case that was read: its image made ready for the first team. ``said`` is what was reported meanwhile."""

    case: Case
    image: Image
    tasks: list[str]
    prepared: PreparedImage | None
    kept: list[tuple[str, Finding]]
    said: list[Event]


@dataclass
class SegmentedCase:
    """A case whose results are to be written."""

    ready: ReadyCase
    found: dict[str, Segmentation]


@dataclass
class FinishedCase:
    """A case whose results are written: numbers and names, no voxels."""

    case: str
    results: list[Result]
    kept: list[tuple[str, Finding]]
    source: InputRecord
    records: list[TaskRecord]
    done: list[CaseDone]
    said: list[Event] = field(default_factory=list)
    host: str = ""


@dataclass
class CaseWork:
    """Reads, segments and writes cases. ``plans`` are the tasks' plans by name, ``model`` names the models.

    ``before`` is what was there when the run began, for each case and task.
    """

    teams: Sequence[Team]
    plans: Mapping[str, TaskPlan]
    model: str
    targets: Targets
    options: CaseOptions
    before: Mapping[tuple[str, str], Standing]
    cancel: CancelToken
    _largest: int = 0

    def read(self, case: Case) -> ReadyCase:
        """Read a case and preprocess it."""
        from meduniseg_core.images import read_image
        from meduniseg_core.inference import Predictor

        options, said = self.options, list[Event]()
        image = read_image(case.source, series=options.series, frame=options.frame).with_findings(*case.findings)
        self._largest = max(self._largest, 4 * image.array.size)
        self.targets.check_names(case.name, is_2d=image.is_2d)
        self.targets.check_image(image)
        kept = list[tuple[str, Any]]()
        fitting = self._fitting(image, case, said.append)
        tasks = [task for task in fitting if not self._keeps(case, task, image, kept, said.append)]
        prepared = None
        if tasks:
            team = next(team for team in self.teams if any(task in team.tasks for task in tasks))
            own = [task for task in tasks if task in team.tasks]
            if isinstance(team.predictor, Predictor):  # an ensemble prepares the image for each of its models in turn
                prepared = self._prepared(team.predictor, image, own, said.append)
        return ReadyCase(case, image, tasks, prepared, kept, said)

    def work(self, ready: ReadyCase, events: EventSink, *, fall_back: bool = True) -> SegmentedCase:
        """Run the network for all tasks of a case; ``fall_back`` is as for `Predictor.segment_prepared`."""
        from meduniseg_core.inference import Predictor

        for event in ready.said:
            events(event)
        self.cancel.raise_if_cancelled()
        found: dict[str, Segmentation] = {}
        for team in self.teams:
            own = [task for task in ready.tasks if task in team.tasks]
            if not own:
                continue
            prepared, ready.prepared = ready.prepared, None
            if isinstance(team.predictor, Predictor):
                if prepared is None:
                    prepared = self._prepared(team.predictor, ready.image, own, events)
                found |= team.predictor.segment_prepared(
                    prepared, fall_back=fall_back, events=events, cancel=self.cancel
                )
                del prepared
            else:
                settings = self.options.settings
                found |= team.predictor.segment(ready.image, own, **settings, events=events, cancel=self.cancel)
        self.cancel.raise_if_cancelled()
        return SegmentedCase(ready, found)

    def write(self, segmented: SegmentedCase) -> FinishedCase:
        """Write a case's files, once all its tasks are done."""
        from meduniseg_core.archive import input_record

        ready, image, name = segmented.ready, segmented.ready.image, segmented.ready.case.name
        source = input_record(ready.case.paths, image.sha256)
        finished = FinishedCase(
            name, [], ready.kept, source, [self._kept_record(name, task) for task, _ in ready.kept], []
        )
        for tasks in self.targets.files_of(list(segmented.found)):
            parts = [segmented.found[task] for task in tasks]
            path = self._save(name, parts, is_2d=image.is_2d)
            for segmentation in parts:
                task = segmentation.task
                finished.results.append(result_of(name, path, segmentation))
                warnings = tuple(finding.text for finding in segmentation.findings if finding.level == "warning")
                seconds, quality = round(segmentation.seconds, 3), segmentation.quality_record
                finished.done.append(CaseDone(name, task, str(path), seconds, warnings, quality))
                finished.records.append(self._written_record(segmentation, path, warnings, quality))
        return finished

    def _save(self, case: str, parts: Sequence[Segmentation], *, is_2d: bool) -> Path:
        """Write the results that go into one file."""
        from meduniseg_core.inference.together import save_together

        task = parts[0].task
        path, before = self.targets.labels(case, task, is_2d=is_2d), self.before[case, task]
        if len(parts) > 1:
            return save_together(parts, path, before=before, replace_edited=self.options.overwrite_edited)
        return parts[0].save(
            path, before=before, replace_edited=self.options.overwrite_edited, tables=self.targets.tables
        )

    def _prepared(self, predictor: Predictor, image: Image, tasks: list[str], events: EventSink) -> PreparedImage:
        from meduniseg_core.inference.execution import Request

        how = {**self.options.settings}
        modality = how.pop("modality", None)
        return predictor.prepare(image, tasks, modality, Request(**how), events=events)

    @property
    def can_share(self) -> bool:
        """Whether cases can be segmented side by side: on a CPU. An ensemble prepares an image for each of its models
        in turn, and its need is not estimated."""
        from meduniseg_core.inference import Predictor

        return all(isinstance(team.predictor, Predictor) and team.predictor.device.type == "cpu" for team in self.teams)

    def need(self, ready: ReadyCase) -> int:
        """Bytes of main memory that segmenting a case takes besides its image, at most."""
        from meduniseg_core.inference import Predictor

        settings, needs = self.options.settings, [0]
        kept = bool(settings.get("probabilities") or settings.get("instances"))
        image = ready.image if ready.prepared is None else ready.prepared.image
        for team in self.teams:
            own = [task for task in ready.tasks if task in team.tasks]
            if own and isinstance(team.predictor, Predictor):
                how = {name: settings[name] for name in ("tta", "overlap", "scale") if name in settings}
                with suppress(MedUniSegError):  # an image that does not suit this model: its work will say so
                    needs.append(team.predictor.estimate(image, own, probabilities=kept, **how).bytes)
        return max(needs)

    def ahead(self) -> int:
        """Bytes that reading another image may take; 0 as long as none was read."""
        return _AHEAD * self._largest

    def has_room(self) -> bool:
        """Whether there is memory for reading another image while one is segmented and one is written."""
        return self.free() >= self.ahead()

    @staticmethod
    def free() -> int:
        """Bytes of main memory that are free now."""
        from meduniseg_core.allowance import available_memory

        return available_memory()

    def _written_record(
        self, segmentation: Segmentation, path: Path, warnings: tuple[str, ...], quality: dict[str, Any]
    ) -> TaskRecord:
        from meduniseg_core.archive import TaskRecord
        from meduniseg_core.former_results import FILES, read_record
        from meduniseg_core.provenance import provenance_path

        record = provenance_path(path)
        written = [*read_record(record)[FILES], record.name]
        return TaskRecord(
            task=segmentation.task,
            status="written",
            files=self._digests(path.parent, written),
            model=segmentation.model,
            model_sha256=segmentation.model_sha256,
            pack_sha256=segmentation.pack_sha256,
            seconds=round(segmentation.seconds, 3),
            warnings=warnings,
            quality=quality,
        )

    def _kept_record(self, case: str, task: str) -> TaskRecord:
        from meduniseg_core.archive import TaskRecord

        before = self.before[case, task]
        there = [name for name, found in before.signatures.items() if found is not None]
        return TaskRecord(task=task, status="kept", files=self._digests(before.record.parent, there), seconds=0.0)

    def _digests(self, folder: Path, names: Sequence[str]) -> dict[str, str]:
        from meduniseg_core.files import digest_of

        return {(folder / name).relative_to(self.targets.output).as_posix(): digest_of(folder / name) for name in names}

    def _keeps(
        self, case: Case, task: str, image: Image, kept: list[tuple[str, Finding]], say: Callable[[Event], None]
    ) -> bool:
        """Whether the case's former result was corrected by hand: nobody wants to lose that. BadInputError where
        another image's result is there, or another program's of just now."""
        from meduniseg_core.former_results import refuse_other, written_meanwhile
        from meduniseg_core.images import Finding
        from meduniseg_core.provenance import RESULT, image_entries

        before, now = self.before[case.name, task], self.targets.standing(case.name, task)
        refuse_other(now, image_entries(image), RESULT)
        if not now.unchanged(before):
            raise BadInputError(written_meanwhile(before.record))
        if self.options.overwrite_edited or not before.edited():
            return False
        text = f"{case.name}: its result was edited by hand and is kept; --overwrite-edited would replace it."
        if not any(finding.text == text for _, finding in kept):  # once, where all tasks go into one file
            say(Message("warning", text))
        kept.append((task, Finding("result_kept", text)))
        return True

    def _fitting(self, image: Image, case: Case, say: Callable[[Event], None]) -> list[str]:
        """With ``--task all`` the tasks that this image can be segmented by, else all that were asked for."""
        if not self.options.skip_unfit:
            return list(self.targets.tasks)
        shaped = [task for task in self.targets.tasks if fits(image, self.plans[task])]
        if not shaped:
            raise BadInputError(
                f"{case.name} is a {'2D image' if image.is_2d else 'volume'} with {image.channels} channel(s), and "
                f"model {self.model} has no task for such images; use another model."
            )
        possible = self._possible(image)
        fitting = [task for task in shaped if possible is None or self.plans[task].modality in possible]
        if not fitting:
            raise BadInputError(
                f"{case.name} looks like {' or '.join(possible or ())}, and model {self.model} has no task for such "
                f"images; if it is of another modality, name that with --modality."
            )
        left_out = [task for task in self.targets.tasks if task not in fitting]
        if left_out:
            text = f"{case.name}: tasks for other kinds of images are left out ({', '.join(left_out)})."
            if len(fitting) < len(shaped):
                text += f" It looks like {' or '.join(possible or ())}; --modality names another."
            say(Message("info", text))
        return fitting

    def _possible(self, image: Image) -> tuple[str, ...] | None:
        """The modalities that an image can be of by what it shows; None where it does not tell, or the user did."""
        from meduniseg_core.images.modality_guess import guess_modality

        if self.options.settings.get("modality") is not None:
            return None
        guess = guess_modality(image)
        if guess.best is not None and image.is_2d:
            return (guess.best,)
        return guess.possible or None


def fits(image: Image, plan: TaskPlan) -> bool:
    """Whether a task is meant for such images: 2D (frames over time, too) or 3D, and the channels.

    Grey and colour are converted into each other.
    """
    flat = image.is_2d or bool(image.meta.get("frames_over_time"))
    if plan.dimension != (2 if flat else 3):
        return False
    wanted = len(plan.channels)
    return image.channels == wanted or (flat and {image.channels, wanted} == {1, 3})
