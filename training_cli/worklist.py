"""``meduniseg worklist``: the cases of a folder with their state, and which to annotate next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from meduniseg_core.errors import CancelledError, UnwritableError, UsageError
from meduniseg_core.events import CaseDone, Progress
from training_cli.explaining import explain_error, show_traceback
from training_cli.options import Device, Json, ModelName, Precision, ProgressOption, a_folder
from training_cli.output import print_error, print_table
from training_cli.session import Session, work

if TYPE_CHECKING:
    from meduniseg_core.inference import Predictor
    from meduniseg_core.weights.offer import Offer
    from meduniseg_core.worklist import WorkItem, Worklist


def worklist(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of cases, or a data set.")],
    task: Annotated[
        str | None, typer.Option("--task", "-t", metavar="TASK", help="The task. Default: the ledger's or data set's.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            callback=a_folder,
            metavar="OUT_DIR",
            help="Folder of the results. Default: FOLDER_TASK (second reading: FOLDER_TASK_READER) beside FOLDER.",
        ),
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option("--ledger", metavar="LEDGER", help="Where corrections go. Default: your own of the task."),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(
            "--reader",
            metavar="NAME",
            help="Second reading: only what this reader accepted counts; others' corrections are not shown.",
        ),
    ] = None,
    order: Annotated[
        Literal["name", "worth", "quality", "minutes", "state"],
        typer.Option("--sort", help="worth: most worth annotating first; quality: lowest predicted Dice first."),
    ] = "name",
    predict: Annotated[
        list[str] | None, typer.Option("--predict", metavar="CASE", help="Segment this case first. Repeatable.")
    ] = None,
    predict_next: Annotated[
        int, typer.Option("--predict-next", metavar="N", min=0, help="Segment the next N cases that are new.")
    ] = 0,
    skip: Annotated[
        list[str] | None, typer.Option("--skip", metavar="CASE", help="Leave this case out. Repeatable.")
    ] = None,
    take_up: Annotated[
        list[str] | None, typer.Option("--take-up", metavar="CASE", help="Take up a skipped case again. Repeatable.")
    ] = None,
    model: ModelName = None,
    device: Device = "auto",
    precision: Precision = "auto",
    low_priority: Annotated[
        bool, typer.Option("--low-priority", help="Leave the processors to other programs while they need them.")
    ] = False,
    progress: ProgressOption = "auto",
    as_json: Json = False,
) -> int:
    """List the cases of a folder: new, predicted, corrected, accepted or skipped, and the expected editing time.

    The state is read from the results, the ledger and OUT_DIR/worklist.json, which lists the skipped cases.
    """
    with work(progress, as_json=as_json) as session:
        from meduniseg_core.processes import lower_own_priority
        from meduniseg_core.worklist import Worklist, default_results, ordered

        offer, task = _offer(model, session), _task(folder, ledger, task)
        listed = Worklist(
            folder,
            output if output is not None else default_results(folder, task, reader),
            task,
            ledger=ledger if ledger is not None else _own_ledger(task),
            channels=_channels(offer, task),
            reader=reader,
        )
        for names, skipped in ((skip, True), (take_up, False)):
            for name in names or ():
                listed.skip(name, skipped)
        wanted = list(dict.fromkeys(predict or ()))
        if predict_next:
            new = [item.name for item in ordered(listed.items(session.cancel), order) if item.state == "new"]
            wanted += [name for name in new if name not in wanted][:predict_next]
        failed: dict[str, str] = {}
        code = 0
        if low_priority:
            lower_own_priority()
        if wanted:
            predictor = _predictor(offer, task, device, precision, model is None)
            failed, code = _predict(listed, wanted, predictor, session)
        items = ordered(listed.items(session.cancel), order)
        _answer(listed, items, failed, session)
        return code


def _offer(model: str | None, session: Session) -> Offer:
    from meduniseg_core.weights.offer import offer_in_use, offer_of

    return offer_of(model) if model is not None else offer_in_use(session.events)


def _task(folder: Path, ledger: Path | None, task: str | None) -> str:
    """The task that was asked for, else the ledger's, else the data set's."""
    from meduniseg_core.corrections import Ledger
    from meduniseg_core.preprocessing import RawDataset

    if task is not None:
        return task
    if ledger is not None and Ledger.is_at(ledger):
        return Ledger.open(ledger).task
    if (folder / "dataset.json").is_file():
        return RawDataset.open(folder).task
    raise UsageError(f"Neither a ledger nor {folder} names a task; give --task (see 'meduniseg tasks').")


def _own_ledger(task: str) -> Path:
    from meduniseg_core.paths import corrections_folder

    return corrections_folder() / task


def _channels(offer: Offer, task: str) -> int | None:
    """The number of files of a case; None if no model knows the task."""
    from meduniseg_core.preprocessing import files_per_case

    return files_per_case(offer.plan_of(task).channels) if task in offer.models else None


def _predictor(offer: Offer, task: str, device: str, precision: str, packs: bool) -> Predictor:
    from meduniseg_core.inference import Predictor
    from meduniseg_core.weights import load_model
    from training_cli.packs import packs_for

    offer.plan_of(task)  # refuses a task without a model
    loaded = load_model(offer.models[task])
    return Predictor(loaded, device=device, precision=precision, packs=packs_for(loaded, [task], None, not packs))


def _predict(listed: Worklist, names: list[str], predictor: Predictor, session: Session) -> tuple[dict[str, str], int]:
    """Segment cases; a failure is reported and the others go on. Returns the failures and the exit code."""
    failed: dict[str, str] = {}
    worst = 0
    for number, name in enumerate(names):
        session.events(Progress("cases", number, len(names), 0.0, name))
        try:
            path = listed.predict(name, predictor, events=session.events, cancel=session.cancel)
        except (CancelledError, UnwritableError):
            raise
        except Exception as error:  # whatever a reader or the network meets costs this one case
            show_traceback(error)
            failed[name], code = explain_error(error)
            worst = max(worst, code)
            print_error(f"{name}: {failed[name]}", code, as_json=session.json_events, more={"case": name})
            continue
        session.events(CaseDone(name, listed.task, str(path), 0.0))
    return failed, worst


def _answer(listed: Worklist, items: list[WorkItem], failed: dict[str, str], session: Session) -> None:
    rows = [_row(item) for item in items]
    content = {
        "folder": listed.folder,
        "results": listed.results,
        "task": listed.task,
        "ledger": listed.ledger,
        "cases": rows,
        "failed": [{"case": name, "error": sentence} for name, sentence in failed.items()],
    }
    if session.as_json:
        session.result(content)
        return
    columns = ("case", "state", "quality", "Dice", "min", "worth")
    cells = [
        (
            row["case"],
            row["fault"] or row["state"],
            row["light"] or "-",
            _number(row["dice"], 2),
            _number(None if row["seconds"] is None else row["seconds"] / 60, 1),
            _number(row["worth"], 3),
        )
        for row in rows
    ]
    left = sum(not item.is_done for item in items)
    print_table(columns, cells, right=columns[3:], title=f"{listed.task}: {len(items)} case(s), {left} to do")


def _row(item: WorkItem) -> dict[str, Any]:
    return {
        "case": item.name,
        "state": item.state,
        "files": list(item.case.paths),
        "labels": item.labels,
        "light": item.light,
        "dice": item.dice,
        "seconds": item.seconds,
        "uncertainty": item.uncertainty,
        "novelty": item.novelty,
        "worth": item.worth,
        "fault": None if item.case.fault is None else str(item.case.fault),
    }


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
