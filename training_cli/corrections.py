"""``meduniseg corrections``: manages ledgers of corrected cases, from which the next model learns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meduniseg_core.errors import UsageError
from training_cli import readers
from training_cli.commands import Commands
from training_cli.inputs import one_case
from training_cli.options import DrawnOn, Json, split_names
from training_cli.session import work

if TYPE_CHECKING:
    from meduniseg_core.corrections import Ledger, LedgerEntry
    from meduniseg_core.images import Image

app = Commands(help="Collect corrected cases in a ledger: a data set to learn from.")
app.command("agreement")(readers.agreement)
app.command("adjudicate")(readers.adjudicate)

LedgerFolder = Annotated[Path, typer.Argument(metavar="LEDGER", help="The ledger's folder.")]


@app.command()
def add(
    folder: LedgerFolder,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="The image: a file, a DICOM folder, or a file per channel.")
    ],
    labels: Annotated[Path, typer.Option("--labels", metavar="FILE", help="The corrected label map.")],
    task: Annotated[str | None, typer.Option("--task", metavar="TASK", help="Task of a new ledger.")] = None,
    modality: Annotated[str | None, typer.Option("--modality", metavar="M", help="Modality of a new ledger.")] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            metavar="A,B,...",
            help="Names of labels 1, 2, ...; for an existing ledger its own, then new ones. Default: the label file's.",
        ),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option("--channels", metavar="A,B,...", help="Channel names of a new ledger. Default: by the modality."),
    ] = None,
    predicted: Annotated[
        Path | None,
        typer.Option(
            "--predicted", metavar="FILE", help="The label map before the correction; the changes are recorded."
        ),
    ] = None,
    patient: Annotated[
        str | None,
        typer.Option(
            "--patient", metavar="KEY", help="The patient: all cases of one are for training, or all for validation."
        ),
    ] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0.0, help="Time spent on editing.")] = None,
    who: Annotated[
        str | None, typer.Option("--who", metavar="NAME", help="The annotator. Default: the user who is logged in.")
    ] = None,
    drawn_on: DrawnOn = None,
    as_json: Json = False,
) -> None:
    """Accept a corrected case into a ledger.

    If the image is in the ledger already, the new labels replace the old ones, which are kept in its history.
    A new ledger needs --task, --modality and --classes.
    """
    with work("none", as_json=as_json) as session:
        from meduniseg_core.corrections import model_beside, user_logged_in
        from meduniseg_core.corrections.patient_split import patient_key
        from meduniseg_core.images import read_image, read_labels
        from meduniseg_core.images.findings import merge
        from meduniseg_core.images.upright import meet
        from meduniseg_core.preprocessing import image_doubts

        patient_key(patient)  # refused before a ledger is created
        image = read_image(one_case(images, _channels(folder, split_names(channels))))
        corrected = meet(read_labels(labels, like=image), image, drawn_on)
        before = meet(read_labels(predicted, like=image), image, drawn_on) if predicted is not None else None
        named = split_names(classes) or _names_in(corrected)
        ledger = _ledger(folder, (image, corrected), task, modality, named, split_names(channels))
        taken = ledger.as_taken(image, corrected, split_names(classes))
        before = ledger.as_taken(image, before, split_names(classes)) if before is not None else None
        entry = ledger.accept(
            image,
            taken,
            patient=patient,
            predicted=before,
            model=model_beside(predicted) if predicted is not None else None,
            seconds=seconds,
            who=who if who is not None else user_logged_in(),
            classes=split_names(classes),
        )
        line = f"{entry.case}: {entry.subset}, patient {entry.patient}, changed: {_changes(entry)}"
        doubts = image_doubts(image, ledger.dataset.channels, ledger.dataset.modality)
        of_labels = (*taken.findings, *(before.findings if before is not None else ()))
        found = merge(image.findings, doubts, of_labels, entry.findings)
        warnings = [finding.as_json() for finding in found]
        content = {"ledger": folder, "entry": entry.model_dump(mode="json"), "warnings": warnings}
        session.result(content, line, *(finding["text"] for finding in warnings))


@app.command("list")
def list_cases(folder: LedgerFolder, as_json: Json = False) -> None:
    """List the accepted cases, each with its latest acceptance."""
    with work("none", as_json=as_json) as session:
        from meduniseg_core.corrections import Ledger
        from training_cli.output import print_table

        ledger = Ledger.open(folder)
        entries = ledger.entries()
        latest = {entry.case: entry for entry in entries}
        if as_json:
            rows = [
                {**entry.model_dump(mode="json"), "acceptances": sum(other.case == case for other in entries)}
                for case, entry in latest.items()
            ]
            session.result({"ledger": folder, "task": ledger.task, "classes": ledger.classes, "cases": rows})
            return
        columns = ("case", "patient", "subset", "changes", "when")
        print_table(
            columns,
            [
                (entry.case, entry.patient, entry.subset, _changes(entry), f"{entry.when:%Y-%m-%d %H:%M} UTC")
                for entry in latest.values()
            ],
            title=f"{ledger.task}: {len(latest)} case(s), {len(entries)} acceptance(s)",
        )


def _ledger(
    folder: Path,
    first: tuple[Image, Image],
    task: str | None,
    modality: str | None,
    classes: list[str] | None,
    channels: list[str] | None,
) -> Ledger:
    """The ledger in ``folder``, created if there is none and ``first`` (image and labels) can be its first case."""
    from meduniseg_core.catalog import find_modality
    from meduniseg_core.corrections import Ledger, channels_for, ending_for

    kind = find_modality(modality).name if modality is not None else None
    if (folder / "ledger.jsonl").is_file():
        ledger = Ledger.open(folder)
    elif task is None or kind is None or classes is None:
        raise UsageError(f"There is no ledger at {folder}; give --task, --modality and --classes to create one.")
    else:
        ledger = Ledger.create(
            folder,
            task=task,
            modality=kind,
            classes=classes,
            channels=channels or channels_for(first[0], kind),
            file_ending=ending_for(first[0]),
            exist_ok=True,  # created by another process just now
            begins_with=first,
        )
    if task not in (None, ledger.task) or kind not in (None, ledger.dataset.modality):
        raise UsageError(
            f"{folder} is the ledger of task {ledger.task} ({ledger.dataset.modality}); give another folder."
        )
    return ledger


def _channels(folder: Path, named: list[str] | None) -> list[str] | None:
    """The channels of the ledger in ``folder``, or those named for a new one; None if none are named."""
    from meduniseg_core.corrections import Ledger

    return list(Ledger.open(folder).dataset.channels) if (folder / "ledger.jsonl").is_file() else named


def _names_in(labels: Image) -> list[str] | None:
    """The classes that a label file names itself, in the order of their numbers; None where it names none."""
    named = labels.meta.get("class_names") or {}
    return [str(named[number]) for number in sorted(named)] or None


def _changes(entry: LedgerEntry) -> str:
    """The numbers of voxels added and removed, over all classes."""
    if not entry.has_prediction:
        return "not known"
    added = sum(change.added or 0 for change in entry.classes)
    removed = sum(change.removed or 0 for change in entry.classes)
    return f"+{added:,} -{removed:,} voxels"
