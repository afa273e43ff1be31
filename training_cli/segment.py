"""``meduniseg segment``: images in, label files out."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from meduniseg_core.events import Message
from training_cli.case_run import CaseRun
from training_cli.case_work import CaseOptions, CaseWork, Team
from training_cli.inputs import cases_for, check_arguments, named_cases, tell_left_out, without_results
from training_cli.manifests import header_of, left_to_do
from training_cli.offers import ALL_TASKS, choose_tasks, known_modality, tell_adopted, tell_in_use
from training_cli.options import Device, Json, ModelName, OutputFolder, Precision, ProgressOption
from training_cli.remote import remote_runner
from training_cli.session import Session, work
from training_cli.targets import chosen_ending, targets_of, with_name_faults
from training_cli.teams import TeamOrder, make_team

if TYPE_CHECKING:
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
    boxes: Annotated[
        bool,
        typer.Option(
            "--boxes",
            help="Also list each lesion (connected piece of a class) with box, score and size, in CASE_boxes.json.",
        ),
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
            help="File format: nii.gz, nii, nrrd, seg.nrrd, mha, png, bmp, tif, npy or ome-zarr; of DICOM images also "
            "dicom-seg, rtstruct or dicom-sr. Default: nii.gz, for 2D png.",
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
    layout: Annotated[
        Literal["plain", "bids"],
        typer.Option("--layout", help="bids: results as a BIDS derivative (sub-01/anat/..._dseg.nii.gz)."),
    ] = "plain",
    label_descriptions: Annotated[
        bool,
        typer.Option("--label-descriptions", help="Also write the classes' names and colours for ITK-SNAP."),
    ] = False,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest",
            metavar="RUN.jsonl",
            help="Write a line for each case that is done, and go on where this file ends; see 'runs verify'.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Only every N-th case, from the I-th on: one of N jobs."),
    ] = None,
    retries: Annotated[
        int, typer.Option("--retries", metavar="N", min=0, max=100, help="Try failed cases again, N times at most.")
    ] = 0,
    at_once: Annotated[
        int | None,
        typer.Option(
            "--at-once",
            metavar="N",
            min=1,
            max=64,
            help="Segment at most N cases at once on a CPU, as memory allows. Default: by its cores, 4 at most.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="ADDRESS",
            help="Segment on the workers of this dask scheduler (tcp://HOST:8786); needs the extra 'cluster'.",
        ),
    ] = None,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> int:
    """Segment images: write label maps on each image's own grid, and a JSON beside each that says how it was made.

    Results are OUT_DIR/CASE.nii.gz (2D: OUT_DIR/CASE.png), or OUT_DIR/TASK/CASE.nii.gz for several tasks.
    DICOM objects hold all tasks of a case: OUT_DIR/CASE.seg.dcm.
    An earlier result of the same image is replaced unless it was edited since; that of another image is kept.
    Without --model each task runs through the model or pack that is in use for it, else through starter.
    """
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.archive import Manifest, Shard
        from meduniseg_core.archive.bids import describe_derivative
        from meduniseg_core.archive.scheduler import check_scheduler_library
        from meduniseg_core.inference.execution import chosen_plans
        from meduniseg_core.weights.offer import offer_in_use, offer_of

        if scheduler is not None:
            check_scheduler_library()
        check_arguments(images)
        images = without_results(images, session.events)
        left_out = tell_left_out(images, session.events)
        wanted_ending = chosen_ending(ending)
        # a pack is for one model: the default one, where no other is named
        offer = offer_of(model or "starter") if model is not None or pack else offer_in_use(session.events)
        modality = known_modality(offer, modality)
        tasks = choose_tasks(offer, task, modality)
        cases = cases_for(images, channels_of(offer, tasks))
        tables = ("itk-snap",) if label_descriptions else ()
        bids = {name: offer.plan_of(name).modality for name in tasks} if layout == "bids" else None
        targets = targets_of(cases, tasks, output, wanted_ending, probabilities, tables, bids, boxes=boxes)
        all_cases = named_cases(with_name_faults(cases, targets), only or ())
        part = Shard(1, 1) if shard is None else Shard.parse(shard)
        cases = part.of(sorted(all_cases, key=lambda case: case.name)) if shard is not None else all_cases
        before = targets.survey([case for case in cases if case.fault is None])
        if bids is not None:
            describe_derivative(output)
        if model is None and not pack:
            tell_in_use(offer, tasks, session.events)
        elif not tell_adopted(offer, tasks, session.events) and not pack:
            no_packs = True
        _check_said(offer, tasks, scale, assume_orientation)  # before anything is loaded
        orders = [
            TeamOrder(name, tuple(own), device, precision, tuple(pack or ()), no_packs, tuple(ensemble or ()))
            for name, own in offer.by_model(tasks).items()
        ]
        for order in orders:  # refuses a modality that is not the tasks', before anything is loaded
            chosen_plans(offer.infos[order.model], order.tasks, modality)
        # with a scheduler the network runs elsewhere, and this machine may have no such device
        here = orders if scheduler is None else [replace(one, device="cpu", precision="fp32") for one in orders]
        teams = [make_team(order) for order in here]
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
            **({"instances": True} if boxes else {}),  # manifests of runs without boxes stay as they were
        }
        options = CaseOptions(settings, task == ALL_TASKS, series, frame, overwrite_edited)
        plans = {name: offer.plan_of(name) for name in tasks}
        case_work = CaseWork(teams, plans, offer.name, targets, options, before, session.cancel)
        with contextlib.ExitStack() as stack:
            written = None
            if manifest is not None:
                path = manifest if shard is None else part.manifest(manifest)
                said = {"precision": precision, "format": wanted_ending}
                header = header_of(case_work, all_cases, part, path, said, left_out)
                written = stack.enter_context(Manifest.opened(path, header))
                cases = left_to_do(written, cases, session.events, redo_edited=overwrite_edited)
            elsewhere = None if scheduler is None else remote_runner(scheduler, case_work, orders, session.events)
            run = CaseRun(session, case_work, written, elsewhere, retries, at_once, left_out)
            run.all(cases)
            return run.finish(len(cases))


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
