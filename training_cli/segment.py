"""``meduniseg segment``: images in, label files out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meduniseg_core.errors import BadInputError, CancelledError, OutOfMemoryError, UnwritableError, UsageError
from meduniseg_core.events import CaseDone, Message, Progress
from training_cli.explaining import explain, show_traceback
from training_cli.inputs import cases_for, check_arguments
from training_cli.options import Device, Json, ModelName, OutputFolder, Precision, ProgressOption
from training_cli.output import print_error
from training_cli.packs import packs_for
from training_cli.results import Result, result_of, results_table
from training_cli.session import Session, work
from training_cli.targets import Targets, chosen_ending, targets_of, with_name_faults

if TYPE_CHECKING:
    from meduniseg_core.images import Case, Finding, Image
    from meduniseg_core.inference import Predictor
    from meduniseg_core.outputs import Standing
    from meduniseg_core.preprocessing import TaskPlan
    from meduniseg_core.weights import ModelInfo

ALL_TASKS = "all"


def segment(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="Image files, folders of DICOM, or folders of cases; CASE_0000.ext, CASE_0001.ext, ... are channels.",
        ),
    ],
    output: OutputFolder,
    task: Annotated[
        str | None,
        typer.Option("--task", "-t", metavar="TASK[,TASK...]|all", help="What to segment; see 'meduniseg tasks'."),
    ] = None,
    modality: Annotated[
        str | None, typer.Option("--modality", metavar="M", help="What kind of image, where it is not the task's own.")
    ] = None,
    model: ModelName = "starter",
    pack: Annotated[
        list[str] | None,
        typer.Option("--pack", metavar="NAME|FILE", help="Use this pack and not those in use; may be repeated."),
    ] = None,
    no_packs: Annotated[
        bool, typer.Option("--no-packs", help="Use the model alone, whatever packs are in use.")
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    tta: Annotated[
        bool, typer.Option("--tta", help="Average over mirrored images: a little better, several times slower.")
    ] = False,
    overlap: Annotated[
        float, typer.Option("--overlap", min=0.0, max=0.9, help="How far windows overlap, as a fraction.")
    ] = 0.5,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write every class's probability too.")
    ] = False,
    ending: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="EXT", help="nii.gz, nii, nrrd, mha, png, tif, npy; default nii.gz, for 2D png."
        ),
    ] = None,
    series: Annotated[
        str | None,
        typer.Option(
            "--series", metavar="S", help="Which of a DICOM folder's series: its UID, number, description, or #1, #2."
        ),
    ] = None,
    overwrite_edited: Annotated[
        bool, typer.Option("--overwrite-edited", help="Replace results that were corrected by hand, too.")
    ] = False,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> int:
    """Segment images; the labels lie on each image's own grid, a JSON beside them says where they come from.

    The results are OUT_DIR/CASE.nii.gz (2D: OUT_DIR/CASE.png), with several tasks OUT_DIR/TASK/CASE.nii.gz. A former
    result is replaced, unless it was corrected since.
    """
    with work(progress, as_json=as_json) as session:
        check_arguments(images)
        wanted_ending = chosen_ending(ending)
        info = _model_info(model)
        modality = known_modality(info, modality)
        tasks = choose_tasks(info, task, modality)
        cases = cases_for(images, channels_of(info, tasks))
        targets = targets_of(cases, tasks, output, wanted_ending, probabilities)
        cases = with_name_faults(cases, targets)
        before = targets.survey([case for case in cases if case.fault is None])
        tell_adopted(session, info.name, tasks)

        from meduniseg_core.inference import Predictor
        from meduniseg_core.inference.grouping import chosen_plans
        from meduniseg_core.weights import load_model

        chosen_plans(info, tasks, modality)  # refuses a modality that is not the tasks', before anything is loaded
        loaded = load_model(model)
        predictor = Predictor(
            loaded, device=device, precision=precision, packs=packs_for(loaded, tasks, pack, no_packs)
        )
        settings = {"modality": modality, "tta": tta, "overlap": overlap, "probabilities": probabilities}
        skip_unfit = task == ALL_TASKS
        run = Run(session, predictor, info, targets, before, settings, skip_unfit, series, overwrite_edited)
        run.all(cases)
        return run.finish(len(cases))


def choose_tasks(info: ModelInfo, text: str | None, modality: str | None) -> list[str]:
    """The tasks that ``--task`` names, each once; UsageError says what there is."""
    names = [plan.task for plan in info.tasks]
    if text is None:
        if len(names) > 1:
            raise UsageError(f"Say what to segment with --task; model {info.name} has: {', '.join(names)} (or 'all').")
        return names
    if text == ALL_TASKS:
        fitting = [plan.task for plan in info.tasks if modality is None or plan.modality == modality]
        if not fitting:
            raise UsageError(f"Model {info.name} has no task of modality '{modality}'; name the task with --task.")
        return fitting
    chosen = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not chosen:
        raise UsageError(f"--task names no task; model {info.name} has: {', '.join(names)}.")
    for name in chosen:
        info.task_index(name)
    return chosen


def channels_of(info: ModelInfo, tasks: Sequence[str]) -> list[int]:
    """How many files a case has for each of the tasks."""
    from meduniseg_core.preprocessing import files_per_case

    return [files_per_case(info.plan_of(task).channels) for task in tasks]


def known_modality(info: ModelInfo, text: str | None) -> str | None:
    """The model's modality that ``--modality`` means: its own name, or another spelling of the catalogue ("MR")."""
    from meduniseg_core.catalog import find_modality

    if text is None or text in info.modalities:
        return text
    name = find_modality(text).name
    info.modality_index(name)
    return name


