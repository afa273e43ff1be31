"""``meduniseg segment``: images in, label files out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meduniseg_core.errors import BadInputError, CancelledError, OutOfMemoryError, UnwritableError
from meduniseg_core.events import CaseDone, Message, Progress
from training_cli.explaining import choices_in, explain_error, show_traceback
from training_cli.inputs import cases_for, check_arguments, named_cases, without_results
from training_cli.offers import (
    ALL_TASKS,
    choose_tasks,
    known_modality,
    tell_adopted,
    tell_in_use,
)
from training_cli.options import Device, Json, ModelName, OutputFolder, Precision, ProgressOption
from training_cli.output import print_error
from training_cli.packs import packs_for
from training_cli.results import Result, result_of, results_table, verdicts
from training_cli.session import Session, work
from training_cli.targets import Targets, chosen_ending, targets_of, with_name_faults

if TYPE_CHECKING:
    from meduniseg_core.images import Case, Finding, Image
    from meduniseg_core.inference import Predictor, Segmentation
    from meduniseg_core.inference.ensemble import Ensemble
    from meduniseg_core.outputs import Standing
    from meduniseg_core.preprocessing import TaskPlan
    from meduniseg_core.weights import ModelInfo
    from meduniseg_core.weights.offer import Offer


def segment(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="Image files, DICOM folders, or folders of cases (channels: CASE_0000.ext, CASE_0001.ext, ...).",
        ),
    ],
    output: OutputFolder,
    task: Annotated[
        str | None,
        typer.Option("--task", "-t", metavar="TASK[,TASK...]|all", help="What to segment; see 'meduniseg tasks'."),
    ] = None,
    modality: Annotated[
        str | None, typer.Option("--modality", metavar="M", help="Modality of the images. Default: the task's.")
    ] = None,
    model: ModelName = None,
    pack: Annotated[
        list[str] | None,
        typer.Option("--pack", metavar="NAME|FILE", help="Use this pack instead of those in use. Repeatable."),
    ] = None,
    ensemble: Annotated[
        list[str] | None,
        typer.Option(
            "--ensemble",
            metavar="NAME|FILE",
            help="Average the probabilities with those of this model, which has the same tasks. Repeatable.",
        ),
    ] = None,
    no_packs: Annotated[
        bool, typer.Option("--no-packs", help="Use the model alone, without the packs in use.")
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    tta: Annotated[
        bool, typer.Option("--tta", help="Average over mirrored images. A little better, several times slower.")
    ] = False,
    overlap: Annotated[
        float,
        typer.Option("--overlap", min=0.0, max=0.9, help="Overlap of neighbouring windows, as a fraction of a window."),
    ] = 0.5,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write the probability of each class.")
    ] = False,
    scale: Annotated[
        float,
        typer.Option(
            "--scale",
            metavar="X",
            help="For images without a voxel size: how many times more than the training images they show per side.",
        ),
    ] = 1.0,
    assume_orientation: Annotated[
        str | None,
        typer.Option(
            "--assume-orientation",
            metavar="RAS",
            help="Orientation of volumes whose files state none: three letters, R or L, A or P, S or I.",
        ),
    ] = None,
    review_below: Annotated[
        float,
        typer.Option(
            "--review-below",
            metavar="DICE",
            min=0.0,
            max=1.0,
            help="Of calibrated models: results of a lower predicted Dice are marked for review.",
        ),
    ] = 0.5,
    ending: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="EXT",
            help="File format: nii.gz, nii, nrrd, seg.nrrd, mha, png, tif or npy; of DICOM images also dicom-seg, "
            "rtstruct or dicom-sr. Default: nii.gz, for 2D png.",
        ),
    ] = None,
    series: Annotated[
        str | None,
        typer.Option(
            "--series",
            metavar="S",
            help="Which series of a DICOM folder to take: its UID, number or description, or #1, #2.",
        ),
    ] = None,
    frame: Annotated[
        int | None,
        typer.Option(
            "--frame",
            min=1,
            metavar="N",
            help="Which of several frames to take, from 1: a time point, a cardiac phase, an echo, a cine frame.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--case", metavar="CASE", help="Only this case of the folders. Repeatable."),
    ] = None,
    overwrite_edited: Annotated[
        bool, typer.Option("--overwrite-edited", help="Also replace results that were edited by hand.")
    ] = False,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> int:
    """Segment images: write label maps on each image's own grid, and a JSON beside each that says how it was made.

    Results are OUT_DIR/CASE.nii.gz (2D: OUT_DIR/CASE.png), or OUT_DIR/TASK/CASE.nii.gz for several tasks.
    An earlier result of the same image is replaced unless it was edited since; that of another image is kept.
    Without --model each task runs through the model or pack that is in use for it, else through starter.
    """
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.weights.offer import offer_in_use, offer_of

        check_arguments(images)
        images = without_results(images, session.events)
        wanted_ending = chosen_ending(ending)
        # a pack is for one model: the default one, where no other is named
        offer = offer_of(model or "starter") if model is not None or pack else offer_in_use(session.events)
        modality = known_modality(offer, modality)
        tasks = choose_tasks(offer, task, modality)
        cases = cases_for(images, channels_of(offer, tasks))
        targets = targets_of(cases, tasks, output, wanted_ending, probabilities)
        cases = named_cases(with_name_faults(cases, targets), only or ())
        before = targets.survey([case for case in cases if case.fault is None])
        if model is None and not pack:
            tell_in_use(offer, tasks, session.events)
        elif not tell_adopted(offer, tasks, session.events) and not pack:
            no_packs = True
        _check_said(offer, tasks, scale, assume_orientation)  # before anything is loaded
        teams = [
            _team(offer.infos[name], own, name, modality, device, precision, pack, no_packs, ensemble or ())
            for name, own in offer.by_model(tasks).items()
        ]
        if not pack:
            tell_packs(teams, session)
        settings = {
            "modality": modality,
            "tta": tta,
            "overlap": overlap,
            "probabilities": probabilities,
            "scale": scale,
            "orientation": assume_orientation,
            "review_below": review_below,
        }
        skip_unfit = task == ALL_TASKS
        run = CaseSegmenter(
            session, teams, offer, targets, before, settings, skip_unfit, series, frame, overwrite_edited
        )
        run.all(cases)
        return run.finish(len(cases))


@dataclass(frozen=True)
class Team:
    """A model or an ensemble, ready to segment, and the tasks that are its own."""

    predictor: Predictor | Ensemble
    tasks: list[str]


def _team(
    info: ModelInfo,
    tasks: list[str],
    model: str,
    modality: str | None,
    device: str,
    precision: str,
    pack: list[str] | None,
    no_packs: bool,
    ensemble: Sequence[str],
) -> Team:
    from meduniseg_core.inference import Predictor
    from meduniseg_core.inference.ensemble import Ensemble
    from meduniseg_core.inference.execution import chosen_plans
    from meduniseg_core.weights import load_model

    chosen_plans(info, tasks, modality)  # refuses a modality that is not the tasks', before anything is loaded
    loaded = load_model(model)
    packs = packs_for(loaded, tasks, pack, no_packs)
    predictor = Predictor(loaded, device=device, precision=precision, packs=packs)
    if not ensemble:
        return Team(predictor, tasks)
    others = [Predictor(load_model(name), device=device, precision=precision) for name in ensemble]
    joined = Ensemble([predictor, *others])
    joined.check(tasks)
    return Team(joined, tasks)


def _check_said(offer: Offer, tasks: Sequence[str], scale: float, orientation: str | None) -> None:
    """Refuse an impossible scale or orientation (UsageError)."""
    from meduniseg_core.checks.field_of_view import scaled_plan
    from meduniseg_core.images.oriented import towards

    for task in tasks:
        scaled_plan(offer.plan_of(task), scale)
    if orientation is not None:
        towards(orientation)


def tell_packs(teams: Sequence[Team], session: Session) -> None:
    """Say which tasks run through a pack that is in use."""
    for team in teams:
        for task, pack in team.predictor.packs.items():
            text = f"The pack {pack.info.name} is in use for {task}; '--no-packs' would leave it out."
            session.events(Message("info", text))


def channels_of(offer: Offer, tasks: Sequence[str]) -> list[int]:
    """How many files a case has for each of the tasks."""
    from meduniseg_core.preprocessing import files_per_case

    return [files_per_case(offer.plan_of(task).channels) for task in tasks]


@dataclass(frozen=True)
class Failure:
    """Why a case was not segmented, and the exit code for it alone."""

    sentence: str
    code: int


@dataclass
class CaseSegmenter:
    """Segments the cases one after the other; a case that fails is reported and the others go on."""

    session: Session
    teams: Sequence[Team]
    offer: Offer
    targets: Targets
    before: Mapping[tuple[str, str], Standing]
    settings: dict[str, Any]
    skip_unfit: bool
    series: str | None = None
    frame: int | None = None
    overwrite_edited: bool = False
    results: list[Result] = field(default_factory=list)
    kept: list[tuple[str, str, Finding]] = field(default_factory=list)
    failed: dict[str, Failure] = field(default_factory=dict)
    not_begun: int = 0
    began: float = field(default_factory=time.perf_counter)

    def all(self, cases: Sequence[Case]) -> None:
        """Segment every case, after reporting those that cannot be. The error of a single case is raised."""
        faulty = [case for case in cases if case.fault is not None]
        for case in faulty:
            assert case.fault is not None
            if len(cases) == 1:
                raise case.fault
            self._fail(case, case.fault)
        sound = [case for case in cases if case.fault is None]
        for number, case in enumerate(sound, start=len(faulty)):
            if len(cases) > 1:
                elapsed = time.perf_counter() - self.began
                self.session.events(Progress("cases", number, len(cases), elapsed, case.name))
            try:
                self.one(case)
            except CancelledError as error:
                done = number - len(self.failed)
                there = (
                    f"{done} of {len(cases)} cases are done, and their results whole" if done else "nothing was written"
                )
                raise CancelledError(f"Interrupted; {there}.") from error
            except UnwritableError as error:
                if len(cases) == 1:
                    raise
                self._fail(case, error)
                self.not_begun = len(cases) - number - 1
                return  # the others could not be written, either
            except Exception as error:  # whatever a reader or the network meets costs this one case
                if len(cases) == 1:
                    raise
                self._fail(case, error)

    def one(self, case: Case) -> None:
        """Segment one case; its files are written once all its tasks are done."""
        from meduniseg_core.images import read_image

        image = read_image(case.source, series=self.series, frame=self.frame).with_findings(*case.findings)
        self.targets.check_names(case.name, is_2d=image.is_2d)
        self.targets.check_image(image)
        tasks = [task for task in self._fitting(image, case) if not self._keeps(case, task, image)]
        if not tasks:
            return
        self.session.cancel.raise_if_cancelled()
        found: dict[str, Segmentation] = {}
        for team in self.teams:
            own = [task for task in tasks if task in team.tasks]
            if own:
                events, cancel = self.session.events, self.session.cancel
                found |= team.predictor.segment(image, own, **self.settings, events=events, cancel=cancel)
        self.session.cancel.raise_if_cancelled()
        from meduniseg_core.inference.quality.assessment import quality_record

        for task, segmentation in found.items():
            path = segmentation.save(
                self.targets.labels(case.name, task, is_2d=image.is_2d),
                before=self.before[case.name, task],
                replace_edited=self.overwrite_edited,
            )
            self.results.append(result_of(case.name, path, segmentation))
            warnings = tuple(finding.text for finding in segmentation.findings if finding.level == "warning")
            quality = quality_record(segmentation.quality)
            self.session.events(CaseDone(case.name, task, str(path), round(segmentation.seconds, 3), warnings, quality))

    def _keeps(self, case: Case, task: str, image: Image) -> bool:
        """Whether the case's former result was corrected by hand: nobody wants to lose that. BadInputError where
        another image's result is there, or another program's of just now."""
        from meduniseg_core.images import Finding
        from meduniseg_core.outputs import refuse_other, written_meanwhile
        from meduniseg_core.provenance import RESULT, image_entries

        before, now = self.before[case.name, task], self.targets.standing(case.name, task)
        refuse_other(now, image_entries(image), RESULT)
        if not now.unchanged(before):
            raise BadInputError(written_meanwhile(before.record))
        if self.overwrite_edited or not before.edited():
            return False
        text = f"{case.name}: its result was edited by hand and is kept; --overwrite-edited would replace it."
        self.kept.append((case.name, task, Finding("result_kept", text)))
        self.session.events(Message("warning", text))
        return True

    def _fail(self, case: Case, error: Exception) -> None:
        show_traceback(error)
        sentence, code = explain_error(error)
        self.failed[case.name] = Failure(sentence, code)
        more = {"case": case.name, **choices_in(error)}
        print_error(f"{case.name}: {sentence}", code, as_json=self.session.json_events, more=more)

    def finish(self, case_count: int) -> int:
        """Show what was done and return the exit code."""
        models = [team.predictor.model for team in self.teams]
        payload = {
            "model": models[0].info.name,
            "model_sha256": models[0].sha256,
            "models": [
                {"name": model.info.name, "sha256": model.sha256, "tasks": team.tasks}
                for team, model in zip(self.teams, models, strict=True)
            ],
            "packs": {
                task: {"name": pack.info.name, "sha256": pack.sha256}
                for team in self.teams
                for task, pack in team.predictor.packs.items()
            },
            "intended_use": models[0].info.intended_use,
            "seconds": round(time.perf_counter() - self.began, 3),
            "results": [result.report for result in self.results],
            "failed": [{"case": case, "error": failure.sentence} for case, failure in self.failed.items()],
            "warnings": [
                *(warning for result in self.results for warning in result.warnings),
                *({"case": case, "task": task, **finding.as_json()} for case, task, finding in self.kept),
            ],
        }
        if self.results:
            self.session.show(results_table(self.results))
            for verdict in verdicts(self.results):
                self.session.show(verdict)
            for model in models:
                self.session.show(f"{model.info.name}: {model.info.intended_use}")
        self.session.result(payload, *(str(result.path) for result in self.results))
        if not self.failed:
            return 0
        only_memory = all(failure.code == OutOfMemoryError.exit_code for failure in self.failed.values())
        code = OutOfMemoryError.exit_code if only_memory else BadInputError.exit_code
        sentence = f"{len(self.failed)} of {case_count} cases failed: {', '.join(self.failed)}"
        sentence += f"; {self.not_begun} were not begun." if self.not_begun else "."
        print_error(sentence, code, as_json=self.session.json_events)
        return code

    def _fitting(self, image: Image, case: Case) -> list[str]:
        """With ``--task all`` the tasks that this image can be segmented by, else all that were asked for."""
        if not self.skip_unfit:
            return list(self.targets.tasks)
        fitting = [task for task in self.targets.tasks if fits(image, self.offer.plan_of(task))]
        if not fitting:
            raise BadInputError(
                f"{case.name} is a {'2D image' if image.is_2d else 'volume'} with {image.channels} channel(s), and "
                f"model {self.offer.name} has no task for such images; use another model."
            )
        left_out = [task for task in self.targets.tasks if task not in fitting]
        if left_out:
            text = f"{case.name}: tasks for other kinds of images are left out ({', '.join(left_out)})."
            self.session.events(Message("info", text))
        return fitting


def fits(image: Image, plan: TaskPlan) -> bool:
    """Whether a task is meant for such images: 2D (frames over time, too) or 3D, and the channels.

    Grey and colour are converted into each other.
    """
    flat = image.is_2d or bool(image.meta.get("frames_over_time"))
    if plan.dimension != (2 if flat else 3):
        return False
    wanted = len(plan.channels)
    return image.channels == wanted or (flat and {image.channels, wanted} == {1, 3})