def tell_adopted(session: Session, model: str, tasks: Sequence[str]) -> None:
    """Say for which tasks another model than ``model`` was adopted: it learned from this user's corrections."""
    from meduniseg_core.adaptation.adoption import Adoptions

    try:
        adopted = Adoptions().all()
    except BadInputError as error:
        session.events(Message("warning", str(error)))
        return
    for task in tasks:
        name = adopted.get(task, model)
        if name != model:
            session.events(Message("info", f"{name} was adopted for {task}; '--model {name}' would use it."))


@dataclass(frozen=True)
class Failure:
    """Why a case was not segmented, and the exit code for it alone."""

    sentence: str
    code: int


@dataclass
class Run:
    """The cases one after the other: one that fails is named, the others go on."""

    session: Session
    predictor: Predictor
    info: ModelInfo
    targets: Targets
    before: Mapping[tuple[str, str], Standing]
    settings: dict[str, Any]
    skip_unfit: bool
    series: str | None = None
    overwrite_edited: bool = False
    results: list[Result] = field(default_factory=list)
    kept: list[tuple[str, str, Finding]] = field(default_factory=list)
    failed: dict[str, Failure] = field(default_factory=dict)
    not_begun: int = 0
    began: float = field(default_factory=time.perf_counter)

    def all(self, cases: Sequence[Case]) -> None:
        """Segment every case, after naming those that cannot be. The error of a single case goes on to the caller."""
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
                return  # so it would be with the others
            except Exception as error:  # whatever a reader or the network meets costs this one case
                if len(cases) == 1:
                    raise
                self._fail(case, error)

    def one(self, case: Case) -> None:
        """Segment one case; its files are written once all its tasks are done."""
        from meduniseg_core.images import read_image

        image = read_image(case.source, series=self.series)
        self.targets.check_names(case.name, is_2d=image.is_2d)
        tasks = [task for task in self._fitting(image, case) if not self._keeps(case, task)]
        if not tasks:
            return
        self.session.cancel.raise_if_cancelled()
        found = self.predictor.segment(
            image, tasks, **self.settings, events=self.session.events, cancel=self.session.cancel
        )
        self.session.cancel.raise_if_cancelled()
        for task, segmentation in found.items():
            path = segmentation.save(
                self.targets.labels(case.name, task, is_2d=image.is_2d),
                before=self.before[case.name, task],
                replace_edited=self.overwrite_edited,
            )
            self.results.append(result_of(case.name, path, segmentation))
            warnings = tuple(finding.text for finding in segmentation.findings if finding.level == "warning")
            self.session.events(CaseDone(case.name, task, str(path), round(segmentation.seconds, 3), warnings))

    def _keeps(self, case: Case, task: str) -> bool:
        """Whether the case's former result was corrected by hand: nobody wants to lose that."""
        from meduniseg_core.images import Finding
        from meduniseg_core.outputs import written_meanwhile

        before = self.before[case.name, task]
        if not self.targets.standing(case.name, task).unchanged(before):
            raise BadInputError(written_meanwhile(before.record))
        if self.overwrite_edited or not before.edited():
            return False
        text = f"{case.name}: its result was corrected by hand and is kept; --overwrite-edited would replace it."
        self.kept.append((case.name, task, Finding("result_kept", text)))
        self.session.events(Message("warning", text))
        return True

    def _fail(self, case: Case, error: Exception) -> None:
        show_traceback(error)
        sentence, code = explain(error)
        self.failed[case.name] = Failure(sentence, code)
        print_error(f"{case.name}: {sentence}", code, as_json=self.session.json_events)

    def finish(self, case_count: int) -> int:
        """Show what was done and return the exit code."""
        payload = {
            "model": self.predictor.model.info.name,
            "model_sha256": self.predictor.model.sha256,
            "packs": {
                task: {"name": pack.info.name, "sha256": pack.sha256} for task, pack in self.predictor.packs.items()
            },
            "intended_use": self.info.intended_use,
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
            self.session.show(f"{self.info.name}: {self.info.intended_use}")
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
        fitting = [task for task in self.targets.tasks if fits(image, self.info.plan_of(task))]
        if not fitting:
            raise BadInputError(
                f"{case.name} is a {'2D image' if image.is_2d else 'volume'} with {image.channels} channel(s), and "
                f"model {self.info.name} has no task for such images; use another model."
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


def _model_info(model: str) -> ModelInfo:
    from training_cli.models import resolve

    return resolve(model)[1]
